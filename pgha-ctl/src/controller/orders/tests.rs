use super::*;

#[test]
fn a_reader_is_one_host() {
    for host in ["10.0.0.1", "223.255.255.254", "fd00::1", "2001:db8::1"] {
        assert!(is_host(host.parse().unwrap()), "{host}");
    }
    let none = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1"];
    for none in none.into_iter().chain(["fe80::1", "ff02::1"]) {
        assert!(!is_host(none.parse().unwrap()), "{none}");
    }
}
