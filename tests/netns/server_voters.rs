//! Voters: whose acknowledgement counts, and since when.
use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_ctl::postgres::server::watching::{Seen, Watch};
use pgha_machine::failover::voters::VoterSet;
use pgha_machine::{Lsn, Timeline};
use pgha_tests::lab::{Lab, SOON, wait_for};

use crate::managed::{Managed, cluster, node};

fn three(lab: &Lab) -> Result<[Managed; 3]> {
    let [db1, db2, db3] = cluster(lab, &["db1", "db2", "db3"])?.try_into().ok().context("three")?;
    db1.run(|server| async move { server.promote(Timeline::new(2), &VoterSet::empty()).await })?;
    db2.stream_from("db1")?;
    db3.stream_from("db1")?;
    db1.psql("create table t (x int)")?;
    Ok([db1, db2, db3])
}

fn flushed(managed: &Managed) -> Result<Lsn> {
    Ok(managed.psql("select pg_current_wal_flush_lsn()")?.parse()?)
}

fn walsenders(primary: &Managed) -> Result<BTreeMap<String, i32>> {
    let rows = primary.psql("select application_name, pid from pg_stat_replication")?;
    let rows = rows.lines().filter_map(|row| row.split_once('|'));
    rows.map(|(name, pid)| Ok((name.to_owned(), pid.parse()?))).collect()
}

/// S3: voters are in use when their walsenders have shown it, and what was flushed by then is told.
#[test]
fn netns_server_uses_voters() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, _db2, _db3] = three(&lab)?;
    let before = walsenders(&db1)?;
    let voters = &VoterSet::of([node("db2"), node("db3")].into(), 2);
    let earliest = flushed(&db1)?;
    let at = db1.run(|server| async move { server.use_voters(voters).await })?;
    ensure!(at >= earliest && at <= flushed(&db1)?, "{at} after {earliest}");
    assert_eq!(db1.psql("show synchronous_standby_names")?, "ANY 2 (\"db2\", \"db3\")");
    // Whoever replies is not ended.
    assert_eq!(walsenders(&db1)?, before);
    db1.psql("insert into t values (1)")?;
    db1.run(|server| async move { server.use_voters(&VoterSet::empty()).await })?;
    assert_eq!(db1.psql("show synchronous_standby_names")?, "");
    Ok(())
}

/// A voter that is dead, and whose walsender is still there, keeps nobody from changing to others.
#[test]
fn netns_server_ends_walsenders_that_show_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, _db2, db3] = three(&lab)?;
    let voters = &VoterSet::of([node("db2"), node("db3")].into(), 2);
    db1.run(|server| async move { server.use_voters(voters).await })?;
    let before = walsenders(&db1)?;
    let receiver = db3.psql("select pid from pg_stat_wal_receiver")?.parse()?;
    kill(Pid::from_raw(receiver), Signal::SIGSTOP)?;
    let fewer = &VoterSet::of([node("db2"), node("db3")].into(), 1);
    db1.run(|server| async move { server.use_voters(fewer).await })?;
    let after = walsenders(&db1)?;
    assert_eq!(after.get("db2"), before.get("db2"));
    ensure!(after.get("db3") != before.get("db3"), "the silent one is still there: {after:?}");
    db1.psql("insert into t values (1)")?;
    Ok(kill(Pid::from_raw(receiver), Signal::SIGCONT)?)
}

/// Scenario 37: somebody else under a voter's name never counts as that voter, and is told.
#[test]
fn netns_server_tells_of_impersonated_voters() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2, db3] = three(&lab)?;
    let look = |managed: &Managed| -> Result<Seen> {
        managed.run(|server| async move { Watch::of(server).look().await })
    };
    let both = wait_for("both standbys", SOON, || {
        let seen = look(&db1)?;
        Ok((seen.standbys.flushed.len() == 2).then_some(seen))
    })?;
    ensure!(!both.in_recovery && both.standbys.impersonated.is_empty(), "{both:?}");
    let wal = both.wal.context("the log")?;
    assert_eq!(wal.end.timeline, Timeline::new(2));
    assert_eq!(wal.left.len(), 1);
    let standby = look(&db2)?;
    ensure!(standby.in_recovery && standby.standbys.flushed.is_empty(), "{standby:?}");

    db3.run(|server| async move { server.kill().await })?;
    let client = lab.host("client")?;
    let _receivewal = db1.postgres.receivewal(&client, "db3")?;
    let _backup = db1.postgres.basebackup(&client, "db2", "fetch")?;
    let seen = wait_for("the other under the name", SOON, || {
        // First: what copies is nobody's only once it does.
        let backup = db1.psql("select count(*) from pg_stat_replication where state = 'backup'")?;
        let seen = look(&db1)?;
        let there = !seen.standbys.impersonated.is_empty() && backup == "1";
        Ok(there.then_some(seen))
    })?;
    assert_eq!(seen.standbys.impersonated, [node("db3")].into());
    assert_eq!(seen.standbys.flushed.keys().collect::<Vec<_>>(), [&node("db2")]);
    Ok(())
}

/// What lowers synchronous_commit is told, each with whose it is.
#[test]
fn netns_server_tells_what_its_quorum_does_not_hold_against() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2, _db3] = three(&lab)?;
    let objections = |managed: &Managed| {
        managed.run(|server| async move { Watch::of(server).objections().await })
    };
    let none = objections(&db1)?;
    assert_eq!((none.lowered.len(), none.restore_command, none.rewindable), (0, None, true));
    db1.psql("create role careless; alter role careless set synchronous_commit = off")?;
    db1.psql("alter database postgres set synchronous_commit = local")?;
    db1.psql("alter role careless in database template1 set synchronous_commit = on")?;
    let lowered = objections(&db1)?.lowered;
    assert_eq!(
        lowered,
        [
            "synchronous_commit=local for every role in database postgres",
            "synchronous_commit=off for role careless in every database",
        ]
    );
    db2.psql("alter system set restore_command = '/bin/false'")?;
    db2.postgres.reload()?;
    assert_eq!(objections(&db2)?.restore_command.as_deref(), Some("/bin/false"));
    Ok(())
}
