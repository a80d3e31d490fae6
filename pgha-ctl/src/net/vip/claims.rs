//! Who else says that it has a VIP.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::libc;
use pgha_machine::Mac;

use super::frame::{Said, Word};
use super::groups::Groups;
use super::socket::{Hears, Listener};
use crate::net::error::NetError;
use crate::net::link::Interface;

/// Somebody else told the network that a VIP is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The VIP claimed.
    pub vip: IpAddr,
    /// Where the claim says it is.
    pub mac: Mac,
}

/// Listens on one interface for claims of VIPs by others: what they tell everybody, by gratuitous ARP and
/// unsolicited neighbour advertisements. A host that merely asks in a VIP's name (a real server whose
/// `arp_announce` is wrong) is not heard: it wants no connections. Nor is one that only answers this node
/// (one whose `arp_ignore` is wrong): [`super::answerers`] finds those.
///
/// While this lives, the interface is in the multicast groups of its IPv6 VIPs too. Without that
/// its card, and a switch with MLD snooping, would keep the solicitations for them from the data
/// plane.
#[derive(Debug)]
pub struct Claims {
    own: Mac,
    vips: BTreeSet<IpAddr>,
    arp: Option<Listener>,
    neighbours: Option<Listener>,
    _groups: Groups,
}

impl Claims {
    /// Listens from now on. Needs a tokio runtime with I/O. When the interface's MAC address or the
    /// VIPs change, make new ones.
    ///
    /// # Errors
    /// No CAP_NET_RAW, the interface is gone, or it has no IPv6 for an IPv6 VIP.
    pub fn open(
        interface: &Interface,
        vips: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, NetError> {
        let vips: BTreeSet<_> = vips.into_iter().collect();
        let listener = |wanted: fn(&IpAddr) -> bool| {
            let vip = vips.iter().copied().find(wanted);
            vip.map(|vip| Listener::open(interface, Hears::whoever_claims(vip))).transpose()
        };
        Ok(Self {
            own: interface.mac(),
            arp: listener(IpAddr::is_ipv4)?,
            neighbours: listener(IpAddr::is_ipv6)?,
            _groups: Groups::join(interface, vips.iter().copied())?,
            vips,
        })
    }

    /// The next claim. Cancel-safe: a claim is taken from the kernel only when it is returned. It
    /// waits where there are no VIPs, and while the interface is down or gone (of which
    /// [`NeighbourWatch`](crate::net::NeighbourWatch) tells).
    ///
    /// # Errors
    /// The kernel refused to be read.
    pub async fn next(&mut self) -> Result<Claim, NetError> {
        loop {
            let word = tokio::select! {
                word = hear(self.arp.as_ref()) => word?,
                word = hear(self.neighbours.as_ref()) => word?,
            };
            if let Some(claim) = claim(word, self.own, &self.vips) {
                return Ok(claim);
            }
        }
    }
}

async fn hear(listener: Option<&Listener>) -> Result<Word, NetError> {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.next().await {
            // Told once each time the interface goes down; it is heard again when it is up.
            Err(NetError::Socket { source, .. })
                if source.raw_os_error() == Some(libc::ENETDOWN) => {}
            result => return result,
        }
    }
}

fn claim(word: Word, own: Mac, vips: &BTreeSet<IpAddr>) -> Option<Claim> {
    let by_other = word.said == Said::Claims && word.mac != own;
    let claim = Claim { vip: word.address, mac: word.mac };
    (by_other && vips.contains(&word.address)).then_some(claim)
}
