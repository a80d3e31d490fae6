//! Which of several servers out of recovery is the primary, and who streams from whom.
use std::fs;

use anyhow::{Context as _, Result, ensure};
use pgha_tests::lab::{PostgresOptions, READER_VIP, SOON, hold_until, wait_for};
use serde_json::Value;

use crate::cluster::{Cluster, servers, weight, withheld};

const ONLY_DB1: &str = "hosts = [\"10.77.0.11\"]";

fn primary(cluster: &Cluster) -> Result<Value> {
    Ok(cluster.director.status()?["primary"].clone())
}

fn wait_primary(cluster: &Cluster, what: &str, check: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_for(what, SOON, || {
        let primary = primary(cluster)?;
        ensure!(check(&primary), "{primary:#}");
        Ok(Some(primary))
    })
}

/// The names of the hosts in one of the lists.
fn names<'p>(primary: &'p Value, list: &str) -> Vec<&'p str> {
    let hosts = primary[list].as_array().map(Vec::as_slice).unwrap_or_default();
    hosts.iter().filter_map(|host| host["host"].as_str()).collect()
}

#[test]
fn netns_a_promoted_standby_is_the_primary_and_the_former_one_is_told() -> Result<()> {
    let hosts = (ONLY_DB1, "hosts = [\"10.77.0.13\", \"db1\", \"10.77.0.12:5432\"]");
    let cluster = Cluster::up(&["db2", "db3"], &[hosts])?;
    wait_primary(&cluster, "the primary db1", |primary| primary["name"] == "db1")?;
    cluster.reader("db2")?.psql("select pg_promote()")?;
    let found = wait_primary(&cluster, "the primary db2, the former one told", |primary| {
        primary["name"] == "db2" && names(primary, "stale") == ["10.77.0.11"]
    })?;
    assert_eq!(found["timeline"], 2, "{found:#}");
    assert_eq!(found["stale"][0]["timeline"], 1, "{found:#}");
    assert!(names(&found, "several").is_empty(), "{found:#}");
    assert!(cluster.logged("whatever is written to it will be lost")? > 0);
    cluster.wait_weights(&[("db1", 0), ("db2", 0), ("db3", 1)])?;

    // While the new one is away, the former one is none the more the primary.
    cluster.reader("db2")?.stop()?;
    wait_primary(&cluster, "nobody but the former one", |primary| {
        primary["answers"] == false && names(primary, "stale") == ["10.77.0.11"]
    })?;
    cluster.primary.stop()?;
    wait_primary(&cluster, "no former one", |primary| names(primary, "stale").is_empty())?;
    cluster.reader("db2")?.start()?;
    wait_primary(&cluster, "db2 again", |primary| {
        primary["name"] == "db2" && primary["answers"] == true
    })?;
    Ok(())
}

/// A copy of the primary that was started as it is: out of recovery, on the same timeline.
#[test]
fn netns_two_primaries_on_one_timeline_change_nothing() -> Result<()> {
    let hosts = (ONLY_DB1, "hosts = [\"10.77.0.11\", \"10.77.0.14\"]");
    let cluster = Cluster::up(&["db2", "db3"], &[hosts])?;
    let copy = cluster.lab.standby("db4", "db1")?;
    copy.stop()?;
    fs::remove_file(copy.data().join("standby.signal"))?;
    // It streamed for a moment, and is forgotten.
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 1)])?;
    let weights = cluster.weights()?;
    let table = cluster.director.maps(READER_VIP)?.table()?;
    let unchanged = || {
        ensure!(cluster.director.maps(READER_VIP)?.table()? == table, "the table changed");
        let now = cluster.weights()?;
        ensure!(now == weights, "{now:?}");
        Ok(())
    };
    copy.start()?;
    assert_eq!(copy.psql("select pg_is_in_recovery()")?, "f");
    let found = hold_until("both to be told", SOON, unchanged, || {
        let primary = primary(&cluster)?;
        ensure!(names(&primary, "several") == ["10.77.0.11", "10.77.0.14"], "{primary:#}");
        Ok(Some(primary))
    })?;
    assert_eq!(found["answers"], false, "{found:#}");
    assert!(found["stale_since"].is_u64(), "{found:#}");
    assert_eq!(found["several"][0]["timeline"], 1, "{found:#}");
    assert_eq!(found["several"][0]["system"], found["several"][1]["system"], "{found:#}");
    assert!(cluster.logged("several hosts are out of recovery: db1 (10.77.0.11:5432)")? >= 1);
    hold_until("ten rounds of two primaries", SOON, unchanged, || {
        let primary = primary(&cluster)?;
        ensure!(names(&primary, "several").len() == 2, "{primary:#}");
        Ok(primary["stale_ms"].as_u64().is_some_and(|age| age > 2_000).then_some(()))
    })?;

    copy.stop()?;
    hold_until("one primary again", SOON, unchanged, || {
        let primary = primary(&cluster)?;
        ensure!(primary["name"] == "db1" && primary["answers"] == true, "{primary:#}");
        ensure!(names(&primary, "several").is_empty(), "{primary:#}");
        Ok(Some(()))
    })
}

