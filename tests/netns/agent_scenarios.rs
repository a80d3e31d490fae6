//! What becomes of a primary whose agent, store, network, standbys or backends are gone.
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_ctl::agent::status::RoleStatus;
use pgha_machine::failover::record::Doubt;
use pgha_tests::lab::observers::Excused;
use pgha_tests::lab::writer::{Acknowledged, nothing_after};
use pgha_tests::lab::{AgentOptions, Managed, SOON, WRITER_VIP, Writer, wait_until};

fn with(failover: &str) -> AgentOptions {
    AgentOptions { failover: failover.to_owned(), ..AgentOptions::default() }
}

/// Scenario 7: another agent takes over PostgreSQL as it runs: no session is lost, and no start.
#[test]
fn netns_agent_that_was_killed_leaves_postgresql_to_the_next() -> Result<()> {
    let options = AgentOptions { lease: Duration::from_secs(30), ..AgentOptions::default() };
    let test = "netns_agent_that_was_killed_leaves_postgresql_to_the_next";
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON * 2)?;
    let (before, connections) = (db1.status()?, writer.connections());
    for end in [Signal::SIGKILL, Signal::SIGTERM] {
        if end == Signal::SIGKILL {
            db1.kill()?;
        } else {
            db1.terminate()?;
        }
        db1.start()?;
        let after = db1.wait_role(RoleStatus::Primary)?;
        ensure!(after.start == before.start, "{:?} after {:?}", after.start, before.start);
        ensure!(after.epoch == before.epoch, "{:?} after {:?}", after.epoch, before.epoch);
        writer.wait_after(Instant::now(), SOON)?;
    }
    // Longer than the lease that the first agent had: the last one renews it.
    let begun = Instant::now();
    wait_until("the first lease to be over", options.lease * 2, || {
        Ok(begun.elapsed() > options.lease)
    })?;
    writer.wait_after(Instant::now(), SOON)?;
    ensure!(writer.connections() == connections, "it had to connect again");
    managed.finish([writer]).map(drop)
}

/// Scenario 7, the other way: without another agent PostgreSQL is ended within the lease, and nothing is
/// acknowledged after it.
#[test]
fn netns_agent_that_is_gone_is_followed_by_postgresql_within_the_lease() -> Result<()> {
    let options = with("mode = \"async\"\n");
    let test = "netns_agent_that_is_gone_is_followed_by_postgresql_within_the_lease";
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    let writer = Writer::start(db1.host(), db1.host().address())?;
    writer.wait_after(Instant::now(), SOON)?;
    let (_, record) = managed.primary()?;
    db1.kill()?;
    let gone = Instant::now();
    db1.wait_ended(SOON)?;
    let acknowledged = writer.stop()?;
    nothing_after(&acknowledged, gone + options.lease)?;
    managed.observed(&acknowledged, &record, &Excused::default())
}

/// Scenario 34: whoever starts PostgreSQL by hand gets a standby.
#[test]
fn netns_agent_leaves_a_standby_to_who_starts_postgresql_by_hand() -> Result<()> {
    let test = "netns_agent_leaves_a_standby_to_who_starts_postgresql_by_hand";
    let Some(managed) = Managed::up(test, &AgentOptions::default())? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    let postmaster = db1.postgres().postmaster_pid()?.context("a postmaster")?;
    db1.kill()?;
    db1.wait_ended(SOON)?;
    // Nobody starts it while there is a process of that number, and there is until it is waited for.
    let process = std::path::PathBuf::from(format!("/proc/{postmaster}"));
    wait_until("the number of its postmaster to be free", SOON, || Ok(!process.exists()))?;
    db1.postgres().start()?;
    let psql = |sql: &str| db1.postgres().psql(sql);
    ensure!(psql("select pg_is_in_recovery()")? == "t");
    let refused = psql("insert into acknowledged values (0, 'by hand')").unwrap_err();
    ensure!(format!("{refused:#}").contains("read-only"), "{refused:#}");
    // An agent does not take over what it has not started, and says so.
    let refused = db1.pgha(&["agent"])?.output()?;
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && error.contains("pg_ctl stop"), "{error}");
    db1.postgres().stop()?;
    db1.start()?;
    db1.wait_role(RoleStatus::Primary).map(drop)
}

/// The longest time without an acknowledgement since `begun`.
fn longest_pause(acknowledged: &[Acknowledged], begun: Instant) -> Duration {
    let mut since: Vec<_> =
        acknowledged.iter().map(|one| one.at).filter(|at| *at >= begun).collect();
    since.sort();
    let pauses = since.windows(2).map(|pair| pair[1] - pair[0]);
    pauses.chain(since.first().map(|first| *first - begun)).max().unwrap_or_default()
}

/// Scenario 10, `sync` with `FIRST 1`: where one of two synchronous standbys dies the other takes its place; where both
/// die, commits wait for nobody before long.
#[test]
fn netns_agent_lets_commits_wait_for_nobody_who_is_gone_where_the_mode_says_so() -> Result<()> {
    let test = "netns_agent_lets_commits_wait_for_nobody_who_is_gone_where_the_mode_says_so";
    let options = with("mode = \"sync\"\nquorum = 1\npick = \"first\"\n");
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    db1.wait_voters(2)?;
    let names = db1.psql("show synchronous_standby_names")?;
    ensure!(names == "FIRST 1 (\"db2\", \"db3\")", "{names}");
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    for (name, left) in [("db2", 1), ("db3", 0)] {
        let standby = managed.agent(name)?;
        standby.kill()?;
        let killed = Instant::now();
        standby.postgres().signal_all(Signal::SIGKILL)?;
        writer.wait_after(killed + Duration::from_millis(1), SOON)?;
        db1.wait_voters(left)?;
        writer.wait_after(Instant::now(), SOON)?;
        let pause = longest_pause(&writer.acknowledged(), killed);
        println!("no commit was acknowledged for {pause:.2?} after {name} died, with {left} left");
        ensure!(pause < Duration::from_secs(10), "{pause:.2?}");
    }
    managed.agent("db2")?.start()?;
    db1.wait_voters(1)?;
    managed.finish([writer]).map(drop)
}

