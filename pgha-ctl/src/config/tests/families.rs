//! Both address families, several interfaces, and who may connect.

use std::num::NonZeroU32;

use pgha_machine::balancer::SynLimit;

use super::*;

/// The minimal file with another VIP, and `text` after it.
fn at(vip: &str, text: &str) -> String {
    format!("{}{text}", MINIMAL.replace("10.0.0.100", vip))
}

/// The keys that are wrong in a file.
pub(super) fn wrong(text: &str) -> Vec<String> {
    let errors = parse(text).unwrap_err();
    errors.errors().iter().filter_map(ConfigError::key).map(str::to_owned).collect()
}

#[test]
fn addresses_are_of_either_family() {
    let node = "[[node]]\nname = \"a\"\naddress = \"fd00::2\"\n[[director.peer]]\n\
                name = \"lb2\"\naddress = [\"fd00::22\", \"10.0.0.22\"]\n";
    let text = at("fd00::100", node).replace("\"10.0.0.11\"", "\"fd00::1\", \"::1\", \"a\"");
    let config = parse(&text).unwrap();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(config.services()[0].vip, address("fd00::100"));
    assert_eq!(config.nodes()[0].address, address("fd00::2"));
    assert_eq!(
        config.primary().unwrap().hosts(),
        ["fd00::1", "::1", "fd00::2"].map(|host| (address(host), 5432).into())
    );
    let peer = &config.director().peers()[0];
    assert_eq!(peer.addresses(), ["fd00::22", "10.0.0.22"].map(address));
}

#[test]
fn an_ipv6_vip_has_ipv4_servers_and_the_other_way_round() {
    let node = |address: &str| format!("[[node]]\nname = \"a\"\naddress = \"{address}\"\n");
    parse(&at("fd00::100", &node("10.0.0.2"))).unwrap();
    parse(&with(&node("fd00::2"))).unwrap();
}

#[test]
fn a_vip_is_the_address_of_one_host_that_every_link_can_have() {
    for vip in ["::", "::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "fe80::1%eth0", "[fd00::1]"] {
        assert_eq!(wrong(&at(vip, "")), ["service[0].vip"], "{vip}");
    }
    assert_eq!(
        messages(&at("::ffff:10.0.0.1", "")),
        [
            "line 9: service[0].vip = \"::ffff:10.0.0.1\" is an IPv4 address written as IPv6; write \"10.0.0.1\""
        ]
    );
    assert_eq!(
        messages(&at("10.0.0", "")),
        [
            "line 9: service[0].vip = \"10.0.0\" is not an IP address; write one such as \"10.0.0.100\" or \"fd00::100\""
        ]
    );
    let twice = "[[service]]\nname = \"other\"\nvip = \"fd00:0::100\"\n";
    assert_eq!(wrong(&at("fd00::100", twice)), ["service[1].vip"], "the same, written otherwise");
}

#[test]
fn a_director_has_up_to_8_interfaces() {
    let named = |list: &str| MINIMAL.replace("\"eth0\"", list);
    let config = parse(&named("[\"eth0\", \"eth1\"]")).unwrap();
    assert_eq!(config.director().interfaces(), ["eth0", "eth1"]);
    assert_eq!(parse(MINIMAL).unwrap().director().interfaces(), ["eth0"]);
    let list = |count: u8| {
        let names: Vec<_> = (0..count).map(|n| format!("\"e{n}\"")).collect();
        named(&format!("[{}]", names.join(", ")))
    };
    assert_eq!(parse(&list(8)).unwrap().director().interfaces().len(), 8);
    assert_eq!(
        messages(&list(9)),
        ["line 4: director.interface: there are 9, and a director has room for 8; remove some"]
    );
    assert_eq!(
        messages(&named("[\"eth0\", \"a b\", \"eth0\"]")),
        [
            "line 4: director.interface[1] = \"a b\" cannot name a network interface; give 1 to 15 bytes without '/', ':' and spaces, as `ip link` shows it",
            "line 4: director.interface[2] = \"eth0\" stands at director.interface[0] already; give each its own",
        ]
    );
    assert_eq!(
        messages(&named("[]")),
        ["line 4: director.interface is an empty list; give at least one, such as `\"eth0\"`"]
    );
}

#[test]
fn another_order_of_interfaces_needs_a_restart_and_tags_do_not() {
    let named = |list: &str| parse(&MINIMAL.replace("\"eth0\"", list)).unwrap();
    let old = named("[\"eth0\", \"eth1\"]\nvlan = \"pass\"");
    let changes = old.changes_needing_restart(&named("[\"eth1\", \"eth0\"]"));
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["director.interface changed from eth0, eth1 to eth1, eth0; restart the controller"]
    );
    let new = named("[\"eth0\", \"eth1\"]\nvlan = \"forward\"");
    assert_eq!(old.changes_needing_restart(&new), []);
    assert_eq!((old.director().vlan(), new.director().vlan()), (Vlan::Pass, Vlan::Forward));
}

