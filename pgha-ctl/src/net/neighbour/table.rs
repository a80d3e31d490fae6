use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

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
    /// ARP got no answer (NUD_FAILED).
    Failed,
    /// The entry is gone.
    Removed,
    /// Resolution has begun, or nothing is known yet.
    Nothing,
}

/// What was reported last of each neighbour.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<Ipv4Addr, Option<Mac>>);

impl Table {
    /// The event, if this changes what was reported.
    pub(super) fn apply(&mut self, address: Ipv4Addr, news: News) -> Option<NeighbourEvent> {
        let mac = match news {
            News::Known(mac) => Some(mac),
            News::Failed => None,
            News::Removed => {
                self.0.remove(&address)??;
                return Some(NeighbourEvent { address, mac: None });
            }
            News::Nothing => return None,
        };
        (self.0.insert(address, mac) != Some(mac)).then_some(NeighbourEvent { address, mac })
    }

    /// The events that lead from what was reported to `now`, the whole table.
    pub(super) fn replace(
        &mut self,
        now: impl IntoIterator<Item = (Ipv4Addr, News)>,
    ) -> Vec<NeighbourEvent> {
        let now: Vec<_> = now.into_iter().collect();
        let present: BTreeSet<_> = now.iter().map(|(address, _)| *address).collect();
        let gone: Vec<_> =
            self.0.keys().copied().filter(|address| !present.contains(address)).collect();
        let gone = gone.into_iter().map(|address| (address, News::Removed));
        gone.chain(now).filter_map(|(address, news)| self.apply(address, news)).collect()
    }
}

/// The neighbour a message is about, if it is an IPv4 one of this interface. (Entries of bridges
/// and of IPv6 come over the same group.)
pub(super) fn entry(message: &NeighbourMessage, index: IfIndex) -> Option<(Ipv4Addr, News)> {
    if message.header.family != AddressFamily::Inet || message.header.ifindex != index.get() {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) = attribute {
            Some(*address)
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
    Some((address, news))
}
