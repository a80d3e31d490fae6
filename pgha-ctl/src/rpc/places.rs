//! Places at a server: so many at once, and so many of one peer, whoever is slow, silent or numerous.
//!
//! There are two ways to come by one. Who has shown nothing yet is let in, and where that are too many, the
//! oldest of the largest crowd is thrown out: a crowd of silent ones keeps nobody out who speaks. Who has shown who
//! he is keeps his place, and has as many as he may.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Whose a place is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// An IPv4 address, or an IPv6 network of 64 bits, as whoever has one address there has all.
    Source(IpAddr),
    /// A local user, by his number.
    User(u32),
    /// Whoever a certificate or the kernel says he is.
    Known(String),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                Self::Source(Ipv6Addr::from_bits(network).into())
            }
            v4 @ IpAddr::V4(_) => Self::Source(v4),
        }
    }
}

/// Places.
#[derive(Clone, Debug)]
pub(super) struct Places {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    most: usize,
    most_of_one: usize,
    next: u64,
    /// In the order in which they were taken. What is dropped is thrown out.
    taken: BTreeMap<u64, (Peer, oneshot::Sender<()>)>,
}

/// A place, for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    table: Arc<Mutex<Table>>,
    number: u64,
    out: oneshot::Receiver<()>,
}

impl Places {
    /// So many, and so many of them for one peer.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        let table = Table { most, most_of_one, next: 0, taken: BTreeMap::new() };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// A place, at somebody else's cost if need be: [`Place::lost`] tells him.
    pub(super) fn take(&self, peer: Peer) -> Place {
        let mut table = lock(&self.table);
        if let Some(crowd) = table.crowd(&peer) {
            table.throw_out(&crowd);
        }
        self.place(&mut table, peer)
    }

    /// A place, if there is one.
    pub(super) fn try_take(&self, peer: Peer) -> Option<Place> {
        let mut table = lock(&self.table);
        table.crowd(&peer).is_none().then(|| self.place(&mut table, peer))
    }

    fn place(&self, table: &mut Table, peer: Peer) -> Place {
        let (number, out) = table.enter(peer);
        Place { table: Arc::clone(&self.table), number, out }
    }
}

impl Place {
    /// Waits until it is given to somebody else.
    pub(super) async fn lost(&mut self) {
        let _ = (&mut self.out).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.table).taken.remove(&self.number);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Who has too many places for one more of this peer, if somebody has: himself, or the one with the most of
    /// them; of several, that of the oldest.
    fn crowd(&self, peer: &Peer) -> Option<Peer> {
        let mut counts: BTreeMap<&Peer, usize> = BTreeMap::new();
        self.taken.values().for_each(|(of, _)| *counts.entry(of).or_default() += 1);
        if counts.get(peer).is_some_and(|own| *own >= self.most_of_one) {
            return Some(peer.clone());
        }
        let most = counts.values().max().filter(|_| self.taken.len() >= self.most)?;
        self.taken.values().map(|(of, _)| of).find(|of| counts[of] == *most).cloned()
    }

    fn enter(&mut self, peer: Peer) -> (u64, oneshot::Receiver<()>) {
        let (keep, out) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, (peer, keep));
        (number, out)
    }

    /// Ends the oldest of a peer.
    fn throw_out(&mut self, peer: &Peer) {
        let oldest = self.taken.iter().find(|(_, (of, _))| of == peer);
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.taken.remove(&number);
        }
    }
}
