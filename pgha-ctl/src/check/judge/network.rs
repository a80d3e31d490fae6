//! The director's interfaces, and the ways from them to the servers.

use std::net::IpAddr;

use crate::bpf::xdp::Pinned;
use crate::check::facts::{Facts, Interface, Path, Program, Seen, Server, Traits};
use crate::check::{Check, about};
use crate::config::{Config, Vlan};

pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Check> {
    let mut checks = vec![interfaces(config, facts)];
    for (number, interface) in facts.interfaces.iter().enumerate() {
        if let Ok(seen) = &interface.seen {
            checks.push(program(interface, seen, number, facts));
            checks.push(native(interface, seen));
            checks.extend(joined_segments(interface, seen));
            checks.extend(checksums(interface, seen));
            checks
                .extend((config.director().vlan() == Vlan::Forward).then(|| tags(interface, seen)));
        }
    }
    checks.extend(mtu(&facts.interfaces));
    let mut seen = Vec::new();
    for server in &facts.servers {
        if !seen.contains(&server.at.ip()) {
            seen.push(server.at.ip());
            checks.extend(way(server, &facts.interfaces));
        }
    }
    checks
}

fn interfaces(config: &Config, facts: &Facts) -> Check {
    let names = config.director().interfaces().join(", ");
    let check = about("interface", names, "the interfaces are up and reach the VIPs");
    match &facts.usable {
        Ok(()) => check.ok("they do"),
        Err(why) => check.fail(why),
    }
}

fn program(interface: &Interface, seen: &Traits, number: usize, facts: &Facts) -> Check {
    let check = about("xdp-program", &interface.name, "no other XDP program is in the way");
    let Some(Program { id, name, .. }) = &seen.program else { return check.ok("none there") };
    let ours = match &facts.pinned {
        Some(Ok(Pinned::Ours { programs, .. })) => programs.get(number).copied().flatten(),
        _ => None,
    };
    if ours == Some(*id) {
        return check.ok(format!("pgha's own (id {id})"));
    }
    check
        .fail(format!("a foreign program (id {id}, {name})"))
        .mend(format!("ip link set dev {} xdp off, or choose another interface", interface.name))
}

fn native(interface: &Interface, seen: &Traits) -> Check {
    let check = about("native-xdp", &interface.name, "its driver runs XDP programs");
    let generic = |found: &str| {
        let found = format!("{found}: the program runs in generic mode, which is slower");
        let check = about("native-xdp", &interface.name, "its driver runs XDP programs");
        check.warn(found).mend("use an interface whose driver has native XDP")
    };
    match (&seen.program, &seen.native) {
        (Some(Program { generic: true, .. }), _) => {
            generic("a program is attached, and not in the driver")
        }
        (Some(_), _) => check.ok("a program runs there"),
        (None, Ok(Some(true))) => check.ok("it says so"),
        (None, Ok(Some(false))) => generic("it does not"),
        (None, Ok(None)) => check.skipped("this kernel cannot tell (Linux 6.3 can)"),
        (None, Err(why)) => check.skipped(why),
    }
}

fn joined_segments(interface: &Interface, seen: &Traits) -> Option<Check> {
    let name = &interface.name;
    let check = about("receive-offload", name, "frames come one by one");
    match &seen.joins_segments {
        Ok(false) => None,
        Ok(true) => Some(
            check
                .fail("large receive offload is on: joined frames are too long to be forwarded")
                .mend(format!("ethtool -K {name} lro off")),
        ),
        Err(why) => Some(check.skipped(why)),
    }
}

/// What a veth passes on is as the sender left it, and XDP forwards it so: with checksums that no card
/// will ever finish.
fn checksums(interface: &Interface, seen: &Traits) -> Option<Check> {
    let name = &interface.name;
    let check = about("transmit-offload", name, "frames on a virtual cable are complete");
    if !seen.veth {
        return None;
    }
    match &seen.leaves_checksums {
        Ok(false) => Some(check.ok("checksums are finished by the sender")),
        Ok(true) => Some(
            check
                .warn("this end leaves checksums to a card that is not there: what this node sends to a VIP, or any client behind such a cable, may be dropped by the real server")
                .mend(format!(
                    "at this end and at those of the clients on this machine: ethtool -K {name} tx off tso off gso off"
                )),
        ),
        Err(why) => Some(check.skipped(why)),
    }
}

fn tags(interface: &Interface, seen: &Traits) -> Check {
    let name = &interface.name;
    let check = about("vlan-offload", name, "VLAN tags stay on received frames");
    match &seen.takes_tags_off {
        Ok(false) => check.ok("they do"),
        Ok(true) => check
            .fail("the card takes them off before XDP: tagged frames would be forwarded untagged")
            .mend(format!("ethtool -K {name} rxvlan off")),
        Err(why) => check.skipped(why),
    }
}

/// A frame that comes in on one interface may have to leave by another.
fn mtu(interfaces: &[Interface]) -> Option<Check> {
    let known: Vec<_> = interfaces
        .iter()
        .filter_map(|interface| Some((&interface.name, interface.seen.as_ref().ok()?.mtu)))
        .collect();
    let names: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
    let check = about("mtu", names.join(", "), "the interfaces take frames of the same length");
    let found: Vec<_> = known.iter().map(|(name, mtu)| format!("{name} {mtu}")).collect();
    let found = found.join(", ");
    let (_, first) = known.first()?;
    if known.iter().all(|(_, mtu)| mtu == first) {
        return (known.len() > 1).then(|| check.ok(found));
    }
    Some(
        check
            .fail(format!("{found}: longer frames vanish on the way from one to the other"))
            .wanted("one MTU")
            .mend("ip link set dev INTERFACE mtu N, the same on all of them and on the servers"),
    )
}

fn way(server: &Server, interfaces: &[Interface]) -> Vec<Check> {
    let Some(path) = &server.path else { return Vec::new() };
    vec![on_link(server, interfaces), path_mtu(server, path)]
}

/// Direct server return changes the MAC address and nothing else, so no router may be in between.
fn on_link(server: &Server, interfaces: &[Interface]) -> Check {
    let check = about("same-link", server.short(), "the server is on the link of an interface");
    let address: IpAddr = server.at.ip();
    let of = interfaces.iter().find(|interface| {
        interface
            .seen
            .as_ref()
            .is_ok_and(|seen| seen.subnets.iter().any(|net| net.contains(&address)))
    });
    match of {
        Some(interface) => check.ok(interface.name.clone()),
        None => check
            .fail(format!("{address} lies in no subnet of the director's interfaces"))
            .wanted("an address in one of their subnets")
            .mend("put the server on the director's network, or name its interface there in director.interface"),
    }
}

fn path_mtu(server: &Server, path: &Seen<Path>) -> Check {
    let check = about("path-mtu", server.short(), "frames of full length reach the server");
    match path {
        Ok(Path { mtu, long: true, .. }) => check.ok(format!("{mtu} bytes")),
        Ok(Path { mtu, short: true, .. }) => check
            .fail(format!("packets of 84 bytes are answered, of {mtu} bytes not: its interface or a switch on the way takes less, and long packets of clients vanish"))
            .wanted("one MTU on the interfaces of directors and servers, and on what connects them")
            .mend("compare: ip link show, on this node and on the server"),
        Ok(_) => check.skipped("it answers no echo requests"),
        Err(why) => check.skipped(why),
    }
}
