//! Since when each real server is as it is, by the clock on the wall.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use pgha_machine::balancer::{ServerView, ServiceView, Withheld};

use super::state::ServerState;
use super::status::{ChangedStatus, SinceStatus};

/// A real server of a service: VIP, port, address.
type Key = (IpAddr, u16, IpAddr);

/// What was seen, by looks at the views one after the other. Nothing is older than the first of them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    servers: BTreeMap<Key, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    state: ServerState,
    changed: ChangedStatus,
}

impl Changes {
    /// Takes in how the services are at `now`, in seconds since the Unix epoch. Who is no member any more is
    /// forgotten.
    pub(super) fn observe(&mut self, views: &[ServiceView], now: u64) {
        let mut before = std::mem::take(&mut self.servers);
        for view in views {
            for server in &view.servers {
                let key = (view.vip, view.port, server.address);
                self.servers.insert(key, seen(before.remove(&key), server, now));
            }
        }
    }

    /// What was seen of a service's servers, by their ids.
    pub(super) fn of(&self, view: &ServiceView) -> BTreeMap<u16, ChangedStatus> {
        let of = |server: &ServerView| {
            let seen = self.servers.get(&(view.vip, view.port, server.address))?;
            Some((server.id, seen.changed.clone()))
        };
        view.servers.iter().filter_map(of).collect()
    }
}

fn seen(before: Option<Seen>, server: &ServerView, now: u64) -> Seen {
    let state = ServerState::of(server);
    let since = match &before {
        Some(before) if before.state == state => before.changed.state,
        _ => now,
    };
    let known = before.map_or_else(Vec::new, |before| before.changed.withheld);
    let since_when = |reason: Withheld| {
        let known = known.iter().find(|known| known.reason == reason);
        SinceStatus { reason, since: known.map_or(now, |known| known.since) }
    };
    let withheld = server.withheld.iter().copied().map(since_when).collect();
    Seen { state, changed: ChangedStatus { state: since, withheld } }
}
