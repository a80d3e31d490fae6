//! A controller ends in the middle of a failover, at each of its steps, and another one goes on.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_machine::Epoch;
use pgha_tests::lab::artifacts::coordinator_binary;
use pgha_tests::lab::observers::Excused;
use pgha_tests::lab::plan::address;
use pgha_tests::lab::{
    Agent, AgentOptions, Director, Managed, READER_VIP, SOON, WRITER_VIP, Writer, wait_for,
    wait_until,
};

/// Steps that there are in every failover that a controller takes part in.
const ALWAYS: [&str; 4] = [
    "watching: a freeze is sent",
    "watching: it is written",
    "frozen: a nomination is sent",
    "frozen: it is written",
];
/// Some steps are come to in some failovers only: so often each is tried.
const TRIES: usize = 2;
/// How many failovers there are at most.
const ROUNDS: usize = 30;

/// What becomes of a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// PostgreSQL ends.
    Server,
    /// Nobody hears of its host.
    Host,
}

/// A cluster in which one failover follows another.
struct Trial {
    managed: Managed,
    writer: Writer,
    program: PathBuf,
    steps: PathBuf,
    /// All steps that controllers have come to.
    seen: BTreeSet<String>,
    /// The failovers in which no controller could take the new primary out of the readers' tables at once.
    undirected: Vec<(Instant, Instant)>,
}

impl Trial {
    fn controller(&self) -> Result<&Director> {
        self.managed.controller.as_ref().context("a controller")
    }

