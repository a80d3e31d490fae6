//! A new configuration, taken whole or not at all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pgha_machine::balancer::Event;

use super::error::ReloadError;
use super::neighbours::{Announcements, peer_address};
use super::watch::Orders;
use super::{Controller, preflight};
use crate::config::Config;
use crate::net::{NeighbourWatch, local_addresses};

impl Controller {
    /// Takes a new configuration, or keeps the old one and says what is wrong with the new.
    pub(super) async fn reload(&mut self) {
        match self.reloaded().await {
            Ok(()) => tracing::info!("reloaded {}", self.path.display()),
            Err(error) => tracing::warn!("the old configuration stays in force: {error}"),
        }
    }

    async fn reloaded(&mut self) -> Result<(), ReloadError> {
        let config = Config::load(&self.path)?;
        config.check_files(&self.path)?;
        let fixed = self.config.changes_needing_restart(&config);
        if !fixed.is_empty() {
            return Err(ReloadError::Restart(fixed));
        }
        let interfaces = preflight::interfaces(self.netlink.handle(), &config).await?;
        preflight::taken_new_vip(&interfaces, &self.config, &config).await?;
        let local = local_addresses(self.netlink.handle()).await?;
        if interfaces.reach_differently(&self.interfaces) {
            // What is known of a neighbour on another link than before is told again.
            self.neighbours = NeighbourWatch::new(&interfaces.indices())?;
        }
        self.interfaces = interfaces;
        config.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
        let primary_changed = config.primary() != self.config.primary();
        let new_vips = preflight::vips(&config) != preflight::vips(&self.config);
        self.orders.send_replace(Orders::of(&config));
        if primary_changed {
            // What the one before said last is no word of the new one's.
            self.balancer.handle(Event::PrimaryLost);
        }
        self.balancer.handle(Event::Configured(config.balancer(local)));
        self.config = config;
        let peers: BTreeSet<_> = self.config.director().peers().iter().map(peer_address).collect();
        self.peers.retain(|address, _| peers.contains(address));
        // A neighbour known for long is no news that would come by itself.
        let known = |peer: &IpAddr| Some((*peer, self.balancer.neighbour_at(*peer)?.mac));
        self.peers.extend(peers.iter().filter_map(known));
        self.program();
        self.resolve_peers().await;
        if primary_changed {
            self.ask_primary();
        }
        if new_vips {
            self.announcements = Announcements::from_now();
        }
        Ok(())
    }
}