#[test]
fn netns_a_standby_that_streams_over_ipv6_is_found_at_its_ipv6_address() -> Result<()> {
    let discovery = ("discovery = \"both\"", "discovery = \"walsenders\"");
    let cluster = Cluster::prepared(&["db2"])?;
    cluster.configure(&[discovery])?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2"])?;
    let unnamed = PostgresOptions::default().application_name("walreceiver");
    let db5 = cluster.lab.standby_with("db5", "db1", &unnamed)?;
    cluster.lab.realserver_setup("db5")?;
    db5.set_guc("primary_conninfo", "host=fd77::11 port=5432 application_name=walreceiver")?;
    wait_for("db5 to serve by its IPv6 address", SOON, || {
        let servers = servers(&cluster.director.status()?, "reader")?;
        let server = servers.get("fd77::15").context("no member fd77::15")?;
        ensure!(weight(server)? == 1, "{server:#}");
        Ok(Some(()))
    })?;
    let served = cluster.served(20)?;
    ensure!(served.contains_key("db5") && served.contains_key("db2"), "{served:?}");
    Ok(())
}

#[test]
fn netns_a_cascaded_standby_is_found_through_its_upstream() -> Result<()> {
    let discovery = ("discovery = \"both\"", "discovery = \"walsenders\"");
    let cluster = Cluster::prepared(&["db2", "db4"])?;
    cluster.configure(&[discovery])?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2", "db4"])?;
    // Neither listed nor known to the primary.
    let named = PostgresOptions::default().application_name("walreceiver");
    let db3 = cluster.lab.standby_with("db3", "db2", &named)?;
    cluster.lab.realserver_setup("db3")?;
    cluster.wait_serving(&["db3"])?;
    assert_eq!(cluster.server("db3")?["upstream"], "10.77.0.12");
    let session = cluster.session_with("db3")?;

    // Its walsender vanishes, and says nothing about the server: it drains at most.
    db3.set_guc("primary_conninfo", "")?;
    wait_for("db3 to drain", SOON, || {
        let server = cluster.server("db3")?;
        ensure!(weight(&server)? == 0, "{server:#}");
        ensure!(withheld(&server) == ["not_streaming"] && server["dead"] == false, "{server:#}");
        Ok(Some(()))
    })?;
    assert_eq!(session.server()?, "db3");
    db3.set_guc("primary_conninfo", "host=10.77.0.12 port=5432 application_name=walreceiver")?;
    cluster.wait_serving(&["db3"])?;

    // Whoever streams from nobody any more drains, as a standby of the primary does, and keeps its sessions.
    cluster.reader("db2")?.stop()?;
    let alive = || {
        let db3 = cluster.server("db3")?;
        ensure!(db3["dead"] == false, "{db3:#}");
        Ok(())
    };
    hold_until("db3 to drain behind a dead upstream", SOON, alive, || {
        let server = cluster.server("db3")?;
        ensure!(weight(&server)? == 0, "{server:#}");
        ensure!(withheld(&server) == ["not_streaming"], "{server:#}");
        Ok(Some(()))
    })?;
    assert_eq!(session.server()?, "db3");
    Ok(())
}