    /// What the controller of this round has come to so far.
    fn steps(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(&self.steps)?.lines().map(str::to_owned).collect())
    }

    /// A failover, in which the controller ends after a step. Whether it did.
    fn round(&mut self, loss: Loss, end_after: Option<&str>) -> Result<bool> {
        let (former, before) = self.managed.primary()?;
        let controller = self.controller()?;
        fs::write(&self.steps, "")?;
        if controller.is_running()? {
            controller.kill()?;
        }
        let mut arguments = vec![OsStr::new("--steps"), self.steps.as_os_str()];
        if let Some(step) = end_after {
            arguments.extend([OsStr::new("--end-after"), OsStr::new(step)]);
        }
        // It has read the record, so that nothing it does is of another failover.
        let knows = || Ok(!self.steps()?.is_empty());
        controller.start_program(&self.program, &arguments, knows)?;
        let begun = Instant::now();
        match loss {
            Loss::Server => former.postgres().signal_postmaster(Signal::SIGKILL)?,
            Loss::Host => former.host().link_down()?,
        }
        let ended = wait_for("the end of the controller, or of the failover", SOON * 2, || {
            let ended = !controller.is_running()?;
            let over = self.managed.primary_after(before.epoch)?.is_some();
            Ok((ended || over).then_some(ended))
        })?;
        if ended {
            controller.start_until(|| Ok(controller.status().is_ok()))?;
        }
        if loss == Loss::Host {
            wait_for("another term", SOON * 4, || self.managed.primary_after(before.epoch))?;
            former.host().link_up()?;
        }
        let name = self.follows(former, before.epoch)?;
        if ended {
            self.directs_readers_to_others(&name)?;
        }
        println!(
            "after {:?}: {name} follows {}; the longest time without a commit: {} ms",
            end_after.filter(|_| ended).unwrap_or("nothing"),
            former.host().name(),
            self.gap_since(begun).as_millis()
        );
        if ended {
            self.undirected.push((begun, Instant::now()));
        }
        let steps = self.steps()?;
        self.seen.extend(steps);
        Ok(ended)
    }

    /// Waits until somebody follows a primary, with commits, and that one is its standby: unless it follows itself,
    /// which one may that has given its lease back.
    fn follows(&self, former: &Agent, before: Epoch) -> Result<String> {
        let next = wait_for("another term", SOON * 4, || self.managed.primary_after(before))?;
        self.writer.wait_after(Instant::now(), SOON * 2)?;
        if next.host().name() != former.host().name() {
            former.wait_streaming()?;
        }
        Ok(next.host().name().to_owned())
    }

    /// Waits until the director sends readers to others than the primary, and to somebody.
    fn directs_readers_to_others(&self, primary: &str) -> Result<()> {
        let maps = self.controller()?.maps(READER_VIP)?;
        wait_until(format!("{primary} to be no reader"), SOON, || {
            Ok(!maps.sends_to(address(primary)?.into())?)
        })
    }

    /// The longest time between two commits since then.
    fn gap_since(&self, moment: Instant) -> Duration {
        let acknowledged = self.writer.acknowledged();
        let since: Vec<_> = acknowledged.iter().map(|one| one.at).collect();
        let pairs = since.windows(2).filter(|pair| pair[1] > moment);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// Scenario 9: whatever the controller has done last, its successor goes on from there: one primary, nothing lost, and
/// one at a time. The steps are those that controllers came to in the failovers before.
#[test]
fn netns_coordinator_that_ends_after_any_step_is_followed_by_another() -> Result<()> {
    let test = "netns_coordinator_that_ends_after_any_step_is_followed_by_another";
    let agent = "guardian = false\nrestarts = 0\n".to_owned();
    let (controller, beside) = (Some("lb1"), Some("lb2"));
    let options = AgentOptions { controller, beside, agent, ..AgentOptions::default() };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    managed.agent("db1")?.wait_voters(2)?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    let steps = managed.lab.directory().join("steps");
    let program = coordinator_binary()?;
    let (seen, undirected) = (BTreeSet::new(), Vec::new());
    let mut trial = Trial { managed, writer, program, steps, seen, undirected };
    trial.round(Loss::Server, None)?;
    trial.round(Loss::Host, None)?;
    let (mut ended, mut tried) = (BTreeSet::new(), Vec::new());
    let mut rounds = 2;
    while let Some(step) = next(&trial.seen, &ended, &tried) {
        rounds += 1;
        ensure!(rounds <= ROUNDS, "there is no end of steps: {:?}", trial.seen);
        // Of a server that ends its agent tells, which freezes by itself.
        let loss = if step.starts_with("watching: ") { Loss::Host } else { Loss::Server };
        if trial.round(loss, Some(&step))? {
            ended.insert(step.clone());
        }
        tried.push(step);
    }
    println!("{rounds} failovers, the controller ended after {}: {ended:#?}", ended.len());
    let missing: Vec<_> = ALWAYS.iter().filter(|step| !ended.contains(**step)).collect();
    ensure!(missing.is_empty(), "no controller ended after {missing:?}");
    two_side_by_side(&mut trial, &options)?;
    converged(trial)
}

/// Two controllers, of which one is killed together with the primary: the other one goes on at once.
fn two_side_by_side(trial: &mut Trial, options: &AgentOptions) -> Result<()> {
    let controller = trial.controller()?;
    if !controller.is_running()? {
        controller.start_until(|| Ok(controller.status().is_ok()))?;
    }
    let beside = trial.managed.start_beside(options)?;
    let (former, before) = trial.managed.primary()?;
    let begun = Instant::now();
    former.postgres().signal_postmaster(Signal::SIGKILL)?;
    controller.kill()?;
    let name = trial.follows(former, before.epoch)?;
    ensure!(beside.is_running()? && !controller.is_running()?, "the other controller");
    // The readers are those of the one that was killed.
    controller.start_until(|| Ok(controller.status().is_ok()))?;
    trial.directs_readers_to_others(&name)?;
    trial.undirected.push((begun, Instant::now()));
    Ok(())
}

/// A step after which no controller has ended yet.
fn next(seen: &BTreeSet<String>, ended: &BTreeSet<String>, tried: &[String]) -> Option<String> {
    let again = |step: &&String| tried.iter().filter(|it| it == step).count() < TRIES;
    seen.difference(ended).filter(|step| *step != "watching").find(again).cloned()
}

/// One primary by everybody's word, and all that holds after any scenario; but that readers met a primary while there
/// was no controller to take it out of the tables is no fault of it.
fn converged(trial: Trial) -> Result<()> {
    let Trial { managed, writer, undirected, .. } = trial;
    let (_, record) = managed.primary()?;
    wait_until("everybody to agree", SOON, || {
        for agent in &managed.agents {
            let known = agent.status()?.record.context("a record")?;
            ensure!(known.holder() == record.holder() && known.epoch == record.epoch, "{known:?}");
            ensure!(known.freeze.is_none() && known.nomination.is_none(), "{known:?}");
        }
        Ok(true)
    })?;
    managed.finish_but([writer], &Excused { undirected, ..Excused::default() }).map(drop)
}
