use super::*;

fn link(addresses: &[&str], up: bool) -> Link {
    let loopback = Own::read(&["lo".to_owned()]).unwrap().links.remove(0);
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Link { name: "eth0".to_owned(), up, device: loopback.device.or_else(any_device), addresses }
}

/// Loopback has no MAC address.
fn any_device() -> Option<(LinkAddr, Mac)> {
    let entry = getifaddrs().unwrap().find_map(|entry| entry.address?.as_link_addr().copied())?;
    Some((entry, Mac::new([2, 0, 0, 0, 0, 1])?))
}

fn asks(addresses: &[&str], vip: &str) -> Result<String, String> {
    let vips = ["10.0.0.100", "fd00::100"].map(|vip| vip.parse().unwrap()).into();
    let asks = link(addresses, true).asks(vip.parse().unwrap(), &vips);
    asks.map(|address| address.to_string())
}

#[test]
fn an_address_of_the_vips_family_asks_at_best_of_its_subnet() {
    let all = ["192.0.2.1/24", "10.0.0.100/24", "10.0.0.5/24", "fe80::1/64", "fd01::1/64"];
    assert_eq!(asks(&all, "10.0.0.100").unwrap(), "10.0.0.5");
    assert_eq!(asks(&all, "198.51.100.1").unwrap(), "192.0.2.1");
    // Any but a link-local one, and that if there is no other.
    assert_eq!(asks(&all, "fd00::100").unwrap(), "fd01::1");
    assert_eq!(asks(&["fe80::1/64", "10.0.0.5/24"], "fd00::100").unwrap(), "fe80::1");
}

#[test]
fn who_cannot_ask_is_told_how_to_mend_it() {
    for without in [&["10.0.0.5/24"][..], &["fd00::100/128"], &[]] {
        let error = asks(without, "fd00::100").unwrap_err();
        assert_eq!(
            error,
            "interface eth0 has no IPv6 address of its own to probe VIP fd00::100 from; give it one: \
             ip address add ADDRESS dev eth0"
        );
    }
    let down = link(&["10.0.0.5/24"], false).asks("10.0.0.100".parse().unwrap(), &BTreeSet::new());
    assert!(down.unwrap_err().contains("interface eth0 is down"));
}

#[test]
fn this_node_has_its_loopback_addresses() {
    let own = Own::read(&["lo".to_owned(), "none".to_owned()]).unwrap();
    assert!(own.all.contains(&"127.0.0.1".parse().unwrap()));
    let [lo, none] = &own.links[..] else { panic!("{own:?}") };
    assert!(lo.addresses.contains(&"127.0.0.1/8".parse().unwrap()), "{lo:?}");
    assert!(none.addresses.is_empty() && none.device.is_none());
}

#[test]
fn an_address_that_may_be_somebody_elses_asks_for_nothing() {
    let line = |address: &str, flags: &str| format!("{address} 02 40 00 {flags} eth0\n");
    let text = [
        // Deprecated, tentative, tentative but optimistic, failed, permanent.
        line("fd000000000000000000000000000001", "a0"),
        line("fd000000000000000000000000000002", "40"),
        line("fd000000000000000000000000000003", "44"),
        line("fd000000000000000000000000000004", "c8"),
        line("fd000000000000000000000000000005", "80"),
        "fd000000000000000000000000000005 03 40 00 40     eth1\nhalf a line\n".to_owned(),
    ]
    .concat();
    let states = states(&text);
    assert_eq!(states.len(), 6);
    let all = ["10.0.0.5/24", "fd00::1/64", "fd00::2/64", "fd00::3/64", "fd00::4/64", "fd00::5/64"];
    let all = || all.iter().map(|net| net.parse().unwrap());
    let usable = asking_addresses("eth0", all(), &states);
    let usable: Vec<_> = usable.iter().map(ToString::to_string).collect();
    assert_eq!(usable, ["10.0.0.5/24", "fd00::3/64", "fd00::5/64", "fd00::1/64"]);
    // Each interface has its own, and who is not listed is none the worse.
    assert_eq!(asking_addresses("eth1", all(), &states).len(), 5);
}

#[test]
fn the_kernel_tells_the_state_of_each_of_its_addresses() {
    let text = fs::read_to_string(STATES).unwrap_or_default();
    assert_eq!(states(&text).len(), text.lines().count(), "{text}");
}
