//! The neighbours of the director: their MAC addresses, and what they are told of the VIPs.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pgha_machine::balancer::Event;

use super::{Controller, ControllerError, preflight};
use crate::net::{Change, Interface, NetError, arp};

/// When the VIPs are announced after a start: RFC 5227 asks for two announcements 2 s apart
/// (ANNOUNCE_NUM, ANNOUNCE_INTERVAL); one more comes for those who were not listening yet.
const ANNOUNCEMENTS: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(8)];

/// Which announcements are still to be made.
pub(super) struct Announcements {
    since: Instant,
    done: usize,
}

impl Announcements {
    /// All of them.
    pub(super) fn from_now() -> Self {
        Self { since: Instant::now(), done: 0 }
    }

    /// When the next is due; `None` when all are made.
    pub(super) fn next(&self) -> Option<Instant> {
        ANNOUNCEMENTS.get(self.done).map(|wait| self.since + *wait)
    }
}

impl Controller {
    /// Has the kernel find out a MAC address.
    pub(super) async fn resolve(&self, address: Ipv4Addr) {
        if let Err(error) = self.neighbours.resolve(address).await {
            tracing::warn!(%address, "{error}");
        }
    }

    /// Has the kernel find out those of the other directors.
    pub(super) async fn resolve_peers(&self) {
        for peer in self.config.director().peers() {
            self.resolve(peer.address()).await;
        }
    }

    /// Takes in what the kernel says of a neighbour or of the interface.
    pub(super) async fn neighbour(
        &mut self,
        change: Result<Change, NetError>,
    ) -> Result<(), ControllerError> {
        match change? {
            Change::Neighbour(event) => {
                let peer =
                    self.config.director().peers().iter().any(|p| p.address() == event.address);
                if let Some(mac) = event.mac.filter(|_| peer)
                    && self.peers.insert(event.address, mac) != Some(mac)
                {
                    self.program();
                }
                self.balancer.handle(Event::Neighbour(event.address, event.mac));
            }
            Change::Interface { mac, up } => {
                if let Some(mac) = mac.filter(|mac| *mac != self.mac) {
                    tracing::info!(%mac, "the interface has another MAC address");
                    self.mac = mac;
                    self.program();
                    self.interface =
                        Interface::find(self.netlink.handle(), self.interface.name()).await?;
                    self.announcements = Announcements::from_now();
                }
                if up {
                    self.confirm_neighbours().await;
                }
            }
            Change::InterfaceGone => {
                let name = self.config.director().interface();
                // Another interface may have its name by now; a new start is right for that too.
                Interface::find(self.netlink.handle(), name).await?;
                return Err(NetError::InterfaceDown { name: name.to_owned() }.into());
            }
        }
        Ok(())
    }

    /// Has the kernel confirm everybody's MAC address: the data plane's own traffic confirms none.
    pub(super) async fn confirm_neighbours(&self) {
        let members: BTreeSet<Ipv4Addr> = self
            .balancer
            .view()
            .into_iter()
            .flat_map(|service| service.servers)
            .filter(|server| !server.local)
            .map(|server| server.address)
            .collect();
        for address in members {
            self.resolve(address).await;
        }
        self.resolve_peers().await;
    }

    /// Tells the network where the VIPs are.
    pub(super) fn announce(&mut self) {
        self.announcements.done += 1;
        for vip in preflight::vips(&self.config) {
            if let Err(error) = arp::announce(&self.interface, vip) {
                tracing::warn!(%vip, "{error}");
            }
        }
    }
}