/// Scenario 10, `strict`: they block, and go on once one is back.
#[test]
fn netns_agent_lets_commits_wait_for_who_is_gone_where_the_mode_is_strict() -> Result<()> {
    let test = "netns_agent_lets_commits_wait_for_who_is_gone_where_the_mode_is_strict";
    let Some(managed) = Managed::up(test, &with("mode = \"strict\"\nquorum = 1\n"))? else {
        return Ok(());
    };
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    for name in ["db2", "db3"] {
        let standby = managed.agent(name)?;
        standby.kill()?;
        standby.postgres().signal_all(Signal::SIGKILL)?;
        standby.wait_ended(SOON)?;
    }
    let gone = Instant::now();
    ensure!(writer.wait_after(gone, Duration::from_secs(5)).is_err(), "a commit waited for nobody");
    managed.agent("db3")?.start()?;
    writer.wait_after(gone, SOON * 2)?;
    managed.finish([writer]).map(drop)
}

/// Scenario 38: a backend is killed, and what only the primary has is seen by nobody before a voter has it.
#[test]
fn netns_agent_shows_nobody_a_commit_that_no_voter_has_after_a_crash() -> Result<()> {
    let test = "netns_agent_shows_nobody_a_commit_that_no_voter_has_after_a_crash";
    let options = with("mode = \"strict\"\nquorum = 1\n");
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    db1.wait_voters(2)?;
    let standbys = ["db2", "db3"].map(|name| managed.agent(name));
    let standbys = standbys.into_iter().collect::<Result<Vec<_>>>()?;
    for standby in &standbys {
        standby.postgres().signal_all(Signal::SIGSTOP)?;
    }
    // It is in db1's log by now, and waits for a voter.
    let writer = Writer::start(db1.host(), db1.host().address())?;
    wait_until("a commit to wait", SOON, || {
        let waits = "select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'";
        Ok(db1.psql(waits)? == "t")
    })?;
    let before = db1.status()?.start;
    let backend =
        db1.psql("select pid from pg_stat_activity where wait_event = 'SyncRep' limit 1")?;
    db1.host().run(["kill", "-KILL", &backend])?;
    let restarted = db1.wait_role(RoleStatus::Restarted)?;
    ensure!(restarted.start != before, "another start");
    // The socket is the agent's alone; over TCP nobody is admitted.
    let client = managed.lab.host("client")?;
    let refused = pgha_tests::lab::Session::open(&client, db1.host().address());
    ensure!(refused.is_err(), "a client got in before a voter had what it may see");
    for standby in &standbys {
        standby.postgres().signal_all(Signal::SIGCONT)?;
    }
    db1.wait_role(RoleStatus::Primary)?;
    writer.wait_after(Instant::now(), SOON)?;
    managed.finish([writer])?;
    let seen = db1.rows()?;
    wait_until("a voter to have all of it", SOON, || Ok(standbys[0].rows()?.is_superset(&seen)))
}

/// Scenario 37: what streams under a voter's name and is not that voter is reported, and no quorum of voters is
/// believed to prove anything while it may have been counted.
#[test]
fn netns_agent_reports_who_streams_under_a_voters_name() -> Result<()> {
    let test = "netns_agent_reports_who_streams_under_a_voters_name";
    let Some(managed) = Managed::up(test, &AgentOptions::default())? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    db1.wait_voters(2)?;
    let standbys = [managed.agent("db2")?, managed.agent("db3")?];
    for standby in standbys {
        standby.postgres().signal_all(Signal::SIGSTOP)?;
    }
    let client = managed.lab.host("client")?;
    let receiver = db1.postgres().synchronous_receivewal(&client, "db2")?;
    wait_until("the other db2 to be reported", SOON, || {
        let doubts = db1.status()?.record.context("a record")?.doubts;
        ensure!(doubts.contains(&Doubt::Impersonated("db2".parse()?)), "{doubts:?}");
        Ok(true)
    })?;
    // PostgreSQL would go on to take its replies for db2's: it is ended.
    receiver.wait(SOON)?;
    ensure!(db1.log().contains("it streams under the name of a node"), "{}", db1.tail());
    // From then on nothing is acknowledged by it, and what is doubtful stays that until a voter has it.
    let writer = Writer::start(db1.host(), db1.host().address())?;
    wait_until("a commit to wait", SOON, || {
        let waits = "select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'";
        Ok(db1.psql(waits)? == "t")
    })?;
    ensure!(writer.acknowledged().is_empty(), "{:?}", writer.acknowledged());
    ensure!(!db1.status()?.record.context("a record")?.doubts.is_empty(), "nothing is doubted");
    for standby in standbys {
        standby.postgres().signal_all(Signal::SIGCONT)?;
    }
    wait_until("the doubt to end", SOON * 2, || {
        Ok(db1.status()?.record.context("a record")?.doubts.is_empty())
    })?;
    writer.wait_after(Instant::now(), SOON)?;
    managed.finish([writer]).map(drop)
}
