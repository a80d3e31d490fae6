//! The neighbours of the director: their MAC addresses, and what they are told of the VIPs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pgha_machine::balancer::Event;
use pgha_machine::director::{self, Role};

use super::{Controller, ControllerError, peers, preflight};
use crate::net::{Change, IfIndex, Interface, NeighbourEvent, NetError, vip};

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

    /// None of them.
    pub(super) fn none() -> Self {
        Self { since: Instant::now(), done: ANNOUNCEMENTS.len() }
    }

    /// When the next is due; `None` when all are made.
    pub(super) fn next(&self) -> Option<Instant> {
        ANNOUNCEMENTS.get(self.done).map(|wait| self.since + *wait)
    }
}

impl Controller {
    /// Has the kernel find out a MAC address.
    pub(super) async fn resolve(&self, address: IpAddr) {
        let interface = self.interfaces.of(address).index();
        if let Err(error) = self.neighbours.resolve(interface, address).await {
            tracing::warn!(%address, "{error}");
        }
    }

    /// Has the kernel find out those of the other directors.
    pub(super) async fn resolve_peers(&self) {
        for address in peers::addresses(self.config.director()) {
            self.resolve(address).await;
        }
    }

    /// Takes in what the kernel says of a neighbour or of an interface.
    pub(super) async fn neighbour(
        &mut self,
        change: Result<Change, NetError>,
    ) -> Result<(), ControllerError> {
        match change? {
            Change::Neighbour(event) => self.neighbour_is(event),
            Change::Interface { index, mac, up } => {
                let known = self.interfaces.at(index);
                if let Some((known, mac)) =
                    known.zip(mac).filter(|(known, mac)| *mac != known.mac())
                {
                    let name = known.name().to_owned();
                    tracing::info!(interface = name, %mac, "the interface has another MAC address");
                    self.interfaces.renew(Interface::find(self.netlink.handle(), &name).await?);
                    self.program();
                    self.listen();
                    self.announce_again();
                }
                if !up {
                    self.without_carrier.insert(index);
                } else {
                    self.confirm_neighbours().await;
                    // What was announced meanwhile was not heard.
                    if self.without_carrier.remove(&index) && self.role.role() == Role::Active {
                        self.confirm_role().await;
                    }
                }
            }
            Change::InterfaceGone(index) => return self.interface_gone(index).await,
        }
        Ok(())
    }

    fn neighbour_is(&mut self, event: NeighbourEvent) {
        let NeighbourEvent { interface, address, mac } = event;
        if self.interfaces.of(address).index() != interface {
            return;
        }
        let neighbour = mac.and_then(|mac| self.interfaces.neighbour(interface, address, mac));
        if let Some(mac) = mac
            && peers::is_address(self.config.director(), address)
            && self.peers.learn(address, mac)
        {
            self.program();
        }
        self.balancer.handle(self.now(), Event::Neighbour(address, neighbour));
    }

    async fn interface_gone(&self, index: IfIndex) -> Result<(), ControllerError> {
        let Some(gone) = self.interfaces.at(index) else { return Ok(()) };
        // Another interface may have its name by now; a new start is right for that too.
        Interface::find(self.netlink.handle(), gone.name()).await?;
        Err(NetError::InterfaceDown { name: gone.name().to_owned() }.into())
    }

    /// Has the kernel confirm everybody's MAC address: the data plane's own traffic confirms none.
    pub(super) async fn confirm_neighbours(&self) {
        let members: BTreeSet<IpAddr> = self
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

    /// Makes the announcement that is due.
    pub(super) fn announce(&mut self) {
        self.announcements.done += 1;
        self.announce_once();
    }

    /// Has the active director make all announcements again.
    pub(super) fn announce_again(&mut self) {
        if self.role.role() == Role::Active {
            self.announcements = Announcements::from_now();
        }
    }

    /// Tells the network where the VIPs are.
    pub(super) fn announce_once(&mut self) {
        for vip in preflight::vips(&self.config) {
            if let Err(error) = vip::announce(self.interfaces.of(vip), vip) {
                tracing::warn!(%vip, "{error}");
            }
        }
        self.role.handle(self.started.elapsed(), director::Event::Announced);
    }
}
