use super::*;
use crate::rpc::authority::{self, Authority, Request};
use crate::rpc::identity::Role;

fn issued(tls: &Path, name: &str) -> PathBuf {
    let now = SystemTime::now();
    if !tls.join("ca.key").exists() {
        authority::init(tls, &"main".parse().unwrap(), now).unwrap();
    }
    let request = Request {
        name: name.parse().unwrap(),
        role: Role::Node,
        addresses: vec!["127.0.0.1".parse().unwrap()],
        names: Vec::new(),
        lifetime: Duration::from_secs(3600),
    };
    let out = tls.join(name);
    Authority::load(tls, now).unwrap().issue(&request, &out).unwrap();
    out
}

fn refusal(directory: &Path) -> String {
    Credentials::load(directory).unwrap_err().to_string()
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (issued(folder.path(), "lb1"), issued(folder.path(), "lb2"));
    let credentials = Credentials::load(&one).unwrap();
    assert!(!credentials.changed(&one).unwrap());

    let key = std::fs::read(one.join(KEY)).unwrap();
    std::fs::copy(other.join(KEY), one.join(KEY)).unwrap();
    assert!(credentials.changed(&one).unwrap());
    let said = refusal(&one);
    assert!(said.contains("lb1/node.crt cannot be used: "), "{said}");
    assert!(said.ends_with("both from the same pgha tls issue"), "{said}");

    std::fs::write(one.join(KEY), &key[..key.len() / 2]).unwrap();
    assert!(refusal(&one).contains("lb1/node.key holds no private key in PEM"));
    std::fs::set_permissions(one.join(KEY), std::fs::Permissions::from_mode(0o640)).unwrap();
    let said = refusal(&one);
    assert!(said.contains("node.key has mode 0640, open to group or others; run: chmod"), "{said}");
    std::fs::remove_file(one.join(KEY)).unwrap();
    assert!(refusal(&one).contains("node.key cannot be read"));
    assert!(credentials.changed(&one).is_err());

    std::fs::write(other.join(CA_CERTIFICATE), "").unwrap();
    assert!(refusal(&other).contains("lb2/ca.crt holds no certificate in PEM (there is none)"));
}

#[test]
fn they_end_with_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = Credentials::load(&issued(folder.path(), "lb1")).unwrap();
    assert_eq!(credentials.until(), credentials.holder().until);
    assert!(credentials.authority.until > credentials.until());
}
