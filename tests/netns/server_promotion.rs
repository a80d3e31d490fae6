//! Promotion: to the timeline that was ordered, and to no other.
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_ctl::postgres::server::ServerError;
use pgha_machine::Timeline;
use pgha_machine::failover::voters::VoterSet;
use pgha_tests::lab::{Lab, SOON, Session, wait_until};

use crate::managed::{Managed, cluster, node};

fn promote(managed: &Managed, timeline: u32, voters: &VoterSet) -> Result<()> {
    let fork = managed
        .run(|server| async move { server.promote(Timeline::new(timeline), voters).await })?;
    assert_eq!(managed.psql("select pg_is_in_recovery()")?, "f");
    let file = managed.psql("select pg_walfile_name(pg_current_wal_lsn())")?;
    assert_eq!(file.get(..8), Some(format!("{timeline:08X}").as_str()));
    ensure!(fork.timeline < Timeline::new(timeline), "{fork:?}");
    Ok(())
}

/// S1: what was promoted writes, and comes up as a standby when it is started by hand.
#[test]
fn netns_server_is_promoted_and_its_next_start_is_a_standbys() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = cluster(&lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    let voters = VoterSet::of([node("db2")].into(), 1);
    promote(&db1, 2, &voters)?;
    assert_eq!(db1.psql("show synchronous_standby_names")?, "ANY 1 (\"db2\")");
    // It stays the primary with standby.signal beside it, also over a checkpoint and a reload.
    let signal = db1.postgres.data().join("standby.signal");
    ensure!(signal.exists(), "standby.signal is not back");
    db1.psql("checkpoint")?;
    db1.postgres.reload()?;
    assert_eq!(db1.psql("select pg_is_in_recovery()")?, "f");
    // The voters are waited for: nothing is acknowledged before db2 streams.
    db1.psql("set synchronous_commit = local; create table t (x int)")?;
    db2.stream_from("db1")?;
    db1.psql("insert into t values (1)")?;
    db1.run(|server| async move { server.kill().await })?;

    db1.postgres.start()?;
    assert_eq!(db1.psql("select pg_is_in_recovery()")?, "t");
    assert_eq!(db1.psql("select count(*) from t")?, "1");
    db1.postgres.stop()
}

/// Numbers that others may have taken are left out, and standbys, new copies and rewinds get along with that.
#[test]
fn netns_server_is_promoted_to_exactly_the_timeline_ordered() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2, db3] =
        cluster(&lab, &["db1", "db2", "db3"])?.try_into().ok().context("three")?;
    promote(&db1, 2, &VoterSet::empty())?;
    db2.stream_from("db1")?;
    db3.stream_from("db1")?;
    db1.psql("create table t as select 1 as x")?;
    for standby in [&db2, &db3] {
        wait_until("the table", SOON, || Ok(standby.psql("select count(*) from t")? == "1"))?;
    }
    db2.stop_streaming()?;
    promote(&db2, 5, &VoterSet::empty())?;
    db2.psql("insert into t values (2)")?;
    // A standby that was on timeline 2 follows by streaming.
    db3.stop_streaming()?;
    db3.stream_from("db2")?;
    wait_until("the row on db3", SOON, || Ok(db3.psql("select count(*) from t")? == "2"))?;
    let end = db3.stop_streaming()?;
    assert_eq!(end.timeline, Timeline::new(5));
    // And over a restart of either.
    db3.run(|server| async move { server.kill().await })?;
    db3.run(|server| async move { server.start().await })?;
    db3.stream_from("db2")?;
    db2.psql("insert into t values (3)")?;
    wait_until("the next row on db3", SOON, || Ok(db3.psql("select count(*) from t")? == "3"))?;
    // Once more, over a gap of its own.
    db3.stop_streaming()?;
    promote(&db3, 9, &VoterSet::empty())?;
    db2.run(|server| async move { server.kill().await })?;
    Ok(())
}

/// A number that is known already is refused before anything is changed.
#[test]
fn netns_server_refuses_a_timeline_that_is_taken() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = cluster(&lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    promote(&db1, 3, &VoterSet::empty())?;
    db2.stream_from("db1")?;
    db1.psql("create table t as select 1 as x")?;
    wait_until("the table", SOON, || Ok(db2.psql("select count(*) from t")? == "1"))?;
    db2.stop_streaming()?;
    for taken in [2, 3] {
        let refused = db2.attempt(|server| async move {
            server.promote(Timeline::new(taken), &VoterSet::empty()).await
        })?;
        let error = refused.unwrap_err();
        ensure!(matches!(error, ServerError::History(_)), "{error}");
        assert_eq!(db2.psql("select pg_is_in_recovery()")?, "t");
    }
    promote(&db2, 4, &VoterSet::empty())
}

/// Whether commits wait for anybody is the checkpointer's to say: nothing is promoted before it has taken the list in.
#[test]
fn netns_server_promotes_no_one_who_would_not_wait() -> Result<()> {
    let lab = Lab::new()?;
    let [db1] = cluster(&lab, &["db1"])?.try_into().ok().context("one")?;
    let db1 = db1.reconfigured(|config| config.deadlines.answer = Duration::from_secs(2))?;
    db1.run(|server| async move { server.start().await })?;
    let pid = db1.psql("select pid from pg_stat_activity where backend_type = 'checkpointer'")?;
    let pid = Pid::from_raw(pid.parse()?);
    kill(pid, Signal::SIGSTOP)?;
    let voters = &VoterSet::of([node("db2")].into(), 1);
    let late =
        db1.attempt(|server| async move { server.promote(Timeline::new(2), voters).await })?;
    let error = late.unwrap_err();
    ensure!(matches!(error, ServerError::Late { .. }), "{error}");
    assert_eq!(db1.psql("select pg_is_in_recovery()")?, "t");
    kill(pid, Signal::SIGCONT)?;
    // What is there of the first attempt is no obstacle, nor at a start.
    promote(&db1, 4, voters)?;
    let session = Session::open(db1.host(), db1.host().address())?;
    thread::scope(|scope| {
        let commit = scope.spawn(|| session.query("create table t (x int)"));
        let waits = wait_until("a commit that waits", SOON, || {
            let sql = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
            Ok(db1.psql(sql)? == "1")
        });
        db1.run(|server| async move { server.kill().await })?;
        // It ends with its server, unacknowledged.
        ensure!(commit.join().is_ok_and(|ended| ended.is_err()), "it was acknowledged");
        waits
    })
}

/// A start after a promotion that came to nothing is none's on a timeline that nobody was ever on.
#[test]
fn netns_server_forgets_timelines_that_were_never_begun() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = cluster(&lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    promote(&db1, 2, &VoterSet::empty())?;
    db2.stream_from("db1")?;
    db2.stop_streaming()?;
    // As an agent leaves them that is ended before PostgreSQL is promoted.
    let wal = db2.postgres.data().join("pg_wal");
    for timeline in [3, 4] {
        let text = "# pgha: nobody was ever on this timeline\n";
        fs::write(wal.join(format!("{timeline:08X}.history")), text)?;
    }
    db2.run(|server| async move { server.kill().await })?;
    db2.run(|server| async move { server.start().await })?;
    ensure!(!wal.join("00000004.history").exists());
    db2.stream_from("db1")
}
