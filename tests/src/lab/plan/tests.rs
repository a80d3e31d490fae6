use super::*;

#[test]
fn names_and_addresses_match() {
    for (name, last) in [("db1", 11), ("db9", 19), ("lb2", 22), ("client", 31), ("client2", 32)] {
        let expected = Ipv4Addr::new(10, 77, 0, last);
        assert_eq!(address(name).unwrap(), expected);
        assert_eq!(name_at(expected).as_deref(), Some(name));
    }
}

#[test]
fn unknown_names_and_addresses_have_no_host() {
    for name in ["db", "db0", "db10", "client1", "lb", "router", "", "10.77.0.11"] {
        assert!(address(name).is_err(), "{name}");
    }
    assert_eq!(name_at(READER_VIP), None);
    assert_eq!(name_at(Ipv4Addr::new(10, 78, 0, 11)), None);
}

#[test]
fn macs_carry_the_address() {
    assert_eq!(mac_text(mac(Ipv4Addr::new(10, 77, 0, 11))), "02:00:0a:4d:00:0b");
}
