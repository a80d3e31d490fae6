use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::net::error::NetError;

/// A node could not be made, or unmade, a real server.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum RealServerError {
    #[error(
        "VIP {vip} is on interface {interface} of this node, which answers for it; remove it there"
    )]
    VipElsewhere { vip: IpAddr, interface: String },
    #[error(
        "net.ipv4.conf.{interface}.arp_ignore = {value} would make this node answer ARP for the VIPs; set it to 1"
    )]
    Overridden { interface: String, value: i32 },
    #[error(
        "IPv6 is off on lo (net.ipv6.conf.lo.disable_ipv6 = {value}), so no IPv6 VIP can be there; run: sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
    )]
    Ipv6Off { value: i32 },
    #[error("another pgha is at work in {}; wait for it", .path.display())]
    Busy { path: PathBuf },
    #[error("{} cannot be {what}: {source}", .path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is not a number: {value:?}", .path.display())]
    NotANumber { path: PathBuf, value: String },
    #[error("{} is damaged ({source}); undo by hand what it lists, then remove it", .path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("{} is a record of version {found}, this pgha knows {known}; use the pgha that wrote it", .path.display())]
    Version { path: PathBuf, found: u32, known: u32 },
    #[error("{} was written in network namespace {recorded}, this is {here}; run pgha in that one, or choose another state directory", .path.display())]
    OtherNamespace { path: PathBuf, recorded: u64, here: u64 },
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(
        "{error}; and what had been done could not be taken back: {second}; run: pgha realserver undo"
    )]
    TakeBack { error: Box<Self>, second: Box<Self> },
}
