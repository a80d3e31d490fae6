//! Where PostgreSQL is, and how sessions with it are protected.

use std::net::SocketAddr;

use super::*;

#[test]
fn a_host_of_the_primary_may_have_a_port_of_its_own() {
    let hosts = r#""db1:5433", "db1", "10.0.0.12", "10.0.0.12:5433", "fd00::1", "[fd00::1]:5433", "[fd00::2]""#;
    let text = MINIMAL.replace("\"10.0.0.11\"]", &format!("{hosts}]\nport = 6432"))
        + "[[node]]\nname = \"db1\"\naddress = \"10.0.0.11\"\n";
    let wanted = [
        "10.0.0.11:5433",
        "10.0.0.11:6432",
        "10.0.0.12:6432",
        "10.0.0.12:5433",
        "[fd00::1]:6432",
        "[fd00::1]:5433",
        "[fd00::2]:6432",
    ];
    let wanted = wanted.map(|host| host.parse::<SocketAddr>().unwrap());
    assert_eq!(parse(&text).unwrap().primary().unwrap().hosts(), wanted);
}

#[test]
fn a_host_of_the_primary_with_a_wrong_port_is_refused() {
    for host in ["10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:", "db1:pg", "[fd00::1]x", "[fd00::1]:"]
    {
        let text = MINIMAL.replace("10.0.0.11", host);
        let [said] = &messages(&text)[..] else { panic!("{host}: {:?}", messages(&text)) };
        assert!(
            said.contains(&format!("line 6: primary.hosts[0] = {host:?} has no port")),
            "{said}"
        );
    }
    let twice = MINIMAL.replace("\"10.0.0.11\"", "\"10.0.0.11\", \"10.0.0.11:5432\"");
    assert_eq!(
        messages(&twice),
        [
            "line 6: primary.hosts[1] = \"10.0.0.11:5432\" stands at primary.hosts[0] already; give each its own"
        ]
    );
}

#[test]
fn sslmode_is_prefer_unless_told() {
    assert_eq!(parse(MINIMAL).unwrap().login().tls().mode(), SslMode::Prefer);
    for mode in [SslMode::Disable, SslMode::Require] {
        let text = with(&format!("[postgres]\nsslmode = \"{}\"\n", mode.name()));
        assert_eq!(parse(&text).unwrap().login().tls().mode(), mode);
    }
}

#[test]
fn require_with_trusted_authorities_verifies_as_libpq_does() {
    let text = with("[postgres]\nsslmode = \"require\"\nsslrootcert = \"/etc/pgha/root.crt\"\n");
    let config = parse(&text).unwrap();
    assert_eq!(config.login().tls().mode(), SslMode::VerifyCa);
    assert_eq!(config.login().tls().root(), Some(Path::new("/etc/pgha/root.crt")));
}

#[test]
fn what_tls_needs_is_asked_for() {
    let wrong = |keys: &str| messages(&with(&format!("[postgres]\n{keys}")));
    for mode in ["verify-ca", "verify-full"] {
        assert_eq!(
            wrong(&format!("sslmode = \"{mode}\"\n")),
            [format!(
                "postgres.sslrootcert is missing: sslmode = {mode:?} verifies servers by it; name the file with the certificate of their authority, or choose sslmode = \"require\""
            )]
        );
    }
    assert_eq!(
        wrong("sslkey = \"/k\"\n"),
        [
            "postgres.sslcert is missing: sslkey is given, and certificate and key belong together; add it, or remove sslkey"
        ]
    );
    assert_eq!(
        wrong("sslmode = \"verify_full\"\n"),
        [
            "line 11: postgres.sslmode = \"verify_full\" is none of disable, prefer, require, verify-ca, verify-full; did you mean \"verify-full\"?"
        ]
    );
}
