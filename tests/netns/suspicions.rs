//! A primary is suspected rightly or wrongly: by silence, and by a network that is cut in part.
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_machine::failover::record::Record;
use pgha_tests::lab::{Agent, AgentOptions, Managed, SOON, WRITER_VIP, Writer, wait_until};

/// Long enough that a machine under load stops and goes on within it.
const LEASE: Duration = Duration::from_secs(20);

fn record(agent: &Agent) -> Result<Record> {
    agent.status()?.record.context("a record")
}

/// A freeze that was wrong is undone: the primary's agent is stopped for a moment, and so is a voter's, so that
/// nothing is proven. It renews again; the voter that has stopped streams again, and no client has noticed.
fn a_freeze_is_undone(managed: &Managed, writer: &Writer) -> Result<()> {
    let [db1, db2, db3] = ["db1", "db2", "db3"].map(|name| managed.agent(name));
    let (db1, db2, db3) = (db1?, db2?, db3?);
    let (before, connections) = (record(db1)?, writer.connections());
    db3.signal(Signal::SIGSTOP)?;
    db1.signal(Signal::SIGSTOP)?;
    wait_until("a freeze", LEASE, || Ok(record(db2)?.freeze.is_some()))?;
    db1.signal(Signal::SIGCONT)?;
    wait_until("the end of the freeze", LEASE, || Ok(record(db2)?.freeze.is_none()))?;
    db3.signal(Signal::SIGCONT)?;
    db2.wait_streaming()?;
    db1.wait_voters(2)?;
    writer.wait_after(Instant::now(), SOON)?;
    let after = record(db1)?;
    ensure!(after.epoch == before.epoch, "{:?} after {:?}", after.epoch, before.epoch);
    ensure!(after.freezes > before.freezes, "nothing was frozen");
    ensure!(writer.connections() == connections, "a client had to connect again");
    Ok(())
}

/// Scenario 6: one standby hears nothing of the primary, everybody else does.
fn a_cut_between_two_is_no_failover(managed: &Managed, writer: &Writer) -> Result<()> {
    let (db1, db2) = (managed.agent("db1")?, managed.agent("db2")?);
    let (before, connections) = (record(db1)?, writer.connections());
    db1.host().cut_from(db2.host())?;
    let suspicious = before.pace.overdue() + before.pace.silence * 2;
    writer.wait_after(Instant::now() + suspicious, SOON + suspicious)?;
    let after = record(db1)?;
    ensure!(after.epoch == before.epoch && after.freezes == before.freezes, "{after:?}");
    ensure!(writer.connections() == connections, "a client had to connect again");
    Ok(())
}

/// Scenario 11: `ANY 1` of two voters, and one of them is behind: the other becomes the primary.
fn the_voter_that_is_not_behind_follows(managed: &Managed, writer: &Writer) -> Result<()> {
    let [db1, db2, db3] = ["db1", "db2", "db3"].map(|name| managed.agent(name));
    let (db1, db2, db3) = (db1?, db2?, db3?);
    let voters = record(db1)?.voters;
    ensure!(voters.is_settled() && voters.wanted().nodes.len() == 2, "{voters:?}");
    let end = |agent: &Agent| Ok::<_, anyhow::Error>(agent.status()?.wal.context("a log")?.end);
    let (behind, ahead) = (end(db2)?, end(db3)?);
    ensure!(behind < ahead, "db2 has {behind:?}, db3 has {ahead:?}");
    db1.postgres().signal_postmaster(Signal::SIGKILL)?;
    let successor = managed.wait_successor("db1")?;
    ensure!(successor.host().name() == "db3", "{:?}", record(successor)?);
    writer.wait_after(Instant::now(), SOON)?;
    db1.host().join(db2.host())?;
    db1.wait_streaming()?;
    db2.wait_streaming()
}

/// One story of a primary that is suspected wrongly, then not at all, then rightly.
#[test]
fn netns_suspicion_is_undone_or_not_raised_where_it_is_wrong() -> Result<()> {
    let test = "netns_suspicion_is_undone_or_not_raised_where_it_is_wrong";
    let agent = "guardian = false\nrestarts = 0\n".to_owned();
    let options =
        AgentOptions { controller: Some("lb1"), lease: LEASE, agent, ..AgentOptions::default() };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    managed.agent("db1")?.wait_voters(2)?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    a_freeze_is_undone(&managed, &writer)?;
    a_cut_between_two_is_no_failover(&managed, &writer)?;
    the_voter_that_is_not_behind_follows(&managed, &writer)?;
    managed.finish([writer]).map(drop)
}
