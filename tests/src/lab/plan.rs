//! The address plan: the same in every lab, for namespaces keep labs apart.
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

/// The reader VIP. The lab assigns it to no one.
pub const READER_VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The network of every host, in CIDR notation.
pub const NETWORK: &str = "10.77.0.0/24";
/// The length of the network's prefix, in bits.
pub const PREFIX: u8 = 24;
/// The one interface of every host.
pub const INTERFACE: &str = "eth0";

/// Kinds of hosts: the name without its number, and the last byte of the address of number 0.
const KINDS: [(&str, u8); 4] = [("db", 10), ("lb", 20), ("client", 30), ("etcd", 40)];

/// The address of the host of that name: `db1` to `db9`, `lb1` to `lb9`, `etcd1` to `etcd9`,
/// `client` (which is number 1) and `client2` to `client9`.
///
/// # Errors
/// When the plan has no such host.
pub fn address(name: &str) -> Result<Ipv4Addr> {
    let number = |kind: &str| match name.strip_prefix(kind)?.as_bytes() {
        [] if kind == "client" => Some(1),
        [b'1'] if kind == "client" => None,
        [digit @ b'1'..=b'9'] => Some(digit - b'0'),
        _ => None,
    };
    KINDS
        .iter()
        .find_map(|(kind, base)| Some(Ipv4Addr::new(10, 77, 0, base + number(kind)?)))
        .with_context(|| {
            format!(
                "no host `{name}` in the lab: it has db1..9, lb1..9, etcd1..9, client, client2..9"
            )
        })
}

/// The name of the host with that address, if the plan has one.
pub fn name_at(address: Ipv4Addr) -> Option<String> {
    let last = address.octets()[3];
    let (kind, base) = KINDS.iter().find(|(_, base)| (base + 1..=base + 9).contains(&last))?;
    let name = match (*kind, last - base) {
        ("client", 1) => "client".to_owned(),
        (kind, number) => format!("{kind}{number}"),
    };
    (self::address(&name).ok()? == address).then_some(name)
}

/// The MAC address of the interface of the host with that address: locally administered, and the
/// IPv4 address can be read from it.
pub fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 0, a, b, c, d]
}

/// The MAC address of the switch's port to that host.
pub(super) fn port_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 1, a, b, c, d]
}

/// A MAC address as `ip` and `tcpdump` write it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests;
