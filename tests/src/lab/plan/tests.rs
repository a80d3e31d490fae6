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
    assert_eq!(name_at(Ipv4Addr::new(10, 79, 0, 11)), None);
}

#[test]
fn the_number_is_the_same_in_every_network_and_family() {
    let db1 = address("db1").unwrap();
    assert_eq!(ipv6(db1), "fd77::11".parse::<Ipv6Addr>().unwrap());
    assert_eq!(ipv6(READER_VIP), READER_VIP6);
    let behind = Network::Back.at(db1);
    assert_eq!(behind, Ipv4Addr::new(10, 78, 0, 11));
    assert_eq!(ipv6(behind), "fd78::11".parse::<Ipv6Addr>().unwrap());
    assert_eq!(name_at(behind).as_deref(), Some("db1"));
}

#[test]
fn macs_carry_the_address() {
    assert_eq!(mac_text(mac(Ipv4Addr::new(10, 77, 0, 11))), "02:00:0a:4d:00:0b");
}
