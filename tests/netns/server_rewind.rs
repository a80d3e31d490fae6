//! The way back of an old primary: rewound, or copied anew, with its own files.
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgha_ctl::postgres::server::ServerError;
use pgha_machine::Timeline;
use pgha_machine::failover::voters::VoterSet;
use pgha_tests::lab::{Lab, PostgresOptions, SOON, wait_until};

use crate::managed::{Managed, cluster, cluster_with, node};

/// An old primary with a row that nobody else has, and the new one, three timelines later, with one of its own. Each
/// has a file of its own.
fn diverged(lab: &Lab, options: &PostgresOptions) -> Result<[Managed; 2]> {
    let [db1, db2] = cluster_with(lab, &["db1", "db2"], options)?.try_into().ok().context("two")?;
    db1.run(|server| async move { server.promote(Timeline::new(2), &VoterSet::empty()).await })?;
    db2.stream_from("db1")?;
    db1.psql("create table t as select 'both' as x")?;
    wait_until("the table", SOON, || Ok(db2.psql("select count(*) from t")? == "1"))?;
    db2.stop_streaming()?;
    db1.psql("insert into t values ('old')")?;
    db2.run(|server| async move { server.promote(Timeline::new(5), &VoterSet::empty()).await })?;
    db2.psql("insert into t values ('new')")?;
    for managed in [&db1, &db2] {
        fs::write(managed.postgres.data().join("server.key"), managed.host().name())?;
        let directory = managed.postgres.data().join("conf.d");
        fs::create_dir(&directory)?;
        let owner = fs::metadata(managed.postgres.data())?;
        chown(&directory, Some(owner.uid()), Some(owner.gid()))?;
    }
    fs::write(db1.postgres.data().join("conf.d/own.conf"), "work_mem = '5MB'\n")?;
    db1.run(|server| async move { server.kill().await })?;
    Ok([db1, db2])
}

fn come_back(db1: &Managed) -> Result<()> {
    let wal = db1.run(|server| async move { server.rewind(&node("db2")).await })?;
    let wal = wal.context("the end of the log")?;
    ensure!(wal.end.timeline == Timeline::new(5), "{wal:?}");
    assert_eq!(db1.psql("select count(*) from pg_stat_wal_receiver")?, "0");
    db1.stream_from("db2")?;
    wait_until("what the cluster has", SOON, || {
        Ok(db1.psql("select string_agg(x, ' ' order by x) from t")? == "both new")
    })
}

/// Scenario 35.
fn own_files_are_there(db1: &Managed) -> Result<()> {
    let read = |name: &str| fs::read_to_string(db1.postgres.data().join(name));
    assert_eq!(read("server.key")?, "db1");
    assert_eq!(read("conf.d/own.conf")?, "work_mem = '5MB'\n");
    // The lab's primary has lines in its postgresql.conf that its standby's copy does not repeat.
    ensure!(read("postgresql.conf")?.contains("# of db1 alone"));
    Ok(())
}

fn note_whose(db1: &Managed) -> Result<()> {
    let conf = db1.postgres.data().join("postgresql.conf");
    Ok(fs::write(&conf, format!("{}# of db1 alone\n", fs::read_to_string(&conf)?))?)
}

fn beside(data: &Path, infix: &str) -> Result<Vec<String>> {
    let parent = data.parent().context("a parent")?;
    let names = fs::read_dir(parent)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: Vec<Option<String>> = names.collect::<Result<_>>()?;
    Ok(names.into_iter().flatten().filter(|name| name.contains(infix)).collect())
}

/// A crashed primary is rewound over a gap of timelines, streams, and has its own files.
#[test]
fn netns_server_is_rewound() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = diverged(&lab, &PostgresOptions::default())?;
    note_whose(&db1)?;
    come_back(&db1)?;
    own_files_are_there(&db1)?;
    assert_eq!(beside(&db1.postgres.data(), "pgha-")?, [""; 0]);
    assert_eq!(fs::read_to_string(db2.postgres.data().join("server.key"))?, "db2");
    // As any standby, it can be promoted.
    db1.stop_streaming()?;
    db1.run(|server| async move { server.promote(Timeline::new(6), &VoterSet::empty()).await })?;
    Ok(())
}