#[test]
fn tables_for_ipv6_are_as_large_where_a_vip_is_ipv6() {
    let sizes = |text: &str| {
        let config = parse(text).unwrap();
        let director = config.director();
        [
            director.flows(),
            director.flows_ipv6(),
            director.pending_flows(),
            director.pending_flows_ipv6(),
        ]
    };
    let given =
        |text: &str| text.replace("\"eth0\"", "\"eth0\"\nflows = 4096\npending_flows = 2048");
    assert_eq!(sizes(MINIMAL), [1 << 20, 1024, 1 << 16, 1024]);
    assert_eq!(sizes(&at("fd00::100", "")), [1 << 20, 1 << 20, 1 << 16, 1 << 16]);
    assert_eq!(sizes(&given(MINIMAL)), [4096, 1024, 2048, 1024]);
    assert_eq!(sizes(&given(&at("fd00::100", ""))), [4096, 4096, 2048, 2048]);
    let both =
        given(&at("fd00::100", "")).replace("flows = 4096", "flows = 4096\nflows_ipv6 = 8192");
    assert_eq!(sizes(&both), [4096, 8192, 2048, 2048]);
    let changes = parse(&given(MINIMAL))
        .unwrap()
        .changes_needing_restart(&parse(&given(&at("fd00::100", ""))).unwrap());
    assert!(
        matches!(
            changes[..],
            [
                RestartNeeded::FlowsIpv6 { old: 1024, new: 4096 },
                RestartNeeded::PendingFlowsIpv6 { old: 1024, new: 2048 }
            ]
        ),
        "{changes:?}"
    );
}

#[test]
fn allowed_clients_are_networks_of_the_vips_family() {
    let allowed = |vip: &str, list: &str| at(vip, &format!("allowed_clients = {list}\n"));
    let config = parse(&allowed("fd00::100", "[\"fd00::/8\", \"2001:db8::7/128\"]")).unwrap();
    let networks: Vec<_> =
        config.services()[0].allowed_clients.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["fd00::/8", "2001:db8::7/128"]);
    parse(&allowed("10.0.0.100", "[\"0.0.0.0/0\"]")).unwrap();
    assert_eq!(
        messages(&allowed("10.0.0.100", "[\"10.0.0.1/8\", \"10.0.0.0\", \"10.0.0.0/33\"]")),
        [
            "line 10: service[0].allowed_clients[0] = \"10.0.0.1/8\" has bits beyond its prefix length; did you mean \"10.0.0.0/8\"?",
            "line 10: service[0].allowed_clients[1] = \"10.0.0.0\" is not a network; write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\"",
            "line 10: service[0].allowed_clients[2] = \"10.0.0.0/33\" is not a network; write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\"",
        ]
    );
    assert_eq!(
        messages(&allowed("10.0.0.100", "[\"10.0.0.0/8\", \"fd00::/8\"]")),
        [
            "line 10: service[0].allowed_clients[1] = \"fd00::/8\" is of another address family than the VIP 10.0.0.100, so no client could come from it; give networks of the VIP's family"
        ]
    );
    assert_eq!(
        messages(&allowed("10.0.0.100", "[]")),
        [
            "line 10: service[0].allowed_clients is an empty list, which would let nobody connect; list networks, or remove the key to let everybody"
        ]
    );
    let many = |count: u16| {
        let networks: Vec<_> =
            (0..count).map(|n| format!("\"10.{}.{}.0/24\"", n / 256, n % 256)).collect();
        allowed("10.0.0.100", &format!("[{}]", networks.join(", ")))
    };
    parse(&many(1024)).unwrap();
    assert_eq!(wrong(&many(1025)), ["service[0].allowed_clients"]);
}

#[test]
fn a_limit_of_syns_has_a_rate_and_a_burst() {
    let limit = |text: &str| parse(&with(text)).unwrap().services()[0].syn_limit;
    let number = |number: u32| NonZeroU32::new(number).unwrap();
    assert_eq!(limit(""), None);
    assert_eq!(limit("syn_rate = 0\n"), None);
    let steady = SynLimit { rate: number(10), burst: number(10) };
    assert_eq!(limit("syn_rate = 10\n"), Some(steady));
    let bursts = SynLimit { rate: number(10), burst: number(50) };
    assert_eq!(limit("syn_rate = 10\nsyn_burst = 50\n"), Some(bursts));
    for without in ["syn_burst = 50\n", "syn_rate = 0\nsyn_burst = 50\n"] {
        assert_eq!(wrong(&with(without)), ["service[0].syn_burst"], "{without}");
    }
    assert_eq!(
        messages(&with("syn_burst = 50\n")),
        [
            "line 10: service[0].syn_burst has no meaning without a limit; give syn_rate too, or remove it"
        ]
    );
    assert_eq!(wrong(&with("syn_rate = \"ten\"\nsyn_burst = 50\n")), ["service[0].syn_rate"]);
}

#[test]
fn another_director_may_have_several_addresses() {
    let peer =
        |address: &str| with(&format!("[[director.peer]]\nname = \"lb2\"\naddress = {address}\n"));
    parse(&peer("\"10.0.0.22\"")).unwrap();
    assert_eq!(wrong(&peer("[]")), ["director.peer[0].address"]);
    let second = "director.peer[0].address[1]";
    assert_eq!(wrong(&peer("[\"10.0.0.22\", \"10.0.0.22\"]")), [second]);
    assert_eq!(wrong(&peer("[\"10.0.0.22\", \"fe80::1\"]")), [second]);
    assert_eq!(wrong(&peer("[\"10.0.0.22\", \"10.0.0.100\"]")), [second], "a VIP");
    assert_eq!(wrong(&peer("[\"10.0.0.22\", 7]")), ["director.peer[0].address"]);
}
