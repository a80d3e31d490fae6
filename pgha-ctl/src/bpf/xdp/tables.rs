//! The look-up tables as they lie in the maps. Building one takes milliseconds, so none is built twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgha_common::maps::{MAX_REALS, Tables};
use pgha_common::table::RING_SLOTS;
use pgha_machine::table::{self, Entry};
use zerocopy::FromZeros;

use super::maps::Raw;

#[cfg(test)]
mod tests;

/// What the tables of each service were built for, by its number.
#[derive(Default)]
pub(super) struct Built(BTreeMap<u16, (Vec<Entry>, Arc<Raw<Tables>>)>);

impl Built {
    /// The tables of a service with these servers.
    pub(super) fn tables(&mut self, service: u16, entries: Vec<Entry>) -> Arc<Raw<Tables>> {
        if let Some((of, tables)) = self.0.get(&service)
            && *of == entries
        {
            return Arc::clone(tables);
        }
        // Services often have the same servers, each with ids of its own for them.
        let like = self.0.values().find(|(of, _)| are_alike(of, &entries));
        let tables = match like {
            Some((of, tables)) => renamed(tables, of, &entries),
            None => tables(&entries),
        };
        let tables = Arc::from(tables);
        self.0.insert(service, (entries, Arc::clone(&tables)));
        tables
    }

    /// Forgets the services that are none of these.
    pub(super) fn retain(&mut self, services: &BTreeSet<u16>) {
        self.0.retain(|service, _| services.contains(service));
    }
}

/// Whether two services have the same servers with the same weights: then their tables differ in the ids
/// alone.
fn are_alike(a: &[Entry], b: &[Entry]) -> bool {
    let same = |(a, b): (&Entry, &Entry)| (a.address, a.weight) == (b.address, b.weight);
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn tables(entries: &[Entry]) -> Box<Raw<Tables>> {
    let mut boxed = empty();
    let Raw(tables) = &mut *boxed;
    tables.maglev.copy_from_slice(&table::maglev(entries));
    let ring = table::ring(entries);
    let length = ring.len().min(RING_SLOTS);
    tables.ring[..length].copy_from_slice(&ring[..length]);
    tables.ring_length = u16::try_from(length).unwrap_or(u16::MAX);
    boxed
}

/// The tables of servers that have other ids.
fn renamed(Raw(built): &Raw<Tables>, of: &[Entry], to: &[Entry]) -> Box<Raw<Tables>> {
    // No server stays no server.
    let mut names = vec![0; MAX_REALS as usize];
    for (before, after) in of.iter().zip(to) {
        names[usize::from(before.id)] = after.id;
    }
    let mut boxed = empty();
    let Raw(tables) = &mut *boxed;
    let slots = built.maglev.iter().zip(&mut tables.maglev);
    for (before, after) in slots.chain(built.ring.iter().zip(&mut tables.ring)) {
        *after = names[usize::from(*before)];
    }
    tables.ring_length = built.ring_length;
    boxed
}

fn empty() -> Box<Raw<Tables>> {
    Box::new(Raw(Tables::new_zeroed()))
}

/// Whether two tables say the same.
pub(super) fn same(a: &Arc<Raw<Tables>>, b: &Arc<Raw<Tables>>) -> bool {
    let equal = |Raw(a): &Raw<Tables>, Raw(b): &Raw<Tables>| {
        a.ring_length == b.ring_length && a.ring == b.ring && a.maglev == b.maglev
    };
    Arc::ptr_eq(a, b) || equal(a, b)
}
