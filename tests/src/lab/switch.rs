//! The switch: a namespace with a bridge for each network, and a cable from it to each host.
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};

use super::netns::{Namespace, ip_batch};
use super::plan::{BACK_INTERFACE, INTERFACE, Network, ipv6, mac, mac_text, port_mac};
use super::process::Cmd;
use super::state::{SWITCH, namespace};

/// The bridge of a network.
const fn bridge(network: Network) -> &'static str {
    match network {
        Network::Front => "br0",
        Network::Back => "br1",
    }
}

/// Makes the switch of a lab, without ports.
pub(super) fn build(lab: &str) -> Result<Namespace> {
    let name = namespace(lab, SWITCH);
    Namespace::create(std::slice::from_ref(&name))?;
    let switch = Namespace::open(&name)?;
    set_ipv6(&switch, &[("disable_ipv6", "1")])?;
    ip_batch(Some(&switch), bridge_lines(Network::Front))?;
    Ok(switch)
}

fn bridge_lines(network: Network) -> [String; 2] {
    let bridge = bridge(network);
    [
        // Ports forward at once, and multicast frames go everywhere.
        format!("link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
        format!("link set {bridge} up"),
    ]
}

/// Makes the network behind, unless it is there, and has the switch route between the two.
pub(super) fn build_back(switch: &Namespace) -> Result<()> {
    if has(switch, bridge(Network::Back))? {
        return Ok(());
    }
    set_ipv6(switch, &[("disable_ipv6", "0"), ("forwarding", "1")])?;
    set_ipv6(switch, &QUIET)?;
    switch.inside(|| Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
    let addresses = |network: Network| {
        let on = bridge(network);
        network.router().map(|address| address_line(address, on))
    };
    ip_batch(
        Some(switch),
        bridge_lines(Network::Back).into_iter().chain(Network::ALL.into_iter().flat_map(addresses)),
    )?;
    accept_any_path(switch)
}

/// Whether a namespace has an interface of that name.
pub(super) fn has(namespace: &Namespace, interface: &str) -> Result<bool> {
    namespace.inside(|| Ok(fs::exists(format!("/proc/sys/net/ipv4/conf/{interface}"))?))
}

/// Makes namespaces with an address on a cable to the switch. The port is named after the host.
pub(super) fn connect(
    lab: &str,
    switch: &Namespace,
    hosts: &[(&str, Ipv4Addr)],
) -> Result<Vec<Namespace>> {
    let names: Vec<String> = hosts.iter().map(|(name, _)| namespace(lab, name)).collect();
    Namespace::create(&names)?;
    ip_batch(
        None,
        hosts.iter().zip(&names).map(|((host, address), namespace)| {
            cable(switch, namespace, INTERFACE, host, *address)
        }),
    )?;
    ip_batch(Some(switch), hosts.iter().map(|(host, address)| plug(host, Network::of(*address))))?;
    hosts
        .iter()
        .zip(&names)
        .map(|((_, address), name)| {
            let host = Namespace::open(name)?;
            set_up(&host, *address).with_context(|| format!("set up {name}"))?;
            Ok(host)
        })
        .collect()
}

/// Gives a host of the network in front a second cable, to the network behind. Its port is named after
/// the host, with `-back`.
pub(super) fn connect_back(
    switch: &Namespace,
    name: &str,
    host: &Namespace,
    front: Ipv4Addr,
) -> Result<()> {
    let (port, address) = (format!("{name}-back"), Network::Back.at(front));
    ip_batch(None, [cable(switch, host.name(), BACK_INTERFACE, &port, address)])?;
    ip_batch(Some(switch), [plug(&port, Network::Back)])?;
    complete_frames(host, BACK_INTERFACE)?;
    let [back, back6] = Network::Back.cidrs();
    // It no longer goes through the switch to what is at its own door.
    let replaced = [format!("route del {back}"), format!("route del {back6}")];
    ip_batch(Some(host), replaced.into_iter().chain(addresses(address, BACK_INTERFACE)))?;
    accept_any_path(host)
}

fn cable(
    switch: &Namespace,
    namespace: &str,
    interface: &str,
    port: &str,
    address: Ipv4Addr,
) -> String {
    format!(
        "link add {interface} address {} netns {namespace} type veth \
         peer name {port} address {} netns {}",
        mac_text(mac(address)),
        mac_text(port_mac(address)),
        switch.name(),
    )
}

fn plug(port: &str, network: Network) -> String {
    format!("link set dev {port} master {} up", bridge(network))
}

fn set_up(host: &Namespace, address: Ipv4Addr) -> Result<()> {
    set_ipv6(host, &QUIET)?;
    complete_frames(host, INTERFACE)?;
    let lines = addresses(address, INTERFACE);
    ip_batch(
        Some(host),
        ["link set lo up".to_owned()]
            .into_iter()
            .chain(lines)
            .chain(routes(Network::of(address), INTERFACE)),
    )
}

/// Lines that give an interface the address of each family, and set it up.
pub(super) fn addresses(address: Ipv4Addr, interface: &str) -> [String; 3] {
    [
        format!("link set {interface} up"),
        address_line(address.into(), interface),
        address_line(ipv6(address).into(), interface),
    ]
}

fn address_line(address: IpAddr, interface: &str) -> String {
    match address {
        IpAddr::V4(address) => format!("addr add {address}/24 dev {interface}"),
        // Nobody has the address already: it is there at once, without a search for duplicates.
        IpAddr::V6(address) => format!("addr add {address}/64 dev {interface} nodad"),
    }
}

/// Lines that lead to the other network, by way of the switch once that routes.
pub(super) fn routes(network: Network, interface: &str) -> [String; 2] {
    let [net, net6] = network.other().cidrs();
    let [router, router6] = network.router();
    [
        format!("route replace {net} via {router} dev {interface}"),
        format!("route replace {net6} via {router6} dev {interface}"),
    ]
}

/// A veth never finishes checksums nor cuts segments, and XDP forwards frames as they are: every frame
/// must be complete when it enters the cable. GRO would join what arrives.
fn complete_frames(host: &Namespace, interface: &str) -> Result<()> {
    Cmd::new(["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
        .in_namespace(host)?
        .run()
        .map(drop)
}

/// What keeps router solicitations and searches for duplicates out of captures and counters, and has
/// link-local addresses at once, from which hosts ask for neighbours in the name of a VIP; interfaces
/// made later have it too.
const QUIET: [(&str, &str); 3] =
    [("accept_ra", "0"), ("accept_dad", "0"), ("router_solicitations", "0")];

fn set_ipv6(namespace: &Namespace, settings: &[(&str, &str)]) -> Result<()> {
    namespace.inside(|| {
        for scope in ["all", "default"] {
            for (name, value) in settings {
                let knob = format!("/proc/sys/net/ipv6/conf/{scope}/{name}");
                fs::write(&knob, value).with_context(|| knob)?;
            }
        }
        Ok(())
    })
}

/// Replies may come by another way than what they reply to was sent.
fn accept_any_path(namespace: &Namespace) -> Result<()> {
    namespace.inside(|| {
        for entry in fs::read_dir("/proc/sys/net/ipv4/conf")? {
            let knob = entry?.path().join("rp_filter");
            fs::write(&knob, "0").with_context(|| knob.display().to_string())?;
        }
        Ok(())
    })
}
