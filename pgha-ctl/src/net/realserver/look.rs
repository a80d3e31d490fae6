//! What a node has of what a real server needs, without changing any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::error::RealServerError;
use super::sysctl::{self, WANTED};
use super::{Kernel, LOOPBACK, name_of};

/// A node as a real server of some VIPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Where each VIP is on this node.
    pub vips: Vec<VipSeen>,
    /// The settings that keep it quiet about IPv4 VIPs; empty where there is none.
    pub sysctls: Vec<SysctlSeen>,
    /// An interface whose own `arp_ignore` makes it answer for the VIPs whatever the others say.
    pub overriding: Option<(String, i32)>,
    /// IPv6 is switched off on `lo`, and there is an IPv6 VIP.
    pub ipv6_off: bool,
}

/// Where a VIP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipSeen {
    /// Which.
    pub vip: IpAddr,
    /// It is on `lo`.
    pub on_loopback: bool,
    /// The name of another interface that has it.
    pub elsewhere: Option<String>,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlSeen {
    /// Such as `net.ipv4.conf.all.arp_ignore`.
    pub name: &'static str,
    /// What it is.
    pub found: i32,
    /// What [`setup`](super::setup) would make it.
    pub wanted: i32,
    /// Whether it may stay as it is.
    pub enough: bool,
}

/// Looks at this node (the network namespace of the calling thread).
///
/// # Errors
/// The kernel did not answer.
pub async fn look(vips: &[IpAddr]) -> Result<Look, RealServerError> {
    let kernel = Kernel::connect().await?;
    let ipv4 = vips.iter().any(IpAddr::is_ipv4);
    let seen = |vip: &IpAddr| VipSeen {
        vip: *vip,
        on_loopback: kernel.on_loopback(*vip),
        elsewhere: kernel.elsewhere(*vip),
    };
    let sysctl = |wanted: &sysctl::Wanted| {
        let found = sysctl::read(wanted.name)?;
        let enough = (wanted.enough)(found);
        Ok(SysctlSeen { name: wanted.name, found, wanted: wanted.value, enough })
    };
    let ipv6_off = match sysctl::ipv6_on_loopback() {
        Err(RealServerError::Ipv6Off { .. }) => vips.iter().any(IpAddr::is_ipv6),
        // Nobody can tell of a kernel without IPv6.
        _ => false,
    };
    Ok(Look {
        vips: vips.iter().map(seen).collect(),
        sysctls: if ipv4 {
            WANTED.iter().map(sysctl).collect::<Result<_, RealServerError>>()?
        } else {
            Vec::new()
        },
        overriding: if ipv4 { sysctl::overriding_interface()? } else { None },
        ipv6_off,
    })
}

/// Which of these VIPs are on an interface of this node other than `lo`, and on which.
///
/// # Errors
/// The kernel did not answer.
pub async fn on_another_interface(
    vips: &[IpAddr],
) -> Result<BTreeMap<IpAddr, String>, RealServerError> {
    let kernel = Kernel::connect().await?;
    Ok(vips.iter().filter_map(|vip| Some((*vip, kernel.elsewhere(*vip)?))).collect())
}

/// Each interface but `lo` that has an IPv4 address, with the `rp_filter` in force: the greater of its own
/// value and that of `all` (Documentation/networking/ip-sysctl.rst).
///
/// # Errors
/// The kernel did not answer.
pub async fn rp_filters() -> Result<Vec<(String, i32)>, RealServerError> {
    let kernel = Kernel::connect().await?;
    let for_all = sysctl::of_interface("all", "rp_filter")?;
    let with_address = kernel.addresses.iter().filter(|(_, net)| net.addr().is_ipv4());
    let indices: BTreeSet<_> = with_address.map(|(index, _)| *index).collect();
    let named = indices.into_iter().filter(|index| index.get() != LOOPBACK).map(name_of);
    let in_force = |name: String| {
        let own = sysctl::of_interface(&name, "rp_filter")?;
        Ok((name, own.max(for_all)))
    };
    named.map(in_force).collect()
}
