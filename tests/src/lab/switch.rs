//! The switch: a namespace with a bridge, and a cable from it to each host.
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use super::netns::{Namespace, ip_batch};
use super::plan::{INTERFACE, PREFIX, mac, mac_text, port_mac};
use super::process::Cmd;
use super::state::{SWITCH, namespace};

const BRIDGE: &str = "br0";

/// Makes the switch of a lab, without ports.
pub(super) fn build(lab: &str) -> Result<Namespace> {
    let name = namespace(lab, SWITCH);
    Namespace::create(std::slice::from_ref(&name))?;
    let switch = Namespace::open(&name)?;
    disable_ipv6(&switch)?;
    ip_batch(
        Some(&switch),
        [
            // Ports forward at once, and multicast frames go everywhere.
            format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
            format!("link set {BRIDGE} up"),
        ],
    )?;
    Ok(switch)
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
            format!(
                "link add {INTERFACE} address {} netns {namespace} type veth \
                 peer name {host} address {} netns {}",
                mac_text(mac(*address)),
                mac_text(port_mac(*address)),
                switch.name(),
            )
        }),
    )?;
    ip_batch(
        Some(switch),
        hosts.iter().map(|(host, _)| format!("link set dev {host} master {BRIDGE} up")),
    )?;
    hosts
        .iter()
        .zip(&names)
        .map(|((_, address), name)| {
            let host = Namespace::open(name)?;
            plug_in(&host, *address).with_context(|| format!("set up {name}"))?;
            Ok(host)
        })
        .collect()
}

fn plug_in(host: &Namespace, address: Ipv4Addr) -> Result<()> {
    disable_ipv6(host)?;
    // A veth never finishes checksums nor cuts segments, and XDP forwards frames as they are: every
    // frame must be complete when it enters the cable. GRO would join what arrives.
    Cmd::new(["ethtool", "-K", INTERFACE, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
        .in_namespace(host)?
        .run()?;
    ip_batch(
        Some(host),
        [
            "link set lo up".to_owned(),
            format!("addr add {address}/{PREFIX} dev {INTERFACE}"),
            format!("link set {INTERFACE} up"),
        ],
    )
}

/// Keeps neighbour discovery and router solicitations out of captures and counters.
fn disable_ipv6(namespace: &Namespace) -> Result<()> {
    namespace.inside(|| {
        for scope in ["all", "default"] {
            let knob = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            match fs::write(&knob, "1") {
                // A kernel without IPv6.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                written => written.with_context(|| knob)?,
            }
        }
        Ok(())
    })
}
