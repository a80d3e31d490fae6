//! A reader is gone, or leaving: its clients are told, and nobody else notices.
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use pgha_common::maps::state;
use pgha_tests::lab::postgres::bin_directory;
use pgha_tests::lab::{Director, Postgres, READER_VIP, SOON, hold_until, wait_for, wait_until};

use crate::cluster::{Cluster, OUT_AT_ONCE, weight, withheld};

#[test]
fn netns_killed_reader_is_out_at_once() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3", "db4"], &[])?;
    lose(&cluster, "db2", "SIGKILL to all", |db| db.signal_all(Signal::SIGKILL))?;
    lose(&cluster, "db3", "SIGKILL to the postmaster", |db| db.signal_postmaster(Signal::SIGKILL))?;
    lose(&cluster, "db4", "SIGTERM to all", |db| db.signal_all(Signal::SIGTERM))?;
    lose(&cluster, "db2", "SIGINT to the postmaster", |db| db.signal_postmaster(Signal::SIGINT))
}

/// Ends one reader by `end` while sessions are open, and starts it again.
fn lose(
    cluster: &Cluster,
    victim: &str,
    manner: &str,
    end: impl FnOnce(&Postgres) -> Result<()>,
) -> Result<()> {
    let db = cluster.reader(victim)?;
    let names = ["db2", "db3", "db4"];
    let others: Vec<&str> = names.into_iter().filter(|name| *name != victim).collect();
    let (id, maps) = (cluster.id(victim)?, cluster.director.maps(READER_VIP)?);
    ensure!(maps.serves(id)?, "{victim} serves nobody");
    let mut open = cluster.session_with(victim)?;
    let bystanders =
        others.iter().map(|name| cluster.session_with(name)).collect::<Result<Vec<_>>>()?;
    let undisturbed: Result<Vec<String>> = thread::scope(|scope| {
        let sleepers: Vec<_> = bystanders
            .iter()
            .map(|session| scope.spawn(|| session.query("select 'slept' from pg_sleep(2)")))
            .collect();
        let start = Instant::now();
        end(db)?;
        let signalled = start.elapsed();
        wait_for(format_args!("{victim} to leave the table"), SOON, || {
            Ok((!maps.serves(id)?).then_some(()))
        })?;
        let table = start.elapsed();
        wait_for(format_args!("{victim} to have no weight"), SOON, || {
            Ok((cluster.weights()?[victim] == 0).then_some(()))
        })?;
        let status = start.elapsed();
        open.wait_ended(SOON)?;
        let told = start.elapsed();
        println!(
            "{manner}: signalled {signalled:.0?}, out of the table {table:.0?}, \
             of the status {status:.0?}, its client told {told:.0?}"
        );
        // That of the status has the time that `pgha status` takes in it.
        assert!(table <= OUT_AT_ONCE, "{manner}: {table:?}");
        assert!(open.query("select 1").is_err());
        let served = cluster.served(12)?;
        assert!(!served.contains_key(victim), "{served:?}");
        sleepers.into_iter().map(|sleeper| sleeper.join().expect("no panic")).collect()
    });
    assert_eq!(undisturbed?, ["slept", "slept"]);
    for (name, session) in others.iter().zip(&bystanders) {
        assert_eq!(session.server()?, *name);
    }

    // A standby whose processes all get SIGTERM may replace its background writer in the middle, and
    // then wait for it for ever.
    db.signal_all(Signal::SIGKILL)?;
    db.wait_stopped(SOON)?;
    wait_for(format_args!("{victim} to be known dead"), SOON, || {
        let server = cluster.server(victim)?;
        ensure!(server["dead"] == true && withheld(&server).contains(&"refused"), "{server:#}");
        Ok(Some(()))
    })?;
    assert_eq!(maps.state(id)?, state::DEAD);
    wait_until("its orphans to end", SOON, || Ok(db.processes()?.is_empty()))?;
    db.start()?;
    cluster.wait_serving(&names)?;
    cluster.session_with(victim).map(drop)
}

