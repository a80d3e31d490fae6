//! The VIPs as the network sees them: is one in use, announcing one, and hearing who else claims
//! one. For IPv4 that is ARP (RFC 826, RFC 5227), for IPv6 neighbour discovery (RFC 4861, RFC 4862).

mod claims;
mod frame;
mod groups;
mod placed;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use pgha_machine::Mac;
use tokio::time::{Instant, timeout_at};

use super::error::NetError;
use super::link::Interface;
pub use claims::{Claim, Claims};
use frame::{Said, Word};
use groups::Groups;
pub use placed::{Placed, place};
use socket::{Hears, Listener};

/// RFC 5227, section 1.1: PROBE_NUM. RFC 4862 asks for one (DupAddrDetectTransmits), and allows more.
const PROBES: u32 = 3;

/// Somebody else uses a VIP, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// Who.
    pub mac: Mac,
    /// It only wants to know whether anybody has the VIP.
    pub asks: bool,
}

/// Whether somebody has `vip` on the interface's network: the first that answers or claims it, or where
/// nobody does, the first that probes for it too. A host that merely asks in its name does not count (a
/// real server whose `arp_announce` is wrong). Three probes go out within `patience`, evenly spaced, and the
/// time after each is spent listening. RFC 5227 waits 5 to 7 seconds, RFC 4862 at least one; less
/// finds those who answer fast.
///
/// # Errors
/// No CAP_NET_RAW, the interface is gone or down, or it has no IPv6 for an IPv6 VIP.
pub async fn probe(
    interface: &Interface,
    vip: IpAddr,
    patience: Duration,
) -> Result<Option<User>, NetError> {
    let own = interface.mac();
    let listener = Listener::open(interface, Hears::whoever_uses(vip))?;
    // Answers come to all nodes, and others' probes to the VIP's own group (RFC 4862, 5.4.2).
    let _groups = Groups::join(interface, [vip])?;
    let probe = frame::probe(own, vip);
    let begin = Instant::now();
    let mut asker = None;
    for round in 1..=PROBES {
        listener.send(&probe)?;
        let end = begin + patience * round / PROBES;
        while let Ok(word) = timeout_at(end, listener.next()).await {
            match other_user(word?, vip, own) {
                Some(user) if !user.asks => return Ok(Some(user)),
                // Whoever has the VIP may answer only now.
                user => asker = asker.or(user),
            }
        }
    }
    Ok(asker)
}

/// Everybody else who answers when this node asks for `vip` in the name of `from`, as any host does before it
/// sends there: one question, and `patience` to answer it. Who hears that takes this node for no user of the
/// VIP, and for none to come.
///
/// # Errors
/// No CAP_NET_RAW, or the interface is gone or down.
pub async fn answerers(
    interface: &Interface,
    from: IpAddr,
    vip: IpAddr,
    patience: Duration,
) -> Result<BTreeSet<Mac>, NetError> {
    let own = interface.mac();
    let listener = Listener::open(interface, Hears::whoever_claims(vip))?;
    if let Some(question) = frame::question(own, from, vip) {
        listener.send(&question)?;
    }
    let end = Instant::now() + patience;
    let mut heard = BTreeSet::new();
    while let Ok(word) = timeout_at(end, listener.next()).await {
        let Word { address, mac, said } = word?;
        if address == vip && mac != own && said == Said::Answers {
            heard.insert(mac);
        }
    }
    Ok(heard)
}

/// Tells the network that `vip` is at this interface, once: a gratuitous ARP request (RFC 5227,
/// section 3), or an unsolicited neighbour advertisement to all nodes (RFC 4861, section 7.2.6).
/// Neighbours that know another MAC for the VIP take this one over. Repeating it is the caller's
/// business.
///
/// # Errors
/// No CAP_NET_RAW, or the interface is gone or down.
pub fn announce(interface: &Interface, vip: IpAddr) -> Result<(), NetError> {
    let socket = socket::open(interface, Hears::Nothing)?;
    socket::send(&socket, &frame::announcement(interface.mac(), vip))
}

/// Somebody else who has `vip` or is about to (RFC 5227, 2.1.1; RFC 4862, 5.4.3).
fn other_user(word: Word, vip: IpAddr, own: Mac) -> Option<User> {
    let asks = match word.said {
        Said::Claims | Said::Answers => false,
        Said::Probes => true,
        Said::Uses => return None,
    };
    (word.address == vip && word.mac != own).then_some(User { mac: word.mac, asks })
}
