//! A new configuration, taken whole or not at all.

use pgha_machine::balancer::Event;

use super::claims::Listening;
use super::error::ReloadError;
use super::events::{Happening, Kind};
use super::status::{ReloadReply, SCHEMA};
use super::watch::Manner;
use super::{Controller, peers, preflight};
use crate::config::Config;
use crate::net::{NeighbourWatch, local_addresses};

impl Controller {
    /// Takes a new configuration, or keeps the old one and says what is wrong with the new. Certificates
    /// are read anew too.
    pub(super) async fn reload(&mut self) -> Result<ReloadReply, ReloadError> {
        if let Some(happening) = self.api.refresh() {
            self.tell(happening);
        }
        match self.reloaded().await {
            Ok(()) => {
                let text = format!("reloaded {}", self.path.display());
                self.tell(Happening::info(Kind::Reloaded, text));
                let remarks = self.config.remarks().iter().map(ToString::to_string).collect();
                Ok(ReloadReply { schema: SCHEMA, file: self.path.clone(), remarks })
            }
            Err(error) => {
                let text = format!("the old configuration stays in force: {error}");
                self.tell(Happening::warning(Kind::ReloadRefused, text));
                Err(error)
            }
        }
    }

    async fn reloaded(&mut self) -> Result<(), ReloadError> {
        let config = Config::load(&self.path)?;
        config.check_files(&self.path)?;
        preflight::tls_files(&config)?;
        let fixed = self.config.changes_needing_restart(&config);
        if !fixed.is_empty() {
            return Err(ReloadError::Restart(fixed));
        }
        let interfaces = preflight::interfaces(self.netlink.handle(), &config).await?;
        preflight::new_vips_free(&interfaces, &self.config, &config, &self.peers).await?;
        let listening = Listening::open(&interfaces, &preflight::vips(&config))?;
        let local = local_addresses(self.netlink.handle()).await?;
        if interfaces.reach_differently(&self.interfaces) {
            // What is known of a neighbour on another link than before is told again.
            self.neighbours = NeighbourWatch::new(&interfaces.indices())?;
        }
        self.interfaces = interfaces;
        self.listening = listening;
        config.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
        let primary_changed = config.primary() != self.config.primary();
        let login_changed = config.login() != self.config.login();
        let new_vips = preflight::vips(&config) != preflight::vips(&self.config);
        self.manner.send_replace(Manner::of(&config));
        if primary_changed {
            // What the one before said last is no word of the new one's.
            self.balancer.handle(self.now(), Event::PrimaryForgotten);
        }
        self.balancer.handle(self.now(), Event::Configured(config.balancer(local)));
        self.config = config;
        self.probes.configure(&self.config);
        self.peers.retain(self.config.director());
        for address in peers::addresses(self.config.director()) {
            // A neighbour known for long is no news that would come by itself.
            if let Some(known) = self.balancer.neighbour_at(address) {
                self.peers.learn(address, known.mac);
            }
        }
        self.program();
        self.resolve_peers().await;
        if primary_changed {
            self.ask_primary();
        }
        if new_vips {
            self.announce_again();
        }
        if login_changed {
            // Beside the loop: servers may take their time to answer.
            let config = self.config.clone();
            tokio::spawn(async move {
                if let Err(error) = preflight::login(&config).await {
                    tracing::warn!("the login is in force as reloaded, and is of no use: {error}");
                }
            });
        }
        Ok(())
    }
}