/// Scenario 18: the WAL that a rewind needs is gone. The node is copied anew, and its old directory kept.
#[test]
fn netns_server_is_copied_anew_where_rewind_cannot() -> Result<()> {
    let lab = Lab::new()?;
    let options = PostgresOptions::default().guc("wal_keep_size", "0").guc("min_wal_size", "32MB");
    let [db1, _db2] = diverged(&lab, &options)?;
    note_whose(&db1)?;
    // What the old primary wrote before it crashed takes the place of the files before the fork.
    db1.run(|server| async move { server.restart(&VoterSet::empty()).await })?;
    db1.run(|server| async move { server.admit().await })?;
    for _ in 0..4 {
        db1.psql("select pg_switch_wal(); insert into t values ('old'); checkpoint")?;
    }
    db1.run(|server| async move { server.kill().await })?;
    come_back(&db1)?;
    own_files_are_there(&db1)?;
    let kept = beside(&db1.postgres.data(), "data.pgha-old-")?;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(beside(&db1.postgres.data(), "pgha-new")?, [""; 0]);
    Ok(())
}

/// Whenever a rewind is interrupted, nothing half done is started, and the next one comes to its end.
#[test]
fn netns_server_rewind_that_is_interrupted_is_mended_by_the_next() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, _db2] = diverged(&lab, &PostgresOptions::default())?;
    note_whose(&db1)?;
    let marker = db1.server.config().state.join("postgres/rewinding.json");
    let mut marked = 0;
    let patience = Duration::from_millis(20);
    for patience in std::iter::successors(Some(patience), |last| Some(*last * 5 / 4)) {
        let ended = db1.run(|server| async move {
            let rewound = tokio::time::timeout(patience, server.rewind(&node("db2"))).await;
            server.kill().await?;
            rewound.map_or(Ok(false), |rewound| rewound.map(|_| true))
        })?;
        if ended {
            break;
        }
        if marker.exists() {
            marked += 1;
            let started = db1.attempt(|server| async move { server.start().await })?;
            let error = started.unwrap_err();
            ensure!(matches!(error, ServerError::Unfinished { .. }), "{error}");
        }
    }
    ensure!(marked > 0, "no attempt was interrupted in the middle of it");
    db1.run(|server| async move { server.start().await })?;
    db1.stream_from("db2")?;
    wait_until("what the cluster has", SOON, || {
        Ok(db1.psql("select string_agg(x, ' ' order by x) from t")? == "both new")
    })?;
    own_files_are_there(&db1)
}

/// Scenario 19: a data directory of another cluster is refused, and left as it is.
#[test]
fn netns_server_of_another_cluster_is_not_rewound() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = cluster(&lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    db1.run(|server| async move { server.promote(Timeline::new(2), &VoterSet::empty()).await })?;
    drop(db2);
    let stranger = lab.primary("db3")?;
    stranger
        .psql("create role root login in role pg_monitor; create table own as select 1 as x")?;
    let db3 = Managed::over(&lab, stranger)?;
    let refused = db3.attempt(|server| async move { server.rewind(&node("db1")).await })?;
    let error = refused.unwrap_err();
    ensure!(matches!(error, ServerError::OtherCluster { .. }), "{error}");
    assert_eq!(beside(&db3.postgres.data(), "pgha-")?, [""; 0]);
    db3.run(|server| async move { server.start().await })?;
    assert_eq!(db3.psql("select count(*) from own")?, "1");
    Ok(())
}

/// Where a new copy would not be what the directory was, it is refused, and nothing is touched.
#[test]
fn netns_server_is_not_copied_anew_where_something_lies_outside() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = diverged(&lab, &PostgresOptions::default())?;
    let outside = db2.postgres.home().join("outside");
    db2.host().command(["mkdir"])?.args([&outside]).as_postgres()?.run()?;
    db2.psql(&format!("create tablespace apart location '{}'", outside.display()))?;
    // As a rewind leaves it that was interrupted.
    let state = &db1.server.config().state;
    fs::write(state.join("postgres/rewinding.json"), r#"{"stage":"rewinding","from":"db2"}"#)?;
    let refusal = || -> Result<ServerError> {
        let refused = db1.attempt(|server| async move { server.rewind(&node("db2")).await })?;
        refused.err().context("it was not refused")
    };
    let error = refusal()?;
    ensure!(error.to_string().contains("outside of its data directory (apart)"), "{error}");

    db2.psql("drop tablespace apart")?;
    let (log, elsewhere) = (db1.postgres.data().join("pg_wal"), db1.postgres.home().join("wal"));
    fs::rename(&log, &elsewhere)?;
    std::os::unix::fs::symlink(&elsewhere, &log)?;
    let error = refusal()?;
    ensure!(matches!(error, ServerError::LinkedWal { .. }), "{error}");
    assert_eq!(beside(&db1.postgres.data(), "pgha-")?, [""; 0]);
    Ok(())
}