#[test]
fn netns_smart_shutdown_lets_sessions_end() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let db2 = cluster.reader("db2")?;
    let session = cluster.session_with("db2")?;
    let (id, maps) = (cluster.id("db2")?, cluster.director.maps(READER_VIP)?);

    let start = Instant::now();
    db2.signal_postmaster(Signal::SIGTERM)?;
    wait_for("db2 to leave the table", SOON, || Ok((!maps.serves(id)?).then_some(())))?;
    let elapsed = start.elapsed();
    println!("smart shutdown: out of the table after {elapsed:.0?}");
    assert!(elapsed <= OUT_AT_ONCE);
    let server = cluster.server("db2")?;
    assert_eq!(withheld(&server)[0], "not_accepting", "{server:#}");
    assert_eq!((server["dead"].as_bool(), maps.state(id)?), (Some(false), state::ALIVE));
    let served = cluster.served(12)?;
    assert!(!served.contains_key("db2"), "{served:?}");
    assert_eq!(session.server()?, "db2");
    assert_eq!(session.query("select 'slept' from pg_sleep(1)")?, "slept");
    assert!(db2.is_running()?);

    // pgha's own sessions do not hold it up.
    drop(session);
    db2.wait_stopped(SOON)?;
    wait_for("db2 to be known dead", SOON, || {
        let server = cluster.server("db2")?;
        ensure!(server["dead"] == true, "{server:#}");
        Ok(Some(()))
    })?;
    db2.start()?;
    cluster.wait_serving(&["db2", "db3"])
}

#[test]
fn netns_psql_reconnects_to_another_reader() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let go = cluster.lab.directory().join("go");
    let said = cluster.lab.directory().join("log/psql.log");
    // psql resets its connection only for a person, so it gets a terminal of its own.
    let script = format!(
        "( echo 'show cluster_name;'; until [ -e '{go}' ]; do sleep 0.05; done; \
           echo 'show cluster_name;'; echo 'show cluster_name;'; echo '\\q' ) | \
         script -qec '{psql} -XAtn -P pager=off -v PROMPT1= -h {READER_VIP}' /dev/null",
        go = go.display(),
        psql = bin_directory()?.join("psql").display(),
    );
    let psql = cluster.client.command(["sh", "-c", &script])?.env("TERM", "dumb").start(&said)?;
    let lines = || psql.log().lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let is_name = |line: &&String| line.starts_with("db") && line.len() == 3;
    let first = wait_for("psql's first answer", SOON, || {
        Ok(Some(lines().iter().find(is_name).cloned().with_context(|| psql.log())?))
    })?;

    let victim = cluster.reader(&first)?;
    victim.signal_all(Signal::SIGTERM)?;
    wait_for("its end to be known", SOON, || Ok((cluster.weights()?[&first] == 0).then_some(())))?;
    fs::write(&go, "")?;
    assert!(psql.wait(SOON)?.success(), "{}", psql.log());
    let other = if first == "db2" { "db3" } else { "db2" };
    let log = psql.log();
    assert!(
        log.contains("The connection to the server was lost. Attempting reset: Succeeded."),
        "{log}"
    );
    let names: Vec<_> = lines().into_iter().filter(|line| is_name(&line)).collect();
    assert_eq!(names, [first.as_str(), other], "{log}");
    Ok(())
}

