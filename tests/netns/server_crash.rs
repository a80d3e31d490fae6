//! A primary that crashed and is restarted in place (S7, scenario 38).
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_ctl::postgres::server::Found;
use pgha_machine::failover::voters::VoterSet;
use pgha_machine::{Lsn, Timeline};
use pgha_tests::lab::{Lab, SOON, Session, wait_until};

use crate::managed::{Managed, cluster, node};

fn promoted(lab: &Lab, voters: &VoterSet) -> Result<[Managed; 2]> {
    let [db1, db2] = cluster(lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    db1.run(|server| async move { server.promote(Timeline::new(2), voters).await })?;
    db1.psql("set synchronous_commit = local; create table t (x int)")?;
    Ok([db1, db2])
}

/// Scenario 38: one backend is killed. PostgreSQL ends and is not restarted by itself; it comes back as the primary of
/// its timeline, shows nothing to clients before it is told to, and streams meanwhile.
#[test]
fn netns_server_that_crashed_admits_nobody_before_its_voters() -> Result<()> {
    let lab = Lab::new()?;
    let client = lab.host("client")?;
    let voters = &VoterSet::of([node("db2")].into(), 1);
    let [db1, db2] = promoted(&lab, voters)?;
    // No voter has this one.
    db1.psql("set synchronous_commit = local; insert into t values (1)")?;
    let session = Session::open(&client, db1.host().address())?;
    let backend: i32 = session.query("select pg_backend_pid()")?.parse()?;
    kill(Pid::from_raw(backend), Signal::SIGKILL)?;
    db1.run(|server| async move {
        server.ended().await;
        Ok(())
    })?;
    db1.run(|server| async move { server.kill().await })?;
    let end = db1.run(|server| async move { server.restart(voters).await })?;
    let (_, _, as_primary) = db1.announced.lock().unwrap().last().cloned().context("a start")?;
    ensure!(as_primary, "the start was not announced as a primary's");
    ensure!(end > Lsn::new(0) && db1.postgres.data().join("standby.signal").exists());

    let refused = Session::open(&client, db1.host().address()).map(drop).unwrap_err();
    ensure!(format!("{refused:#}").contains("no pg_hba.conf entry"), "{refused:#}");
    // An agent that begins now knows it.
    let db1 = db1.restarted()?;
    let found = db1.run(|server| async move { server.find(|_, _| pgha_tests::lab::SOON).await })?;
    ensure!(matches!(found, Found::Primary { admits: false, .. }), "{found:?}");
    db2.run(|server| async move { server.follow(&node("db1")).await })?;
    wait_until("the voter to have it", SOON, || {
        Ok(db2.psql("select pg_last_wal_receive_lsn()")?.parse::<Lsn>()? >= end)
    })?;
    db1.run(|server| async move { server.admit().await })?;
    let session = wait_for_session(&client, &db1)?;
    assert_eq!(session.query("select count(*) from t")?, "1");
    assert_eq!(session.query("select left(pg_walfile_name(pg_current_wal_lsn()), 8)")?, "00000002");
    let found = db1.run(|server| async move { server.find(|_, _| pgha_tests::lab::SOON).await })?;
    ensure!(matches!(found, Found::Primary { admits: true, .. }), "{found:?}");
    Ok(())
}

fn wait_for_session(client: &pgha_tests::lab::Host, server: &Managed) -> Result<Session> {
    pgha_tests::lab::wait_for("a session", SOON, || {
        Session::open(client, server.host().address()).map(Some)
    })
}

/// S1: a restart that is given up or fails leaves a data directory that comes up as a standby.
#[test]
fn netns_server_restart_that_is_given_up_leaves_a_standby() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, _db2] = promoted(&lab, &VoterSet::empty())?;
    let signal = db1.postgres.data().join("standby.signal");
    for patience in [0, 20, 60, 120] {
        db1.run(|server| async move { server.kill().await })?;
        db1.run(|server| async move {
            let nobody = VoterSet::empty();
            let restart = server.restart(&nobody);
            // Whether it comes to its end or not is of no interest.
            let _ = tokio::time::timeout(Duration::from_millis(patience), restart).await;
            server.kill().await
        })?;
        wait_until("standby.signal", SOON, || Ok(signal.exists()))?;
        db1.postgres.start()?;
        assert_eq!(db1.psql("select pg_is_in_recovery()")?, "t", "after {patience} ms");
        db1.postgres.stop()?;
    }
    // One that cannot start says why and leaves the same.
    let conf = db1.postgres.data().join("postgresql.conf");
    fs::write(&conf, format!("{}\nwal_level = nonsense\n", fs::read_to_string(&conf)?))?;
    let failed = db1.attempt(|server| async move { server.restart(&VoterSet::empty()).await })?;
    ensure!(failed.unwrap_err().to_string().contains("nonsense"));
    wait_until("standby.signal", SOON, || Ok(signal.exists()))
}
