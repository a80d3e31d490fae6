//! The address plan: the same in every lab, for namespaces keep labs apart.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};

/// The reader VIP. The lab assigns it to no one.
pub const READER_VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The reader VIP over IPv6, which is no one's either.
pub const READER_VIP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100);
/// The writer VIP, which the agent of the primary has.
pub const WRITER_VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
/// The interface that every host has.
pub const INTERFACE: &str = "eth0";
/// The interface in the network behind, of hosts that have both.
pub const BACK_INTERFACE: &str = "eth1";
/// The interface of a host that was [bridged](super::Host::bridge).
pub const BRIDGE_INTERFACE: &str = "lan0";

/// A network of the lab: the same host has the same last number in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Where every host is that is not put elsewhere.
    Front,
    /// Behind the directors that have an interface in each; the switch routes between the two.
    Back,
}

impl Network {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Front, Self::Back];

    /// The third number of its IPv4 addresses is 0; this is the second, and that of IPv6 begins so.
    const fn number(self) -> u8 {
        match self {
            Self::Front => 77,
            Self::Back => 78,
        }
    }

    /// That of an address.
    pub(super) const fn of(address: Ipv4Addr) -> Self {
        if address.octets()[1] == Self::Back.number() { Self::Back } else { Self::Front }
    }

    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }

    /// Its IPv4 and IPv6 addresses, in CIDR notation.
    pub fn cidrs(self) -> [String; 2] {
        let number = self.number();
        [format!("10.{number}.0.0/24"), format!("fd{number}::/64")]
    }

    /// Whether an address is one of it.
    pub fn has(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[1] == self.number(),
            IpAddr::V6(address) => {
                address.octets()[1] == 0x10 * (self.number() / 10) + self.number() % 10
            }
        }
    }

    /// What an address of [`Network::Front`] is in this one.
    pub fn at(self, address: Ipv4Addr) -> Ipv4Addr {
        let [a, _, c, d] = address.octets();
        Ipv4Addr::new(a, self.number(), c, d)
    }

    /// The switch's own addresses, once it routes.
    pub(super) fn router(self) -> [IpAddr; 2] {
        let address = self.at(Ipv4Addr::new(10, 77, 0, 1));
        [address.into(), ipv6(address).into()]
    }
}

/// The IPv6 address of the host with that IPv4 address: written, it ends in the same number.
pub fn ipv6(address: Ipv4Addr) -> Ipv6Addr {
    let digits = |number: u8| {
        u16::from(number / 100) << 8 | u16::from(number / 10 % 10) << 4 | u16::from(number % 10)
    };
    let [_, network, _, last] = address.octets();
    Ipv6Addr::new(0xfd00 | digits(network), 0, 0, 0, 0, 0, 0, digits(last))
}

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

/// The name of the host with that address in either network, if the plan has one.
pub fn name_at(address: Ipv4Addr) -> Option<String> {
    let networks = Network::ALL.map(|network| network.at(address));
    let address = networks.contains(&address).then_some(networks[0])?;
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
