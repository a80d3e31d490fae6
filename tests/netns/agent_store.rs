//! The store is slow, changes its leader, is gone for everybody, or for the primary alone (scenario 8).
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_ctl::agent::status::{AgentStatus, RoleStatus};
use pgha_machine::NodeName;
use pgha_tests::lab::writer::nothing_after;
use pgha_tests::lab::{
    Agent, AgentOptions, Director, Managed, Running, SOON, WRITER_VIP, Writer, wait_until,
};
use serde_json::Value;

/// A primary, and a client of it that connected once.
struct Story<'m> {
    managed: &'m Managed,
    options: &'m AgentOptions,
    primary: &'m Agent,
    before: AgentStatus,
    writer: Writer,
}

impl<'m> Story<'m> {
    fn begin(managed: &'m Managed, options: &'m AgentOptions) -> Result<Self> {
        let primary = managed.agent("db1")?;
        primary.wait_voters(2)?;
        wait_until("all members to be confirmed", SOON, || {
            let record = primary.status()?.record.context("a record")?;
            Ok(record.members.len() == 3 && record.members.values().all(|member| member.confirmed))
        })?;
        let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
        writer.wait_after(Instant::now(), SOON)?;
        let before = primary.status()?;
        Ok(Self { managed, options, primary, before, writer })
    }

    /// The same start of PostgreSQL is the primary in the same epoch, and its client never had to connect again.
    fn is_undisturbed(&self) -> Result<()> {
        self.writer.wait_after(Instant::now(), SOON)?;
        let (status, before) = (self.primary.status()?, &self.before);
        ensure!(status.role == RoleStatus::Primary, "{}", status.role_text);
        ensure!(status.start == before.start, "{:?} after {:?}", status.start, before.start);
        ensure!(status.epoch == before.epoch, "{:?} after {:?}", status.epoch, before.epoch);
        let connections = self.writer.connections();
        ensure!(connections == 1, "the client has connected {connections} times");
        Ok(())
    }

    /// The same once the store is there for everybody, and everybody says so.
    fn is_as_before(&self) -> Result<()> {
        self.everybody_says("that the store is there", Some(true), None)?;
        self.is_undisturbed()
    }

    /// The store is gone, and every node and the controller say that the primary goes on all the same. It does, for
    /// longer than any lease could last.
    fn goes_on_without(&self, gone: Instant) -> Result<()> {
        let own = self.before.node.clone();
        self.everybody_says("that the primary goes on alone", Some(false), Some(&own))?;
        ensure!(self.primary.status()?.failsafe, "{:?}", self.primary.status()?);
        let told = self.managed.agent("db2")?.pgha(&["agent", "status"])?.run()?;
        ensure!(told.contains("db1 goes on as the primary"), "{told}");
        if let Some(controller) = &self.managed.controller
            && controller.is_running()?
        {
            wait_until("the controller to say so", SOON, || {
                Ok(controller.log()?.contains("db1 goes on as the primary without the store"))
            })?;
        }
        self.writer.wait_after(gone + self.options.lease * 3 / 2, SOON)?;
        self.is_undisturbed()
    }

