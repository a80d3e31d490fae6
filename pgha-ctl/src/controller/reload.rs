//! A new configuration, taken whole or not at all.

use pgha_machine::balancer::Event;
use tokio::sync::mpsc;

use super::book::Reply;
use super::claims::Listening;
use super::error::ReloadError;
use super::events::{Happening, Kind};
use super::status::{Refusal, ReloadReply, SCHEMA};
use super::watch::{Manner, Told};
use super::{Controller, peers, preflight};
use crate::config::Config;
use crate::net::{NeighbourWatch, local_addresses};

impl Controller {
    /// Takes a new configuration, or keeps the old one and says what is wrong with the new, to who asked
    /// for it too. Certificates are read anew too.
    pub(super) async fn reload(&mut self, asked: Option<Reply<ReloadReply>>) {
        if let Some(happening) = self.api.refresh() {
            self.tell(happening);
        }
        match self.reloaded().await {
            Ok(login_changed) => {
                let text = format!("reloaded {}", self.path.display());
                self.tell(Happening::info(Kind::Reloaded, text));
                let remarks = self.config.remarks().iter().map(ToString::to_string).collect();
                let file = self.path.clone();
                let reply = ReloadReply { schema: SCHEMA, file, remarks, warnings: Vec::new() };
                if login_changed {
                    // Beside the loop: servers may take their time to answer.
                    let (config, tell) = (self.config.clone(), self.tell.clone());
                    tokio::spawn(try_login(config, tell, reply, asked));
                } else {
                    answer(asked, Ok(reply));
                }
            }
            Err(error) => {
                let text = format!("the old configuration stays in force: {error}");
                self.tell(Happening::warning(Kind::ReloadRefused, text));
                answer(asked, Err(Refusal::of(error)));
            }
        }
    }

    /// Whether the login is another now.
    async fn reloaded(&mut self) -> Result<bool, ReloadError> {
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
        Ok(login_changed)
    }
}

/// Tries a login that is in force, and tells whoever asked for it and everybody else if it is of no use.
async fn try_login(
    config: Config,
    tell: mpsc::Sender<Told>,
    mut reply: ReloadReply,
    asked: Option<Reply<ReloadReply>>,
) {
    if let Err(error) = preflight::login(&config).await {
        let warning = format!("the login is in force as reloaded, and is of no use: {error}");
        reply.warnings.push(warning.clone());
        // The controller may be ending.
        let _ = tell.send(Told::LoginRefused(warning)).await;
    }
    answer(asked, Ok(reply));
}

/// Whoever asked may be gone by now, and a signal waits for no answer.
fn answer(asked: Option<Reply<ReloadReply>>, reloaded: Result<ReloadReply, Refusal>) {
    let _ = asked.map(|asked| asked.send(reloaded));
}
