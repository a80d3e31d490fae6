//! The other directors: which MAC address each of their addresses has.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use pgha_machine::Mac;
use tokio::time::timeout;

use super::interfaces::Interfaces;
use crate::config::{Director, Peer};
use crate::net::{Change, NeighbourEvent, NeighbourWatch, NetError};

/// How long the directors have to say their MAC addresses at a start, when one of them may have a VIP.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the other directors.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// What the kernel said, by address.
    known: BTreeMap<IpAddr, Mac>,
    former: Vec<Former>,
}

/// What a former controller knew of one of them. It counts until the kernel has told of each of the
/// addresses: it may be the last of them whose MAC address the others do not have.
#[derive(Debug)]
struct Former {
    /// Addresses of which the kernel has not told.
    unheard: BTreeSet<IpAddr>,
    macs: BTreeSet<Mac>,
}

impl Former {
    fn nothing(peer: &Peer) -> Self {
        Self { unheard: peer.addresses().iter().copied().collect(), macs: BTreeSet::new() }
    }
}

impl Peers {
    /// Begins with what a former controller knew, as far as it is still of use.
    pub(super) fn inherit(pairs: BTreeSet<(Mac, IpAddr)>, director: &Director) -> Self {
        let mut former: Vec<_> = director.peers().iter().map(Former::nothing).collect();
        for (mac, address) in pairs {
            let own = former.iter_mut().filter(|former| former.unheard.contains(&address));
            own.for_each(|former| former.macs.extend([mac]));
        }
        Self { known: BTreeMap::new(), former }
    }

    /// Forgets those that the configuration does not name.
    pub(super) fn retain(&mut self, director: &Director) {
        self.known.retain(|address, _| is_address(director, *address));
        for former in &mut self.former {
            former.unheard.retain(|address| is_address(director, *address));
        }
        self.former.retain(|former| !former.unheard.is_empty());
    }

    /// Takes in the MAC address of one of their addresses; whether that is news.
    pub(super) fn learn(&mut self, address: IpAddr, mac: Mac) -> bool {
        for former in &mut self.former {
            former.unheard.remove(&address);
        }
        self.former.retain(|former| !former.unheard.is_empty());
        self.known.insert(address, mac) != Some(mac)
    }

    /// Each director's MAC addresses, each with each of its addresses: a host may send from any of its
    /// addresses by any of its interfaces.
    pub(super) fn pairs(&self, director: &Director) -> BTreeSet<(Mac, IpAddr)> {
        let of = |peer: &Peer| {
            let addresses = peer.addresses().iter();
            let pairs = self
                .macs(peer)
                .into_iter()
                .flat_map(move |mac| addresses.clone().map(move |address| (mac, *address)));
            pairs.collect::<Vec<_>>()
        };
        director.peers().iter().flat_map(of).collect()
    }

    fn macs(&self, peer: &Peer) -> BTreeSet<Mac> {
        let is_own = |address: &IpAddr| peer.addresses().contains(address);
        let former = self.former.iter().filter(|former| former.unheard.iter().any(is_own));
        let former = former.flat_map(|former| former.macs.iter());
        let known = peer.addresses().iter().filter_map(|address| self.known.get(address));
        known.chain(former).copied().collect()
    }

    /// Whether that MAC address is one of theirs, or may be one that is not known yet.
    pub(super) fn may_have(&self, mac: Mac, director: &Director) -> bool {
        self.has(mac) || addresses(director).any(|address| !self.known.contains_key(&address))
    }

    /// Whether one of them has that MAC address.
    pub(super) fn has(&self, mac: Mac) -> bool {
        let former = self.former.iter().flat_map(|former| former.macs.iter());
        self.known.values().chain(former).any(|known| *known == mac)
    }
}

/// Whether another director has that address.
pub(super) fn is_address(director: &Director, address: IpAddr) -> bool {
    addresses(director).any(|known| known == address)
}

/// The addresses of the other directors.
pub(super) fn addresses(director: &Director) -> impl Iterator<Item = IpAddr> {
    director.peers().iter().flat_map(|peer| peer.addresses().iter().copied())
}

/// Asks the network for the MAC addresses of the other directors, before there is a controller that
/// follows them. Ends early when it knows all of `enough`.
pub(super) async fn ask(
    interfaces: &Interfaces,
    director: &Director,
    enough: &BTreeSet<Mac>,
) -> Result<Peers, NetError> {
    let known = macs(interfaces, &addresses(director).collect(), enough).await?;
    Ok(Peers { known, former: Vec::new() })
}

/// Asks the network for the MAC addresses of hosts. Ends early when it knows all of `enough`.
pub(super) async fn macs(
    interfaces: &Interfaces,
    addresses: &BTreeSet<IpAddr>,
    enough: &BTreeSet<Mac>,
) -> Result<BTreeMap<IpAddr, Mac>, NetError> {
    let mut watch = NeighbourWatch::new(&interfaces.indices())?;
    for address in addresses {
        watch.resolve(interfaces.of(*address).index(), *address).await?;
    }
    let mut known = BTreeMap::new();
    let asked = async {
        while !enough.iter().all(|mac| known.values().any(|found| found == mac)) {
            if let Change::Neighbour(NeighbourEvent { interface, address, mac: Some(mac) }) =
                watch.next().await?
                && addresses.contains(&address)
                && interfaces.of(address).index() == interface
            {
                known.insert(address, mac);
            }
        }
        Ok(())
    };
    match timeout(PATIENCE, asked).await {
        Ok(Err(error)) => Err(error),
        // Whoever is not known by now is taken for a stranger.
        Ok(Ok(())) | Err(_) => Ok(known),
    }
}
