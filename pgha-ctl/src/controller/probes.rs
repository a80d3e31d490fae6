//! Probes through the VIPs: what the machine asks for, and what came of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pgha_machine::balancer::{Event, Path, Probe, ProbeFinding, ServerView, ServiceView, Via};
use tokio::sync::mpsc;

use super::Controller;
use super::preflight;
use super::status::ProbeStatus;
use crate::config::Config;
use crate::net::probe::{Pace, Probed, Prober, Settings, startup};

/// How many results wait. Few: the prober waits for the controller's loop, and loses nothing.
const WAITING: usize = 64;

/// All probes, and how they ended.
#[derive(Debug)]
pub(super) struct Probes {
    prober: Prober,
    found: mpsc::Receiver<Probed>,
    ended: BTreeMap<Path, ProbeStatus>,
}

impl Probes {
    /// None yet.
    pub(super) fn new(config: &Config) -> Self {
        let (tell, found) = mpsc::channel(WAITING);
        Self { prober: Prober::new(settings(config), tell), found, ended: BTreeMap::new() }
    }

    /// The next that ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Probed> {
        self.found.recv().await
    }

    /// Goes by another configuration.
    pub(super) fn configure(&self, config: &Config) {
        self.prober.configure(settings(config));
    }

    /// Whether that came of a path that is probed still.
    fn count(&mut self, probed: &Probed) -> bool {
        let Some(ended) = self.ended.get_mut(&probed.path) else { return false };
        ended.count(&probed.finding);
        ended.said.clone_from(&probed.because);
        true
    }
}

impl Controller {
    /// Probes a path regularly from now on.
    pub(super) fn probe(&mut self, path: Path, via: Via) {
        self.probes.ended.entry(path).or_default();
        self.probes.prober.probe(path, via);
    }

    /// Stops that.
    pub(super) fn unprobe(&mut self, path: Path) {
        self.probes.ended.remove(&path);
        self.probes.prober.unprobe(&path);
    }

    /// How the probes of a service's servers ended.
    pub(super) fn probes_of(&self, view: &ServiceView) -> BTreeMap<IpAddr, ProbeStatus> {
        let ended = |server: &ServerView| {
            let path = Path { vip: view.vip, port: view.port, address: server.address };
            Some((server.address, self.probes.ended.get(&path)?.clone()))
        };
        view.servers.iter().filter_map(ended).collect()
    }

    /// Takes in how a probe ended, and how others have meanwhile, before anything follows from them: as many as
    /// may wait.
    pub(super) fn probed_all(&mut self, probed: Probed) {
        self.probed(probed);
        for _ in 0..WAITING {
            let Ok(probed) = self.probes.found.try_recv() else { return };
            self.probed(probed);
        }
    }

    /// Takes in how a probe ended.
    fn probed(&mut self, probed: Probed) {
        if self.probes.count(&probed) {
            let Probed { path, finding, because } = probed;
            tracing::debug!(vip = %path.vip, server = %path.address, ?finding, because, "probed");
            self.balancer.handle(self.now(), Event::Probed(path, finding));
        }
    }
}

impl ProbeStatus {
    fn count(&mut self, finding: &ProbeFinding) {
        let counter = match finding {
            ProbeFinding::Open => &mut self.open,
            ProbeFinding::Refused => &mut self.refused,
            ProbeFinding::NotAccepting(_) | ProbeFinding::Failing(_) => &mut self.not_accepting,
            ProbeFinding::Silent => &mut self.silent,
            ProbeFinding::Undecided(_) => &mut self.undecided,
        };
        *counter += 1;
    }
}

fn settings(config: &Config) -> Settings {
    let question = startup::message(config.login().user(), config.login().dbname());
    let speaking = config.services().iter().filter(|service| service.probe == Probe::Startup);
    Settings {
        interfaces: config.director().interfaces().to_vec(),
        pace: Pace { interval: config.health().interval(), timeout: config.health().timeout() },
        questions: speaking.map(|s| ((s.vip, s.port), question.clone())).collect(),
        vips: preflight::vips(config).into_iter().collect(),
    }
}
