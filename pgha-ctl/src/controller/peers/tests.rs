use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use pgha_machine::Mac;

use super::Peers;
use crate::config::Config;

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const CONFIG: &str = r#"
cluster = "c"
[director]
interface = "eth0"
[[director.peer]]
name = "lb2"
address = ["10.0.0.22", "fd00::22", "10.1.0.22"]
[[director.peer]]
name = "lb3"
address = "10.0.0.23"
[postgres]
user = "pgha"
[[service]]
name = "reader"
vip = "10.0.0.100"
discovery = "direct"
[[node]]
name = "db1"
address = "10.0.0.11"
"#;

#[test]
fn each_mac_of_a_director_goes_with_each_of_its_addresses() {
    let config = Config::parse(CONFIG, Path::new("pgha.toml")).unwrap();
    let director = config.director();
    let known = BTreeSet::from([(mac(22), ip("10.0.0.22")), (mac(9), ip("10.0.0.9"))]);
    let mut peers = Peers::inherit(known, director);
    assert!(peers.has(mac(22)) && !peers.has(mac(9)));
    assert!(peers.learn(ip("10.0.0.22"), mac(22)));
    assert!(!peers.learn(ip("10.0.0.22"), mac(22)));
    assert!(peers.learn(ip("10.1.0.22"), mac(122)));
    assert!(peers.learn(ip("10.0.0.23"), mac(23)));
    let both = [mac(22), mac(122)];
    let addresses = ["10.0.0.22", "fd00::22", "10.1.0.22"].map(ip);
    let mut wanted: BTreeSet<_> =
        both.iter().flat_map(|mac| addresses.map(|address| (*mac, address))).collect();
    wanted.insert((mac(23), ip("10.0.0.23")));
    assert_eq!(peers.pairs(director), wanted);
}

#[test]
fn each_inherited_mac_counts_until_the_kernel_told_of_every_address() {
    let config = Config::parse(CONFIG, Path::new("pgha.toml")).unwrap();
    let director = config.director();
    let addresses = ["10.0.0.22", "fd00::22", "10.1.0.22"].map(ip);
    let with = |macs: &[u8]| {
        macs.iter().flat_map(|m| addresses.map(|a| (mac(*m), a))).collect::<BTreeSet<_>>()
    };
    let mut peers = Peers::inherit(with(&[22, 122]), director);
    assert_eq!(peers.pairs(director), with(&[22, 122]));
    assert!(peers.has(mac(22)) && peers.has(mac(122)));
    assert!(peers.learn(addresses[0], mac(22)));
    assert!(peers.learn(addresses[1], mac(23)));
    peers.retain(director);
    assert_eq!(peers.pairs(director), with(&[22, 23, 122]));
    assert!(peers.learn(addresses[2], mac(124)));
    assert_eq!(peers.pairs(director), with(&[22, 23, 124]));
    assert!(!peers.has(mac(122)));
}

#[test]
fn inherited_macs_go_with_their_director() {
    let config = Config::parse(CONFIG, Path::new("pgha.toml")).unwrap();
    let inherited = BTreeSet::from([(mac(22), ip("10.0.0.22")), (mac(23), ip("10.0.0.23"))]);
    let mut peers = Peers::inherit(inherited, config.director());
    let without =
        CONFIG.replace("[[director.peer]]\nname = \"lb3\"\naddress = \"10.0.0.23\"\n", "");
    let config = Config::parse(&without, Path::new("pgha.toml")).unwrap();
    peers.retain(config.director());
    assert!(peers.has(mac(22)) && !peers.has(mac(23)));
}

#[test]
fn a_stranger_may_be_a_director_only_while_one_is_not_known() {
    let config = Config::parse(CONFIG, Path::new("pgha.toml")).unwrap();
    let mut peers = Peers::inherit(BTreeSet::new(), config.director());
    for address in ["10.0.0.22", "fd00::22", "10.1.0.22"] {
        assert!(peers.may_have(mac(9), config.director()), "before {address}");
        peers.learn(ip(address), mac(2));
    }
    assert!(peers.may_have(mac(9), config.director()), "it may be lb3");
    peers.learn(ip("10.0.0.23"), mac(3));
    assert!(!peers.may_have(mac(9), config.director()));
    assert!(peers.may_have(mac(2), config.director()) && peers.may_have(mac(3), config.director()));
    // A director without others has nobody to make way for.
    let alone = CONFIG.split("[[director.peer]]").next().unwrap();
    let rest = CONFIG.split_once("[postgres]").unwrap().1;
    let alone = Config::parse(&format!("{alone}[postgres]{rest}"), Path::new("pgha.toml")).unwrap();
    assert!(!Peers::default().may_have(mac(9), alone.director()));
}
