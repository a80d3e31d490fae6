//! Streaming, its end, and where the log ends.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_machine::{Lsn, Timeline};
use pgha_tests::lab::{Lab, SOON, wait_until};

use crate::managed::{Managed, cluster, node};

/// A primary on timeline 2 and a standby that streams from it.
fn pair(lab: &Lab) -> Result<[Managed; 2]> {
    let [db1, db2] = cluster(lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    promote(&db1, 2)?;
    db2.stream_from("db1")?;
    Ok([db1, db2])
}

fn promote(managed: &Managed, timeline: u32) -> Result<()> {
    let voters = pgha_machine::failover::voters::VoterSet::empty();
    managed
        .run(|server| async move { server.promote(Timeline::new(timeline), &voters).await })
        .map(drop)
}

fn lsn(managed: &Managed, function: &str) -> Result<Lsn> {
    Ok(managed.psql(&format!("select {function}()"))?.parse()?)
}

/// Streaming ends for good: no receiver is there, none comes back, and the end of the log is what was received.
#[test]
fn netns_server_stops_streaming() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = pair(&lab)?;
    db1.psql("create table t as select generate_series(1, 1000) as x")?;
    let written = lsn(&db1, "pg_current_wal_flush_lsn")?;
    wait_until("the standby to receive it", SOON, || {
        Ok(lsn(&db2, "pg_last_wal_receive_lsn")? >= written)
    })?;
    let end = db2.stop_streaming()?;
    ensure!(end.timeline == Timeline::new(2) && end.lsn >= written, "{end:?} of {written}");
    assert_eq!(db2.psql("select count(*) from pg_stat_wal_receiver")?, "0");
    db1.psql("insert into t select generate_series(1, 1000)")?;
    // Whoever was told by the former value fails: PostgreSQL reads its settings, the receiver the valve.
    assert_eq!(db2.stop_streaming()?, end);
    db2.stream_from("db1")?;
    wait_until("the standby to have it all", SOON, || {
        Ok(db2.psql("select count(*) from t")? == "2000")
    })
}

/// Scenario 36: with replay paused a reload alone ends no receiver. It is ended all the same, and what it had received
/// counts although it is not replayed.
#[test]
fn netns_server_stops_streaming_while_replay_is_paused() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = pair(&lab)?;
    db1.psql("create table t (x int)")?;
    wait_until("the table", SOON, || db2.psql("select count(*) from t").map(|count| count == "0"))?;
    db2.psql("select pg_wal_replay_pause()")?;
    wait_until("the pause", SOON, || {
        Ok(db2.psql("select pg_get_wal_replay_pause_state()")? == "paused")
    })?;
    db1.psql("insert into t select generate_series(1, 1000)")?;
    let written = lsn(&db1, "pg_current_wal_flush_lsn")?;
    wait_until("the standby to receive it", SOON, || {
        Ok(lsn(&db2, "pg_last_wal_receive_lsn")? >= written)
    })?;
    let end = db2.stop_streaming()?;
    ensure!(end.lsn >= written, "{end:?} of {written}");
    ensure!(lsn(&db2, "pg_last_wal_replay_lsn")? < written, "it was replayed");

    // After a restart what was received is forgotten, and the end is found all the same.
    db2.run(|server| async move { server.kill().await })?;
    let again = db2.run(|server| async move { server.start().await })?.context("the end")?;
    assert_eq!(db2.psql("select pg_last_wal_receive_lsn() is null")?, "t");
    ensure!(again.end.lsn >= written && again.end.lsn <= end.lsn, "{again:?} of {end:?}");
    Ok(())
}

/// Where replay does not come to the end of a log that nobody received since the start, that end is not known, however
/// long replay stands still.
#[test]
fn netns_server_does_not_take_delayed_replay_for_the_end() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = pair(&lab)?;
    db1.psql("create table t (x int)")?;
    let delayed = db2.reconfigured(|config| {
        config.deadlines.log_end = Duration::from_secs(1);
    })?;
    delayed.run(|server| async move { server.start().await })?;
    delayed.stream_from("db1")?;
    delayed.psql("alter system set recovery_min_apply_delay = '1h'")?;
    delayed.postgres.reload()?;
    db1.psql("insert into t select generate_series(1, 1000)")?;
    let written = lsn(&db1, "pg_current_wal_flush_lsn")?;
    wait_until("the standby to receive it", SOON, || {
        Ok(lsn(&delayed, "pg_last_wal_receive_lsn")? >= written)
    })?;
    delayed.run(|server| async move { server.kill().await })?;
    assert_eq!(delayed.run(|server| async move { server.start().await })?, None);
    assert_eq!(delayed.run(|server| async move { server.stop_streaming().await })?, None);

    delayed.psql("alter system reset recovery_min_apply_delay")?;
    delayed.postgres.reload()?;
    wait_until("the end of the log", SOON, || {
        let wal = delayed.run(|server| async move { server.stop_streaming().await })?;
        Ok(wal.is_some_and(|wal| wal.end.lsn >= written))
    })
}

/// The valve alone keeps receivers from connecting, whatever the startup process remembers: nothing is reloaded here.
#[test]
fn netns_server_lets_no_receiver_connect_by_what_it_was_told_before() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = pair(&lab)?;
    let valve = db2.server.config().runtime.join("socket/upstream.service");
    let open = std::fs::read(&valve)?;
    std::fs::write(&valve, "")?;
    let receiver: i32 = db2.psql("select pid from pg_stat_wal_receiver")?.parse()?;
    kill(Pid::from_raw(receiver), Signal::SIGTERM)?;
    wait_until("two attempts that fail", SOON, || {
        let refused = "definition of service \"pgha\" not found";
        Ok(db2.postgres.log()?.matches(refused).count() >= 2)
    })?;
    assert_eq!(db1.psql("select count(*) from pg_stat_replication")?, "0");
    std::fs::write(&valve, open)?;
    db2.postgres.wait_streaming()
}

/// Catching up ends where it was to end, and with nobody to stream from.
#[test]
fn netns_server_catches_up_with_another_standby() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2, db3] =
        cluster(&lab, &["db1", "db2", "db3"])?.try_into().ok().context("three")?;
    promote(&db1, 2)?;
    db2.stream_from("db1")?;
    db1.psql("create table t as select generate_series(1, 1000) as x")?;
    let written = lsn(&db1, "pg_current_wal_flush_lsn")?;
    wait_until("db2 to receive it", SOON, || Ok(lsn(&db2, "pg_last_wal_receive_lsn")? >= written))?;
    let to = db2.stop_streaming()?;
    db1.run(|server| async move { server.kill().await })?;
    let wal = db3.run(|server| async move { server.catch_up(&node("db2"), to).await })?;
    let wal = wal.context("the end of the log")?;
    ensure!(wal.contains(to), "{wal:?} has not {to:?}");
    assert_eq!(db3.psql("select count(*) from pg_stat_wal_receiver")?, "0");
    assert_eq!(db3.psql("show primary_conninfo")?, "");
    Ok(())
}