#[test]
fn netns_cut_off_reader_leaves_and_returns() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let mut lost = cluster.session_with("db2")?;
    let kept = cluster.session_with("db3")?;
    let db2 = cluster.reader("db2")?;

    let start = Instant::now();
    db2.host().link_down()?;
    wait_for("db2 to be known dead", SOON, || {
        let server = cluster.server("db2")?;
        ensure!(server["dead"] == true && weight(&server)? == 0, "{server:#}");
        ensure!(withheld(&server).contains(&"silent"), "{server:#}");
        Ok(Some(()))
    })?;
    println!("reader cut off: dead after {:.1?}", start.elapsed());
    let served = cluster.served(12)?;
    assert!(!served.contains_key("db2"), "{served:?}");
    // Whoever speaks to the dead server is told at once, not after the retries of TCP.
    let asked = Instant::now();
    let Err(error) = lost.query("select 1") else { bail!("a server without a cable answered") };
    assert!(asked.elapsed() < Duration::from_secs(10), "{error:#}");
    lost.wait_ended(SOON)?;
    assert_eq!(kept.server()?, "db3");

    db2.host().link_up()?;
    cluster.wait_serving(&["db2", "db3"])?;
    cluster.session_with("db2").map(drop)
}

#[test]
fn netns_cut_off_director_takes_nobody_out() -> Result<()> {
    // A primary that may be in several places takes longer to be given up.
    let cluster =
        Cluster::up(&["db2", "db3"], &[("[\"10.77.0.11\"]", "[\"db1\", \"db2\", \"db3\"]")])?;
    let session = cluster.session()?;
    let server = session.server()?;
    let weights = cluster.weights()?;
    let maps = cluster.director.maps(READER_VIP)?;
    let table = maps.table()?;

    cluster.director.host().link_down()?;
    // Many more failed checks than `fall`.
    let unchanged = || {
        ensure!(maps.table()? == table, "the table changed: {}", cluster.director.log()?);
        let now = cluster.weights()?;
        ensure!(now == weights, "{now:?}");
        Ok(())
    };
    hold_until("the director to be alone for 6 s", SOON, unchanged, || {
        let stale = cluster.director.status()?["primary"]["stale_ms"].as_u64();
        Ok(stale.is_some_and(|age| age > 6000).then_some(()))
    })?;
    assert_eq!(cluster.logged("gets no new connections")?, 0, "{}", cluster.director.log()?);

    cluster.director.host().link_up()?;
    assert_eq!(session.server()?, server);
    cluster.wait_serving(&["db2", "db3"])?;
    wait_for("the primary to be asked again", SOON, || {
        Ok((cluster.director.status()?["primary"]["answers"] == true).then_some(()))
    })?;
    ensure!(maps.table()? == table, "the table changed: {}", cluster.director.log()?);
    cluster.session_with("db2").map(drop)?;
    cluster.session_with("db3").map(drop)
}

#[test]
fn netns_vanished_walsender_drains_and_outlives_a_restart() -> Result<()> {
    let cluster =
        Cluster::up(&["db2", "db3"], &[("discovery = \"both\"", "discovery = \"walsenders\"")])?;
    let session = cluster.session_with("db3")?;
    let db3 = cluster.reader("db3")?;
    let upstream = db3.psql("show primary_conninfo")?;
    db3.set_guc("primary_conninfo", "")?;
    cluster.wait_weights(&[("db2", 1), ("db3", 0)])?;
    assert_eq!(withheld(&cluster.server("db3")?), ["not_streaming"]);
    assert_eq!(session.server()?, "db3");

    cluster.director.kill()?;
    cluster.director.start()?;
    let answered = |director: &Director| {
        wait_for("the primary's word", SOON, || {
            Ok((director.status()?["primary"]["answers"] == true).then_some(()))
        })
    };
    answered(&cluster.director)?;
    assert_eq!(session.server().context("after a restart")?, "db3");
    assert_eq!(session.query("select 'slept' from pg_sleep(1)")?, "slept");
    let served = cluster.served(12)?;
    assert!(!served.contains_key("db3"), "{served:?}");
    db3.set_guc("primary_conninfo", &upstream)?;
    cluster.wait_weights(&[("db2", 1), ("db3", 1)])?;
    assert_eq!(session.server()?, "db3");
    Ok(())
}
