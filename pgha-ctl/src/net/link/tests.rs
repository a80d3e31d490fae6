use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};

use super::*;

fn interface(up: bool, subnets: &[&str]) -> Interface {
    Interface {
        name: "eth0".to_owned(),
        index: IfIndex::new(2).unwrap(),
        mac: "52:54:00:12:34:56".parse().unwrap(),
        up,
        mtu: 1500,
        veth: false,
        subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
        xdp: None,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn with_xdp(parts: Vec<LinkXdp>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::Xdp(parts));
    link
}

#[test]
fn a_vip_lies_in_a_subnet_or_the_error_names_them() {
    let vip = address("10.0.0.100");
    let vip6 = address("2001:db8::100");
    let both = interface(true, &["192.168.0.1/24", "10.0.0.5/24", "2001:db8::5/64", "fe80::1/64"]);
    assert!(both.usable_for(&[vip, vip6]).is_ok());
    let error = interface(true, &["10.0.1.5/24", "10.2.0.1/16", "2001:db8::5/64"])
        .usable_for(&[vip6, vip])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "VIP 10.0.0.100 lies in no subnet of eth0 (10.0.1.0/24, 10.2.0.0/16); choose a VIP in one of them, or the interface that has its subnet"
    );
    let error = interface(true, &["10.0.0.5/24"]).usable_for(&[vip, vip6]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "VIP 2001:db8::100 lies in no subnet of eth0 (it has none of IPv6); choose a VIP in one of them, or the interface that has its subnet"
    );
    assert!(interface(true, &["10.0.1.5/24"]).usable_for(&[]).is_ok());
    assert!(matches!(interface(true, &[]).usable_for(&[]), Err(NetError::NoAddress { .. })));
    assert!(matches!(
        interface(false, &["10.0.0.5/24"]).usable_for(&[vip]),
        Err(NetError::InterfaceDown { .. })
    ));
}

#[test]
fn a_neighbour_lies_in_a_subnet_of_its_family() {
    let both = interface(true, &["10.0.0.5/24", "2001:db8::5/64"]);
    for (neighbour, reached) in [
        ("10.0.0.255", true),
        ("10.0.1.0", false),
        ("2001:db8::ffff", true),
        ("2001:db8:0:1::", false),
        ("::ffff:10.0.0.1", false),
    ] {
        assert_eq!(both.reaches(address(neighbour)), reached, "{neighbour}");
    }
}

#[test]
fn the_xdp_program_is_found_in_each_mode() {
    let found = |parts| xdp_of(&with_xdp(parts)).map(|attachment| attachment.prog_id);
    for attached in [XdpAttached::Driver, XdpAttached::SocketBuffer, XdpAttached::Hardware] {
        assert_eq!(found(vec![LinkXdp::Attached(attached), LinkXdp::ProgId(7)]), Some(7));
    }
    assert_eq!(found(vec![LinkXdp::Attached(XdpAttached::None)]), None);
    let several = vec![
        LinkXdp::SkbProgId(9),
        LinkXdp::DrvProgId(8),
        LinkXdp::Attached(XdpAttached::Multiple),
    ];
    assert_eq!(found(several), Some(8));
}
