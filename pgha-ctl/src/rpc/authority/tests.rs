use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::rpc::credentials::Credentials;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn cluster() -> NodeName {
    "main".parse().unwrap()
}

fn node(name: &str) -> Request {
    Request {
        name: name.parse().unwrap(),
        role: Role::Node,
        addresses: vec!["10.0.0.21".parse().unwrap(), "fd00::21".parse().unwrap()],
        names: vec!["lb1.example".to_owned()],
        lifetime: 365 * DAY,
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn contents(files: &[PathBuf]) -> Vec<Vec<u8>> {
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn an_authority_is_made_once_and_its_key_is_its_owners() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, now) = (folder.path().join("a/b"), SystemTime::now());
    let made = init(&tls, &cluster(), now).unwrap();
    assert_eq!(made.files, [tls.join("ca.crt"), tls.join("ca.key")]);
    assert_eq!((mode(&made.files[0]), mode(&made.files[1])), (0o644, 0o600));
    let before = contents(&made.files);
    for missing in &made.files {
        let kept = std::fs::read(missing).unwrap();
        std::fs::remove_file(missing).unwrap();
        assert!(matches!(init(&tls, &cluster(), now), Err(AuthorityError::Exists { .. })));
        std::fs::write(missing, kept).unwrap();
    }
    assert_eq!(before, contents(&made.files));
}

#[test]
fn a_certificate_says_what_was_asked_and_outlives_no_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, now) = (folder.path(), SystemTime::now());
    init(tls, &cluster(), now).unwrap();
    let authority = Authority::load(tls, now).unwrap();
    let out = tls.join("lb1");
    let made = authority.issue(&node("lb1"), &out).unwrap();
    assert_eq!(made.files, ["ca.crt", "node.crt", "node.key"].map(|name| out.join(name)));
    assert_eq!(mode(&made.files[2]), 0o600);
    let holder = Credentials::load(&out).unwrap().holder().clone();
    assert_eq!(holder, made.holder);
    let Request { addresses, names, .. } = node("lb1");
    assert_eq!(
        (&*holder.name, holder.role, &holder.addresses, &holder.names),
        ("lb1", Some(Role::Node), &addresses, &names)
    );
    assert!(holder.from < now && holder.until <= now + 365 * DAY);
    assert!(holder.until > now + 364 * DAY);

    let longest = Request { lifetime: 9_000 * DAY, ..node("lb2") };
    let longest = authority.issue(&longest, &tls.join("lb2")).unwrap().holder;
    assert_eq!(longest.until, authority.holder.until);
    let late = now + AUTHORITY_LIFETIME + DAY;
    assert!(matches!(Authority::load(tls, late), Err(AuthorityError::Expired { .. })));
}

#[test]
fn nothing_is_overwritten_and_nobody_nameless_made() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, now) = (folder.path(), SystemTime::now());
    init(tls, &cluster(), now).unwrap();
    let authority = Authority::load(tls, now).unwrap();
    let out = tls.join("lb1");
    authority.issue(&node("lb1"), &out).unwrap();
    let again = authority.issue(&node("lb1"), &out);
    assert!(matches!(again, Err(AuthorityError::Exists { .. })), "{again:?}");

    // Beside another cluster's certificates.
    let (other, elsewhere) = (tls.join("other"), tls.join("elsewhere"));
    init(&other, &cluster(), now).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::copy(other.join("ca.crt"), elsewhere.join("ca.crt")).unwrap();
    let mixed = authority.issue(&node("lb1"), &elsewhere);
    assert!(matches!(mixed, Err(AuthorityError::OtherAuthority { .. })), "{mixed:?}");

    let nowhere = Request { addresses: Vec::new(), names: Vec::new(), ..node("lb3") };
    let nowhere = authority.issue(&nowhere, &tls.join("lb3"));
    assert!(matches!(nowhere, Err(AuthorityError::Unreachable { .. })), "{nowhere:?}");
    for name in ["*.example", "lb1:7432", "", "a b"] {
        let wrong = Request { names: vec![name.to_owned()], ..node("lb3") };
        let wrong = authority.issue(&wrong, &tls.join("lb3"));
        assert!(matches!(wrong, Err(AuthorityError::DnsName(_))), "{name:?}: {wrong:?}");
    }
    assert!(!tls.join("lb3").exists());
}

#[test]
fn a_renewed_certificate_differs_in_its_end_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, now) = (folder.path(), SystemTime::now());
    init(tls, &cluster(), now).unwrap();
    let out = tls.join("lb1");
    let authority = Authority::load(tls, now).unwrap();
    let short = Request { lifetime: 2 * DAY, ..node("lb1") };
    let former = authority.issue(&short, &out).unwrap().holder;
    let key = std::fs::read(out.join("node.key")).unwrap();
    // The key need not be where the authority is.
    let beside = tls.join("copy");
    std::fs::create_dir(&beside).unwrap();
    std::fs::copy(out.join("node.crt"), beside.join("node.crt")).unwrap();
    let renewed = authority.renew(&beside, 365 * DAY).unwrap();
    assert_eq!(renewed.files, [beside.join("node.crt")]);
    assert!(renewed.holder.until > now + 364 * DAY);
    assert_eq!(Holder { until: former.until, from: former.from, ..renewed.holder.clone() }, former);
    std::fs::copy(beside.join("node.crt"), out.join("node.crt")).unwrap();
    assert_eq!(*Credentials::load(&out).unwrap().holder(), renewed.holder);
    assert_eq!(std::fs::read(out.join("node.key")).unwrap(), key);
}

#[test]
fn what_another_signed_is_not_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, now) = (folder.path(), SystemTime::now());
    init(tls, &cluster(), now).unwrap();
    let authority = Authority::load(tls, now).unwrap();
    // Another authority of the same name, and a certificate that vouches for itself in that name.
    let other = tls.join("other");
    init(&other, &cluster(), now).unwrap();
    let other = Authority::load(&other, now).unwrap();
    let mut boss = node("boss");
    boss.role = Role::Operator;
    other.issue(&boss, &tls.join("foreign")).unwrap();

    let mut own = params(now - CLOCK_SKEW, now + DAY);
    own.distinguished_name.push(DnType::OrganizationName, "main");
    own.distinguished_name.push(DnType::CommonName, "pgha certificate authority");
    own.distinguished_name.push(DnType::OrganizationalUnitName, Role::Operator.name());
    let own = own.self_signed(&KeyPair::generate().unwrap()).unwrap();
    std::fs::create_dir(tls.join("own")).unwrap();
    std::fs::write(tls.join("own/node.crt"), own.pem()).unwrap();

    for name in ["foreign", "own"] {
        let path = tls.join(name).join("node.crt");
        let before = std::fs::read(&path).unwrap();
        let refused = authority.renew(&tls.join(name), DAY).unwrap_err();
        assert!(matches!(refused, AuthorityError::Foreign { .. }), "{name}: {refused}");
        let said = refused.to_string();
        let both = [&path, &tls.join("ca.crt")].map(|path| path.display().to_string());
        assert!(both.iter().all(|path| said.contains(path)), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name}");
    }
}

#[test]
fn an_expired_certificate_can_be_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, now) = (folder.path(), SystemTime::now());
    init(tls, &cluster(), now).unwrap();
    let short = Request { lifetime: DAY, ..node("lb1") };
    Authority::load(tls, now).unwrap().issue(&short, &tls.join("lb1")).unwrap();
    let later = Authority::load(tls, now + 9 * DAY).unwrap();
    assert!(later.renew(&tls.join("lb1"), DAY).unwrap().holder.until > now + 9 * DAY);
}
