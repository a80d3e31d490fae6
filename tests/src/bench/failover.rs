//! For how long nobody can write when a primary is lost: by the clock of a client that tries again and again.
mod figures;
mod log;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;

use figures::Series;
pub use figures::{Figures, Run};
use log::Logs;

use super::process::load;
use crate::lab::writer::{Acknowledged, Patience};
use crate::lab::{AgentOptions, Managed, SOON, WRITER_VIP, Writer, wait_until};

/// How often each primary is lost, where nobody says.
pub const RUNS: u32 = 10;
/// T of the profile `default`.
const LEASE: Duration = Duration::from_secs(2);
/// Restarts in place that are allowed in one term.
const RESTARTS: u32 = 100;
/// How long a failover may take before the bench gives up.
const GIVEN_UP: Duration = Duration::from_secs(120);
/// A client that does not wait for a server that is gone.
const SHORT: Patience = Patience {
    connect: Duration::from_millis(50),
    statement: Duration::from_millis(500),
    pause: Duration::from_millis(2),
    again: Duration::from_millis(5),
};

/// How a primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Loss {
    /// Its postmaster is killed: another node takes over
    Crash,
    /// The same with `hand_over = false`: PostgreSQL is started again in place (only where it is asked for)
    CrashInPlace,
    /// The cable of its host is pulled, a quorum of voters stops, and the director moves the writer VIP
    HostLossQuorum,
    /// The cable of its host is pulled, its lease ends, and the next primary takes the writer VIP
    HostLossLease,
}

impl Loss {
    const ALL: [Self; 4] =
        [Self::Crash, Self::CrashInPlace, Self::HostLossQuorum, Self::HostLossLease];

    /// Its name in the figures.
    const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::CrashInPlace => "crash_in_place",
            Self::HostLossQuorum => "host_loss_quorum",
            Self::HostLossLease => "host_loss_lease",
        }
    }

    /// What is wanted: the median and the 99th percentile, in milliseconds.
    const fn aim(self) -> (Option<u32>, u32) {
        match self {
            Self::Crash | Self::CrashInPlace => (Some(200), 800),
            Self::HostLossQuorum => (Some(800), 1_000),
            Self::HostLossLease => (None, 3_000),
        }
    }
}

/// Loses a primary `runs` times in each way of `only`; where that is empty, in every way that is not set up for it.
///
/// # Errors
/// Without etcd, or when a cluster does not come back.
pub fn measure(only: &[Loss], runs: u32) -> Result<Figures> {
    ensure!(runs > 0, "nothing is measured by no run");
    let mut figures = Figures::default();
    for loss in Loss::ALL {
        let wanted =
            if only.is_empty() { loss != Loss::CrashInPlace } else { only.contains(&loss) };
        if !wanted {
            continue;
        }
        let mut series = Series::default();
        // A budget of restarts ends.
        for begun in (0..runs).step_by(RESTARTS as usize) {
            let trial = Trial::begin("cargo xtask bench failover", true, Some(loss))?;
            let trial = trial.context("an etcd")?;
            for number in begun + 1..=runs.min(begun + RESTARTS) {
                let run = trial.lose(loss)?;
                eprintln!("{} {number} of {runs}: {run}", loss.name());
                series.add(run, load()?);
            }
            series.missing += trial.end()?.missing;
        }
        figures.add(loss, series);
    }
    Ok(figures)
}

/// A cluster that is written to, and loses its primary again and again.
#[derive(Debug)]
pub struct Trial {
    writer: Writer,
    managed: Managed,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Commits that a client was told of.
    pub acknowledged: usize,
    /// Those of them that are not there.
    pub missing: usize,
}

impl Trial {
    /// Three nodes, a controller, an etcd of three members, and a client that writes; nothing where there is no etcd:
    /// that is told in the name of `whom`. They are set up for that loss, if one is named: the writer VIP is the primary's or
    /// the director's, and a crash is followed by a restart in place or not.
    ///
    /// # Errors
    /// When anything of it cannot be started.
    pub fn begin(whom: &str, durable: bool, only: Option<Loss>) -> Result<Option<Self>> {
        let balanced = only == Some(Loss::HostLossQuorum);
        let in_place = format!("hand_over = false\nrestarts = {RESTARTS}\n");
        let options = AgentOptions {
            agent: if only == Some(Loss::CrashInPlace) { in_place } else { String::new() },
            lease: LEASE,
            controller: Some("lb1"),
            durable,
            balanced,
            ..AgentOptions::default()
        };
        let Some(managed) = Managed::up(whom, &options)? else { return Ok(None) };
        managed.wait_whole()?;
        let writer = Writer::start_with(&managed.lab.host("client")?, WRITER_VIP, SHORT)?;
        Ok(Some(Self { writer, managed }))
    }

    /// Loses the primary once, and waits until the cluster is whole again.
    ///
    /// # Errors
    /// When it is not, or something else happened than what was meant; with the logs.
    pub fn lose(&self, loss: Loss) -> Result<Run> {
        let run = self.try_to_lose(loss);
        run.with_context(|| format!("the logs:\n{}", Logs::of(&self.managed).tail()))
    }

    fn try_to_lose(&self, loss: Loss) -> Result<Run> {
        let (managed, writer) = (&self.managed, &self.writer);
        writer.wait_after(Instant::now(), SOON)?;
        let primary = managed.wait_whole()?;
        let (logs, connections) = (Logs::of(managed), writer.connections());
        let before = primary.status()?;
        let (clock, lost) = (SystemTime::now(), Instant::now());
        match loss {
            Loss::Crash | Loss::CrashInPlace => {
                primary.postgres().signal_postmaster(Signal::SIGKILL)?;
            }
            Loss::HostLossQuorum | Loss::HostLossLease => primary.host().link_down()?,
        }
        wait_until("another connection", GIVEN_UP, || Ok(writer.connections() > connections))?;
        writer.wait_after(Instant::now(), GIVEN_UP)?;
        let (begin, end) = longest(&writer.acknowledged(), lost).context("a gap")?;
        if matches!(loss, Loss::HostLossQuorum | Loss::HostLossLease) {
            primary.host().link_up()?;
        }
        let next = managed.wait_whole()?;
        let after = next.status()?;
        match loss {
            Loss::CrashInPlace => {
                ensure!(after.start != before.start && after.epoch == before.epoch);
            }
            Loss::Crash | Loss::HostLossQuorum | Loss::HostLossLease => {
                ensure!(after.epoch > before.epoch);
            }
        }
        let primary = next.host().name().to_owned();
        let events = logs.events(clock, clock + (end - lost))?;
        Ok(Run { gap: end - begin, primary, events })
    }

    /// Ends the client, and counts what it was told of and what of that is not there.
    ///
    /// # Errors
    /// When the primary does not answer.
    pub fn end(self) -> Result<Written> {
        let Self { writer, managed } = self;
        let written = writer.stop()?;
        ensure!(!written.is_empty(), "nothing was acknowledged");
        let there = managed.wait_whole()?.rows()?;
        let missing = written.iter().filter(|commit| !there.contains(&commit.id)).count();
        Ok(Written { acknowledged: written.len(), missing })
    }
}

/// The longest time without a commit of which a client was told, that ended after `lost`.
fn longest(acknowledged: &[Acknowledged], lost: Instant) -> Option<(Instant, Instant)> {
    let mut told: Vec<_> = acknowledged.iter().map(|commit| commit.at).collect();
    told.sort_unstable();
    let gaps = told.windows(2).map(|pair| (pair[0], pair[1]));
    gaps.filter(|(_, end)| *end > lost).max_by_key(|(begin, end)| *end - *begin)
}