    fn everybody_says(
        &self,
        what: &str,
        store: Option<bool>,
        alone: Option<&NodeName>,
    ) -> Result<()> {
        for agent in &self.managed.agents {
            wait_until(format!("{} to say {what}", agent.host().name()), SOON, || {
                let status = agent.status()?;
                let told = (status.store, status.failsafe_of.as_ref());
                ensure!(told == (store, alone), "{told:?}");
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Lets so much of a lease pass.
    fn lets_pass(&self, part: f64) -> Result<()> {
        let (begun, time) = (Instant::now(), self.options.lease.mul_f64(part));
        wait_until(format!("{time:?} to pass"), time * 2 + SOON, || Ok(begun.elapsed() >= time))
    }
}

/// `pgha status --watch` beside the test.
struct Watch(Running);

impl Watch {
    fn begin(controller: &Director) -> Result<Self> {
        let watch = Self(controller.start_pgha(["status", "--watch", "300ms"], "watch")?);
        watch.wait_shown("; renewed ")?;
        Ok(watch)
    }

    /// Waits until it shows that from now on.
    fn wait_shown(&self, what: &str) -> Result<()> {
        let before = self.0.log().len();
        wait_until(format!("`{what}` to be shown"), SOON, || {
            let log = self.0.log();
            let since = log.get(before..).context("what is shown from now on")?;
            ensure!(since.contains(what), "{since}");
            Ok(true)
        })
    }

    /// Ctrl-C ends it, and that is no failure.
    fn end(self) -> Result<()> {
        self.0.signal(Signal::SIGINT)?;
        let status = self.0.wait(SOON)?;
        ensure!(status.success(), "{status}: {}", self.0.log());
        Ok(())
    }
}

/// `pgha status` without the store: for how long it has been silent, and what was known last.
fn is_told_of(controller: &Director) -> Result<()> {
    let output = controller.pgha(["status"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {text}", output.status);
    for told in [
        "failover: db1 is the primary (epoch 1, ",
        "; the store has not answered controller lb1 for ",
        ", so this is what was known last",
        "failsafe: the primary goes on without the store, by the word of all members",
    ] {
        ensure!(text.contains(told), "{told} in {text}");
    }
    let failover = |status: &Value| status["managed"]["failover"].clone();
    let silent = |failover: &Value| failover["store_silent_ms"].as_u64().context("a time");
    let before = failover(&controller.status()?);
    ensure!(before["store_answers"] == false && before["renewed_ms"].is_null(), "{before}");
    let after = failover(&controller.status()?);
    ensure!(silent(&after)? > silent(&before)?, "{after} after {before}");
    Ok(())
}

fn with_controller() -> AgentOptions {
    AgentOptions { controller: Some("lb1"), ..AgentOptions::default() }
}

/// The leader of the store changes, or stands still, or everything of it does; then all of it is gone, and comes
/// back. The primary goes on, and operators see why. With one member less it has to end, and does so in time.
#[test]
fn netns_agent_store_that_is_gone_costs_no_primary_while_all_members_agree() -> Result<()> {
    let options = with_controller();
    let test = "netns_agent_store_that_is_gone_costs_no_primary_while_all_members_agree";
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let story = Story::begin(&managed, &options)?;
    let (db1, db3, store) = (managed.agent("db1")?, managed.agent("db3")?, &managed.store);

    let leader = store.leader(db1.host())?;
    store.kill(&leader)?;
    let others: Vec<_> = store.hosts().filter(|host| host.name() != leader).collect();
    let next = store.leader_among(db1.host(), &others)?;
    ensure!(next != leader, "{next} was the leader before");
    story.is_undisturbed()?;
    store.start_all()?;
    store.leader(db1.host())?;
    story.is_undisturbed()?;

    store.signal(&next, Signal::SIGSTOP)?;
    story.lets_pass(0.4)?;
    store.signal(&next, Signal::SIGCONT)?;
    story.is_as_before()?;
    let members: Vec<_> = store.hosts().map(|host| host.name().to_owned()).collect();
    members.iter().try_for_each(|member| store.signal(member, Signal::SIGSTOP))?;
    story.lets_pass(0.4)?;
    members.iter().try_for_each(|member| store.signal(member, Signal::SIGCONT))?;
    story.is_as_before()?;

    let controller = managed.controller.as_ref().context("a controller")?;
    let watch = Watch::begin(controller)?;
    store.kill_all()?;
    story.goes_on_without(Instant::now())?;
    watch.wait_shown("; the store has not answered controller lb1 for ")?;
    is_told_of(controller)?;
    store.start_all()?;
    story.is_as_before()?;
    watch.wait_shown("; renewed ")?;
    watch.end()?;

    store.kill_all()?;
    wait_until("the failsafe", SOON, || Ok(db1.status()?.failsafe))?;
    db3.kill()?;
    let alone = Instant::now();
    db1.wait_ended(SOON).or_else(|_| db1.wait_role(RoleStatus::Standby).map(drop))?;
    // The last grant came before that, and lasts for a lease.
    nothing_after(&story.writer.acknowledged(), alone + options.lease)?;
    db3.start()?;
    store.start_all()?;
    story.writer.wait_after(Instant::now(), SOON * 4)?;
    managed.finish([story.writer]).map(drop)
}

/// The primary alone does not reach the store; the others do, and they reach the primary. It ends in time, another
/// node follows it, and when it reaches the store again it is a standby of that.
#[test]
fn netns_agent_store_that_is_gone_for_the_primary_alone_makes_no_two() -> Result<()> {
    let options = with_controller();
    let test = "netns_agent_store_that_is_gone_for_the_primary_alone_makes_no_two";
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let story = Story::begin(&managed, &options)?;
    let db1 = managed.agent("db1")?;
    let beside = Writer::start(db1.host(), db1.host().address())?;
    beside.wait_after(Instant::now(), SOON)?;
    managed.store.hosts().try_for_each(|member| db1.host().cut_from(member))?;
    let cut = Instant::now();
    let successor = managed.wait_successor("db1")?;
    story.writer.wait_after(Instant::now(), SOON)?;
    let status = db1.status()?;
    ensure!(status.store == Some(false) && !status.failsafe, "{status:?}");
    ensure!(status.role != RoleStatus::Primary, "{status:?}");
    managed.store.hosts().try_for_each(|member| db1.host().join(member))?;
    db1.wait_streaming()?;
    ensure!(db1.status()?.epoch == successor.status()?.epoch, "{:?}", db1.status()?);
    story.writer.wait_after(Instant::now(), SOON)?;
    nothing_after(&beside.acknowledged(), cut + options.lease)?;
    managed.finish([beside, story.writer]).map(drop)
}

/// The record is in a file of the one controller. That is ended and killed, its disk stands still, shortly and for
/// longer than a lease, and then it is away for longer than a lease.
#[test]
fn netns_agent_store_of_the_controller_may_be_away() -> Result<()> {
    let options = AgentOptions { local: true, ..with_controller() };
    let test = "netns_agent_store_of_the_controller_may_be_away";
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let story = Story::begin(&managed, &options)?;
    let controller = managed.controller.as_ref().context("a controller")?;
    let disk = managed.disk.as_ref().context("a disk")?;

    let status = controller.terminate()?;
    ensure!(status.success(), "{status}");
    managed.start_controller()?;
    story.is_as_before()?;
    controller.kill()?;
    managed.start_controller()?;
    story.is_as_before()?;

    disk.freeze()?;
    story.lets_pass(0.3)?;
    disk.thaw()?;
    story.is_as_before()?;
    disk.freeze()?;
    story.goes_on_without(Instant::now())?;
    disk.thaw()?;
    story.is_as_before()?;

    let watch = Watch::begin(controller)?;
    controller.kill()?;
    story.goes_on_without(Instant::now())?;
    watch.wait_shown("failover: no word of the controller: ")?;
    watch.wait_shown("\nwhat was seen ")?;
    managed.start_controller()?;
    story.is_as_before()?;
    watch.wait_shown("; renewed ")?;
    watch.end()?;
    managed.finish([story.writer]).map(drop)
}
