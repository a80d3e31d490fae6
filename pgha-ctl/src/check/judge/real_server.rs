//! This node as a real server.

use super::READER;
use crate::check::facts::RealServer;
use crate::check::{Check, about};
use crate::net::realserver::{SysctlSeen, VipSeen};

const SETUP: &str = "pgha realserver setup";

pub(super) fn judge(node: &RealServer) -> Vec<Check> {
    let look = match &node.look {
        Ok(look) => look,
        Err(why) => return vec![about(READER[0], "", "this node can serve the VIPs").skipped(why)],
    };
    let mut checks: Vec<_> = look.vips.iter().map(|vip| on_loopback(vip, look.ipv6_off)).collect();
    checks.extend(look.sysctls.iter().map(sysctl));
    checks.extend(look.overriding.as_ref().map(|(interface, value)| {
        let name = format!("net.ipv4.conf.{interface}.arp_ignore");
        about(READER[1], &name, "this node keeps quiet about the VIPs")
            .fail(format!("{name} = {value}, which outweighs the setting for all"))
            .wanted("0, 1, 2 or 8")
            .mend(format!("sysctl -w {name}=1"))
    }));
    checks.extend(rp_filter(&node.rp_filter));
    checks
}

fn on_loopback(seen: &VipSeen, ipv6_off: bool) -> Check {
    let VipSeen { vip, on_loopback, elsewhere } = seen;
    let check =
        about(READER[0], vip.to_string(), "the VIP is on lo, so that its packets are taken");
    match elsewhere {
        Some(interface) => check
            .fail(format!("it is on {interface}, so that this node answers for it"))
            .wanted("on lo")
            .mend(format!("ip address del {vip} dev {interface}; then {SETUP}")),
        None if *on_loopback => check.ok("on lo"),
        None if vip.is_ipv6() && ipv6_off => check
            .fail("it is not on lo, and IPv6 is off there")
            .mend(format!("sysctl -w net.ipv6.conf.lo.disable_ipv6=0; then {SETUP}")),
        None => check
            .fail("it is not on lo: packets to it go nowhere")
            .wanted("on lo")
            .mend(SETUP)
            .fixable(),
    }
}

fn sysctl(seen: &SysctlSeen) -> Check {
    let SysctlSeen { name, found, wanted, enough } = seen;
    let check = about(READER[1], *name, "this node keeps quiet about the VIPs");
    if *enough {
        return check.ok(format!("{name} = {found}"));
    }
    check
        .fail(format!("{name} = {found}: this node answers ARP for a VIP, or asks in its name"))
        .wanted(format!("{name} = {wanted}"))
        .mend(SETUP)
        .fixable()
}

/// A client's packet comes in where the director is, and the kernel may think that the way back to the client
/// leads elsewhere.
fn rp_filter(interfaces: &[(String, i32)]) -> Option<Check> {
    let strict: Vec<_> =
        interfaces.iter().filter(|(_, value)| *value == 1).map(|(name, _)| name.as_str()).collect();
    if strict.is_empty() || interfaces.len() < 2 {
        return None;
    }
    let strict = strict.join(", ");
    Some(
        about("real-server-rp-filter", &strict, "packets of clients are taken wherever they come in")
            .warn(format!(
                "rp_filter is 1 (strict) on {strict}, and this node has several interfaces: packets of clients whose way back leads by another one are dropped without a word"
            ))
            .mend("sysctl -w net.ipv4.conf.all.rp_filter=2, and the same for these interfaces"),
    )
}
