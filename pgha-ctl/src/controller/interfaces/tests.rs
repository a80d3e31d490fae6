use std::net::IpAddr;

use ipnet::IpNet;

use super::position;

#[test]
fn the_longest_prefix_says_on_which_link_an_address_is() {
    let nets =
        |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let interfaces = [
        nets(&["10.0.0.5/8", "fd00::5/64"]),
        nets(&["10.1.0.5/16"]),
        nets(&["10.1.0.6/16", "10.2.0.5/16", "10.1.7.5/24", "fd00::6/48"]),
        nets(&[]),
    ];
    for (address, expected) in [
        ("10.9.0.1", Some(0)),
        ("10.1.0.1", Some(1)),
        ("10.1.7.1", Some(2)),
        ("10.2.0.1", Some(2)),
        ("fd00::1", Some(0)),
        ("fd00:0:0:1::1", Some(2)),
        ("11.0.0.1", None),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let found = position(interfaces.iter().map(Vec::as_slice), address);
        assert_eq!(found, expected, "{address}");
    }
}
