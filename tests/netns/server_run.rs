//! PostgreSQL as a process of the agent: begun, stopped, killed, found again.
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_ctl::postgres::server::{Found, ServerError, Stopped};
use pgha_machine::Timeline;
use pgha_machine::failover::voters::VoterSet;
use pgha_tests::lab::{Lab, PostgresOptions, SOON, wait_until};

use crate::managed::{Managed, cluster, cluster_with};

fn processes(cgroup: &Path) -> Result<Vec<i32>> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    Ok(listed.lines().map(str::parse).collect::<Result<_, _>>()?)
}

fn only(lab: &Lab) -> Result<Managed> {
    cluster(lab, &["db1"])?.pop().context("a node")
}

/// Every start has a cgroup of its own, announced before anything runs in it, and all of PostgreSQL is in it.
#[test]
fn netns_server_starts_in_a_cgroup_of_its_own() -> Result<()> {
    let lab = Lab::new()?;
    let db1 = only(&lab)?;
    let (number, cgroup) = db1.server.runs().context("it runs")?;
    assert_eq!(*db1.announced.lock().unwrap(), [(number, cgroup.clone(), false)]);
    let mut inside = processes(&cgroup)?;
    inside.sort_unstable();
    assert_eq!(inside, db1.postgres.processes()?);
    let owner = db1.host().run(["stat", "-c", "%U", &format!("/proc/{}", inside[0])])?;
    assert_eq!(owner, "postgres");
    // It is a standby, although it was the lab's primary, and its settings are pgha's.
    assert_eq!(db1.psql("select pg_is_in_recovery()")?, "t");
    assert_eq!(db1.psql("show restart_after_crash")?, "off");
    assert_eq!(db1.psql("show cluster_name")?, "db1");

    assert_eq!(db1.run(|server| async move { server.stop().await })?, Stopped::Fast);
    ensure!(!cgroup.exists(), "{} is still there", cgroup.display());
    db1.run(|server| async move { server.start().await })?;
    let (next, _) = db1.server.runs().context("it runs again")?;
    ensure!(next > number, "{next} after {number}");
    let running = db1.attempt(|server| async move { server.start().await })?.unwrap_err();
    ensure!(matches!(running, ServerError::Running(_)), "{running}");
    Ok(())
}

/// A kill leaves no process of PostgreSQL behind, not even one whose postmaster is dead already.
#[test]
fn netns_server_kill_ends_orphans_too() -> Result<()> {
    let lab = Lab::new()?;
    let db1 = only(&lab)?;
    let (_, cgroup) = db1.server.runs().context("it runs")?;
    let postmaster = db1.postgres.postmaster_pid()?.context("a postmaster")?;
    // A backend that is stopped does not see that its postmaster dies.
    let backend = processes(&cgroup)?.into_iter().find(|pid| *pid != postmaster).context("one")?;
    kill(Pid::from_raw(backend), Signal::SIGSTOP)?;
    kill(Pid::from_raw(postmaster), Signal::SIGKILL)?;
    db1.run(|server| async move {
        server.ended().await;
        Ok(())
    })?;
    ensure!(processes(&cgroup)?.contains(&backend), "the orphan is gone by itself");
    db1.run(|server| async move { server.kill().await })?;
    ensure!(!cgroup.exists(), "{} is still there", cgroup.display());
    assert_eq!(db1.postgres.processes()?, [0; 0]);
    ensure!(db1.server.runs().is_none());
    // And it comes up again.
    db1.run(|server| async move { server.start().await })?;
    Ok(())
}

/// A postmaster that was killed while it wrote a lock file leaves it empty: that keeps no other from starting.
#[test]
fn netns_server_starts_over_locks_that_were_half_written() -> Result<()> {
    let lab = Lab::new()?;
    let db1 = only(&lab)?;
    db1.run(|server| async move { server.kill().await })?;
    let postgres = &db1.postgres;
    fs::write(postgres.data().join("postmaster.pid"), "")?;
    fs::write(postgres.home().join(".s.PGSQL.5432.lock"), "")?;
    fs::write(db1.server.config().runtime.join("socket/.s.PGSQL.5432.lock"), "")?;
    db1.run(|server| async move { server.start().await })?;
    Ok(())
}

/// What does not let itself be stopped is killed, each in its time.
#[test]
fn netns_server_stop_goes_from_fast_to_immediate_to_kill() -> Result<()> {
    let lab = Lab::new()?;
    let db1 = only(&lab)?.reconfigured(|config| {
        config.deadlines.fast = Duration::from_millis(200);
        config.deadlines.immediate = Duration::from_millis(200);
    })?;
    db1.run(|server| async move { server.start().await })?;
    let postmaster = db1.postgres.postmaster_pid()?.context("a postmaster")?;
    kill(Pid::from_raw(postmaster), Signal::SIGSTOP)?;
    assert_eq!(db1.run(|server| async move { server.stop().await })?, Stopped::Killed);
    assert_eq!(db1.postgres.processes()?, [0; 0]);
    Ok(())
}

