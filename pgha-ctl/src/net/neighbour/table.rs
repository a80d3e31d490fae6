use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pgha_machine::Mac;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::NeighbourEvent;
use crate::net::link::IfIndex;

/// What a message says about one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The kernel uses this MAC (NUD_VALID).
    Known(Mac),
    /// Nobody answered (NUD_FAILED).
    Failed,
    /// The entry is gone.
    Removed,
    /// Resolution has begun, or nothing is known yet.
    Nothing,
}

/// One address may be a neighbour on several interfaces, each time another host (link-local ones
/// always may).
pub(super) type Key = (IfIndex, IpAddr);

/// What was reported last of each neighbour.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<Key, Option<Mac>>);

impl Table {
    /// The event, if this changes what was reported.
    pub(super) fn apply(&mut self, key: Key, news: News) -> Option<NeighbourEvent> {
        let (interface, address) = key;
        let event = |mac| NeighbourEvent { interface, address, mac };
        let mac = match news {
            News::Known(mac) => Some(mac),
            News::Failed => None,
            News::Removed => {
                self.0.remove(&key)??;
                return Some(event(None));
            }
            News::Nothing => return None,
        };
        (self.0.insert(key, mac) != Some(mac)).then(|| event(mac))
    }

    /// The events that lead from what was reported to `now`, the whole table.
    pub(super) fn replace(
        &mut self,
        now: impl IntoIterator<Item = (Key, News)>,
    ) -> Vec<NeighbourEvent> {
        let now: Vec<_> = now.into_iter().collect();
        let present: BTreeSet<_> = now.iter().map(|(key, _)| *key).collect();
        let mut events = self.remove(|key| !present.contains(key));
        events.extend(now.into_iter().filter_map(|(key, news)| self.apply(key, news)));
        events
    }

    /// The events for the end of an interface.
    pub(super) fn forget(&mut self, interface: IfIndex) -> Vec<NeighbourEvent> {
        self.remove(|(on, _)| *on == interface)
    }

    fn remove(&mut self, which: impl Fn(&Key) -> bool) -> Vec<NeighbourEvent> {
        let gone: Vec<_> = self.0.keys().copied().filter(which).collect();
        gone.into_iter().filter_map(|key| self.apply(key, News::Removed)).collect()
    }
}

/// The neighbour a message is about, if it is an IPv4 or IPv6 one. (Entries of bridges come over the
/// same group.)
pub(super) fn entry(message: &NeighbourMessage) -> Option<(Key, News)> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let interface = IfIndex::new(message.header.ifindex)?;
    let address = message.attributes.iter().find_map(|attribute| {
        let NeighbourAttribute::Destination(destination) = attribute else { return None };
        if let NeighbourAddress::Inet(address) = destination {
            Some(IpAddr::V4(*address))
        } else if let NeighbourAddress::Inet6(address) = destination {
            Some(IpAddr::V6(*address))
        } else {
            None
        }
    })?;
    let mac = message.attributes.iter().find_map(|attribute| {
        let NeighbourAttribute::LinkLayerAddress(bytes) = attribute else { return None };
        Mac::new(bytes.as_slice().try_into().ok()?)
    });
    let news = match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Noarp
        | NeighbourState::Permanent => mac.map_or(News::Nothing, News::Known),
        NeighbourState::Failed => News::Failed,
        NeighbourState::Incomplete | NeighbourState::None | NeighbourState::Other(_) | _ => {
            News::Nothing
        }
    };
    Some(((interface, address), news))
}
