use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use nix::errno::Errno;
use pgha_machine::Mac;

use super::caps::Capability;

/// What can be wrong with the network of this node.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum NetError {
    #[error("there is no interface {name}; this node has {}", .present.join(", "))]
    NoSuchInterface { name: String, present: Vec<String> },
    #[error(
        "interface {name} has no Ethernet address, so frames cannot be forwarded on it; name an Ethernet interface"
    )]
    NotEthernet { name: String },
    #[error("interface {name} is down or has no carrier; run: ip link set {name} up")]
    InterfaceDown { name: String },
    #[error("interface {name} has no IP address; give it one in the subnet of the VIPs")]
    NoAddress { name: String },
    #[error("VIP {vip} lies in no subnet of {interface} ({}); choose a VIP in one of them, or the interface that has its subnet", list(.subnets, .vip))]
    VipOutside { vip: IpAddr, interface: String, subnets: Vec<IpNet> },
    #[error(
        "VIP {vip} is in use: {mac} answers for it; choose a free address, or stop that host from answering (on a real server: pgha realserver setup)"
    )]
    VipTaken { vip: IpAddr, mac: Mac },
    #[error(
        "VIP {vip} is in use: {mac} answers for it, which is the real server {server}; run there: pgha realserver setup --vip {vip}"
    )]
    VipLeaks { vip: IpAddr, mac: Mac, server: String },
    #[error(
        "VIP {address} lies in no subnet of this node; choose one in a subnet of an interface of it"
    )]
    NoSubnet { address: IpAddr },
    #[error("the offloads of interface {name} cannot be read: {source}; see: ethtool -k {name}")]
    Offloads { name: String, source: io::Error },
    #[error("no permission to {what}; it needs {needs}")]
    Permission { what: &'static str, needs: Capability },
    #[error("could not {what}: {source}")]
    Netlink { what: &'static str, source: rtnetlink::Error },
    #[error("could not {what}: the kernel gave no answer within {} ms", .patience.as_millis())]
    NetlinkTimeout { what: &'static str, patience: Duration },
    #[error("could not {what}: the kernel closed the netlink socket")]
    NetlinkClosed { what: &'static str },
    #[error("could not {what}: {source}")]
    Socket { what: &'static str, source: io::Error },
}

fn list(subnets: &[IpNet], vip: &IpAddr) -> String {
    let subnets: Vec<_> = subnets.iter().map(|net| net.trunc().to_string()).collect();
    if subnets.is_empty() {
        format!("it has none of {}", if vip.is_ipv4() { "IPv4" } else { "IPv6" })
    } else {
        subnets.join(", ")
    }
}

impl NetError {
    /// A failed netlink request; refusals by the kernel become [`NetError::Permission`].
    pub(super) fn netlink(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |source| match errno(&source) {
            Some(Errno::EPERM | Errno::EACCES) => {
                Self::Permission { what, needs: Capability::NetAdmin }
            }
            _ => Self::Netlink { what, source },
        }
    }

    /// A failed operation on a packet socket.
    pub(super) fn packet(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| {
            if source.kind() == io::ErrorKind::PermissionDenied {
                Self::Permission { what, needs: Capability::NetRaw }
            } else {
                Self::Socket { what, source }
            }
        }
    }
}

/// The kernel's error number, if it was the kernel that refused.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    let rtnetlink::Error::NetlinkError(message) = error else { return None };
    message.code.map(|code| Errno::from_raw(code.get().saturating_neg()))
}
