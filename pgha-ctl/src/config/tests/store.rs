//! Where records are kept, and the lease that is renewed there.

use std::time::Duration;

use pgha_machine::failover::timing::Profile;

use super::*;

const ETCD: &str = r#"
[store]
kind = "etcd"
endpoints = ["https://10.0.0.31:2379", "https://[fd00::32]:2379", "https://etcd3:2379/"]
ca = "/etc/pgha/tls/ca.crt"
"#;

fn etcd(text: &str) -> Etcd {
    let config = parse(&with(text)).unwrap_or_else(|errors| panic!("{errors}"));
    let StorePlace::Etcd(etcd) = config.store() else { panic!("{:?}", config.store()) };
    etcd.clone()
}

#[test]
fn an_etcd_is_where_the_endpoints_say() {
    let found = etcd(ETCD);
    let endpoints: Vec<_> = found.endpoints().iter().map(ToString::to_string).collect();
    assert_eq!(
        endpoints,
        ["https://10.0.0.31:2379", "https://[fd00::32]:2379", "https://etcd3:2379"]
    );
    assert_eq!(found.endpoints()[1].host(), "fd00::32");
    assert_eq!(found.seen(), Path::new("/var/lib/pgha/main.seen"));
    assert_eq!((found.tls().unwrap().shown.clone(), found.login().cloned()), (None, None));
    assert_eq!(found.timeout(), Duration::from_millis(500));

    let shown =
        format!("{ETCD}cert = \"/a\"\nkey = \"/b\"\nuser = \"pgha\"\npassword_file = \"/c\"\n");
    let found = etcd(&shown);
    assert_eq!(found.tls().unwrap().shown, Some(("/a".into(), "/b".into())));
    assert_eq!(found.login().unwrap().user, "pgha");
}

#[test]
fn a_store_is_refused_with_key_value_and_what_to_do() {
    let open = ETCD.replace("https", "http").replace("ca = \"/etc/pgha/tls/ca.crt\"\n", "");
    for (text, told) in [
        (
            "[store]\nendpoints = [\"https://a:1\"]\ntimeout = \"1s\"\n".to_owned(),
            &[
                "line 11: store.endpoints has no meaning with store.kind = \"local\"; remove it, or write kind = \"etcd\"",
                "line 12: store.timeout has no meaning with store.kind = \"local\"; remove it, or write kind = \"etcd\"",
            ][..],
        ),
        (
            "[store]\nkind = \"etc\"\n".to_owned(),
            &["line 11: store.kind = \"etc\" is none of local, etcd; did you mean \"etcd\"?"],
        ),
        (
            ETCD.replace("https://10.0.0.31:2379", "10.0.0.31"),
            &[
                "line 13: store.endpoints[0] = \"10.0.0.31\" is no member of etcd; write scheme, host and port, such as \"https://10.0.0.31:2379\"",
            ],
        ),
        (
            ETCD.replace("https://etcd3", "http://etcd3"),
            &[
                "line 13: store.endpoints[2] = \"http://etcd3:2379\" and https://10.0.0.31:2379 are one with TLS and one without; write https in all",
            ],
        ),
        (
            ETCD.replace("ca =", "cert ="),
            &[
                "store.key is missing: cert is given, and certificate and key belong together; add it, or remove cert",
            ],
        ),
        (
            ETCD.replace("ca = \"/etc/pgha/tls/ca.crt\"\n", ""),
            &[
                "store.ca is missing: members with https are verified by it; name the file with the certificate of their authority",
            ],
        ),
        (
            format!("{open}ca = \"/a\"\n"),
            &[
                "line 14: store.ca has no meaning with http in store.endpoints; write https there, or remove it here",
            ],
        ),
        (
            format!("{ETCD}user = \"pgha\"\n"),
            &[
                "store.password_file is missing: user is given, and user and password belong together; add it, or remove user",
            ],
        ),
        (
            format!("{ETCD}timeout = \"701ms\"\n"),
            &[
                "line 15: store.timeout = 701ms is too long: a renewal of the lease that gets no answer would leave no time for another; give at most 700ms, or a longer lease.duration",
            ],
        ),
    ] {
        assert_eq!(messages(&with(&text)), told, "{text}");
    }
    assert_eq!(etcd(&open).tls(), None);
}

#[test]
fn an_etcd_in_clear_is_remarked_unless_it_is_here() {
    let clear = |endpoint: &str| {
        let text = format!("[store]\nkind = \"etcd\"\nendpoints = [\"{endpoint}\"]\n");
        parse(&with(&text)).unwrap().remarks()
    };
    assert!(matches!(clear("http://10.0.0.31:2379")[..], [Remark::StoreInClear { .. }]));
    for here in ["http://127.0.0.1:2379", "http://[::1]:2379", "http://localhost:2379"] {
        assert_eq!(clear(here), [], "{here}");
    }
}

#[test]
fn the_password_of_etcd_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let text = with(&format!("{ETCD}user = \"pgha\"\npassword_file = \"{}\"\n", path.display()));
    let check = || parse(&text).unwrap().check_files(Path::new("pgha.toml"));
    assert_eq!(check().unwrap_err().errors()[0].key(), Some("store.password_file"));
    fs::write(&path, "secret\nand more\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(check().unwrap_err().to_string().contains("has mode 0644"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    check().unwrap();
    let config = parse(&text).unwrap();
    let StorePlace::Etcd(etcd) = config.store() else { panic!("no etcd") };
    assert_eq!(etcd.login().unwrap().password().unwrap().expose(), b"secret");
}

#[test]
fn a_profile_is_a_lease_and_its_store_keeps_up() {
    for profile in Profile::ALL {
        let text = format!("{ETCD}[lease]\nprofile = \"{}\"\n", profile.name());
        let config = parse(&with(&text)).unwrap();
        assert_eq!(
            config.lease(),
            pgha_machine::failover::timing::Wanted::from(profile).judge().unwrap()
        );
        let StorePlace::Etcd(etcd) = config.store() else { panic!("no etcd") };
        assert_eq!(etcd.timeout(), config.lease().duration() / 4);
    }
    assert_eq!(parse(MINIMAL).unwrap().lease().duration(), Duration::from_secs(2));
}

#[test]
fn a_lease_that_cannot_be_safe_is_refused() {
    assert_eq!(
        messages(&with(
            "[lease]\nduration = \"3s\"\nrenew_every = \"1s\"\ndrop_after = \"2900ms\"\n"
        )),
        [
            "line 13: lease.drop_after: 2.9s leaves too little of a lease of 3s to stop PostgreSQL in; give at most 2.4s"
        ]
    );
    assert_eq!(
        messages(&with("[lease]\nprofile = \"fast\"\nrenew_every = \"400ms\"\nwatchdog = true\n")),
        [
            "line 12: lease.renew_every: 400ms is too rarely: one lost renewal would stop PostgreSQL, which is dropped after 600ms; give at most 300ms",
            "line 13: lease.watchdog: a watchdog counts whole seconds, and a lease of 1s that is dropped after 600ms leaves it none; make the lease longer, drop it sooner, or do without",
        ]
    );
    // Nothing stands in the file that is too rarely: it follows.
    assert_eq!(
        messages(&with("[lease]\ndrop_after = \"900ms\"\n")),
        [
            "lease.renew_every: 500ms is too rarely: one lost renewal would stop PostgreSQL, which is dropped after 900ms; give at most 450ms"
        ]
    );
    assert_eq!(
        messages(&with("[lease]\nduration = \"100ms\"\n")),
        ["line 11: lease.duration = \"100ms\" is out of bounds; give 500ms to 1m"]
    );
}