/// An agent that begins takes a running server over as it is, and ends what is left of others.
#[test]
fn netns_server_is_found_again_by_the_next_agent() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = cluster(&lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    let session = db2.postgres.processes()?;
    db2.run(|server| async move { server.follow(&"db1".parse().unwrap()).await })?;
    let db2 = db2.restarted()?;
    let found = db2.run(|server| async move { server.find(|_, _| pgha_tests::lab::SOON).await })?;
    let Found::Standby { upstream: Some(upstream), wal: Some(_) } = &found else {
        anyhow::bail!("{found:?}");
    };
    assert_eq!(upstream.as_str(), "db1");
    ensure!(db2.postgres.processes()?.first() == session.first(), "it is another server");
    assert_eq!(*db2.announced.lock().unwrap(), []);
    // It can be stopped, as one that this agent began.
    assert_eq!(db2.run(|server| async move { server.stop().await })?, Stopped::Fast);
    let found = db2.run(|server| async move { server.find(|_, _| pgha_tests::lab::SOON).await })?;
    assert_eq!(found, Found::Nothing);

    // Of a dead postmaster nothing is taken over.
    let (_, cgroup) = db1.server.runs().context("it runs")?;
    let postmaster = db1.postgres.postmaster_pid()?.context("a postmaster")?;
    let backend = processes(&cgroup)?.into_iter().find(|pid| *pid != postmaster).context("one")?;
    kill(Pid::from_raw(backend), Signal::SIGSTOP)?;
    kill(Pid::from_raw(postmaster), Signal::SIGKILL)?;
    wait_until("the postmaster's end", SOON, || Ok(!processes(&cgroup)?.contains(&postmaster)))?;
    let db1 = db1.restarted()?;
    assert_eq!(
        db1.run(|server| async move { server.find(|_, _| pgha_tests::lab::SOON).await })?,
        Found::Nothing
    );
    ensure!(!cgroup.exists(), "{} is still there", cgroup.display());
    Ok(())
}

/// A server that somebody else runs in the data directory is neither taken over nor disturbed.
#[test]
fn netns_server_of_somebody_else_is_refused() -> Result<()> {
    let lab = Lab::new()?;
    let db1 = only(&lab)?;
    db1.run(|server| async move { server.stop().await })?;
    db1.postgres.start()?;
    // Scenario 34: whoever starts it, it is a standby.
    assert_eq!(db1.psql("select pg_is_in_recovery()")?, "t");
    let foreign = |error: &ServerError| matches!(error, ServerError::Foreign { .. });
    let found = db1
        .attempt(|server| async move { server.find(|_, _| pgha_tests::lab::SOON).await })?
        .unwrap_err();
    ensure!(foreign(&found), "{found}");
    let started = db1.attempt(|server| async move { server.start().await })?.unwrap_err();
    ensure!(foreign(&started), "{started}");
    ensure!(db1.postgres.is_running()?, "it was disturbed");
    db1.postgres.stop()
}

/// A start that fails says what PostgreSQL said, and leaves nothing running.
#[test]
fn netns_server_start_that_fails_says_why() -> Result<()> {
    let lab = Lab::new()?;
    let db1 = only(&lab)?;
    db1.run(|server| async move { server.stop().await })?;
    let conf = db1.postgres.data().join("postgresql.conf");
    let text = fs::read_to_string(&conf)?;
    fs::write(&conf, format!("{text}\nwal_level = 'no such level'\n"))?;
    let error = db1.attempt(|server| async move { server.start().await })?.unwrap_err();
    ensure!(error.to_string().contains("no such level"), "{error}");
    assert_eq!(db1.postgres.processes()?, [0; 0]);
    fs::write(&conf, text)?;
    db1.run(|server| async move { server.start().await })?;
    Ok(())
}

/// A former agent may have ended in the middle of a freeze: who is to stream from nobody is found without a receiver.
#[test]
fn netns_server_that_was_half_stopped_is_found_without_a_receiver() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = cluster(&lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    let nobody = &VoterSet::empty();
    db1.run(|server| async move { server.promote(Timeline::new(2), nobody).await })?;
    db2.stream_from("db1")?;
    // All that was done of it: nobody who looks for the service finds it any more.
    fs::write(db2.server.config().runtime.join("socket/upstream.service"), "")?;
    assert_eq!(db2.psql("select count(*) from pg_stat_wal_receiver")?, "1");
    let db2 = db2.restarted()?;
    let found = db2.run(|server| async move { server.find(|_, _| pgha_tests::lab::SOON).await })?;
    ensure!(matches!(found, Found::Standby { upstream: None, wal: Some(_) }), "{found:?}");
    assert_eq!(db2.psql("select count(*) from pg_stat_wal_receiver")?, "0");
    assert_eq!(db2.psql("show primary_conninfo")?, "");
    Ok(())
}

/// What ALTER SYSTEM writes of pgha's settings does not count, neither at a start nor when they change.
#[test]
fn netns_server_settings_are_not_overridden() -> Result<()> {
    let lab = Lab::new()?;
    let options = PostgresOptions::default().guc("restart_after_crash", "on");
    let [db1, db2] =
        cluster_with(&lab, &["db1", "db2"], &options)?.try_into().ok().context("two")?;
    // pg_basebackup -R wrote it, and the lab's standbys are made so.
    assert_eq!(db2.psql("show primary_conninfo")?, "");
    assert_eq!(db1.psql("show restart_after_crash")?, "off");
    db2.psql("alter system set primary_conninfo = 'host=10.77.0.99'")?;
    db2.psql("alter system set work_mem = '5MB'")?;
    db2.postgres.reload()?;
    assert_eq!(db2.psql("show primary_conninfo")?, "host=10.77.0.99");
    db2.run(|server| async move { server.stop_streaming().await })?;
    assert_eq!(db2.psql("show primary_conninfo")?, "");
    assert_eq!(db2.psql("show work_mem")?, "5MB");
    Ok(())
}
