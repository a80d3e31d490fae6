//! What operators set is kept: through restarts, reboots and troubles of the store.
use std::fs;

use anyhow::{Context as _, Result, ensure};
use pgha_ctl::store::Local;
use pgha_tests::lab::{SOON, wait_for};
use serde_json::Value;

use crate::api::{ask, asked};
use crate::cluster::{Cluster, shares, success, withheld};

const DIRECT: (&str, &str) = ("discovery = \"both\"", "discovery = \"direct\"");

/// What is set for db2 and db3, without when.
fn set(cluster: &Cluster) -> Result<Value> {
    let servers = cluster.servers()?;
    let of = |name: &str| servers.get(name).with_context(|| format!("no {name}"));
    Ok(serde_json::json!([of("db2")?["drained"]["by"], of("db3")?["weight_set"]["by"]]))
}

#[test]
fn netns_orders_outlive_a_reboot() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[DIRECT])?;
    success(cluster.director.pgha(["weight", "db3", "3"])?)?;
    success(cluster.director.pgha(["drain", "db2"])?)?;
    let reader = r#"{"add":{"address":"10.77.0.14","name":"extra","weight":2}}"#;
    let added = asked(&cluster, "POST", "/v1/reader", reader)?;
    assert_eq!(added["readers"][0]["address"], "10.77.0.14", "{added:#}");
    assert_eq!(
        (&added["readers"][0]["by"], &added["readers"][0]["name"]),
        (&"root".into(), &"extra".into())
    );
    let before = cluster.director.status()?;
    assert_eq!(before["store"]["answers"], true, "{}", before["store"]);
    assert_eq!(before["readers"], added["readers"]);
    let drained_at = cluster.server("db2")?["drained"]["at"].clone();

    // No pinned map outlives a reboot.
    cluster.director.kill()?;
    let detached = cluster.director.pgha(["detach"])?;
    ensure!(detached.status.success(), "{detached:?}");
    assert!(!cluster.director.pins().exists());
    cluster.director.start()?;
    let after = cluster.director.status()?;
    assert_eq!(after["director"]["taken_over"], false);
    assert_eq!(after["store"], before["store"]);
    assert_eq!(after["readers"], before["readers"]);
    assert_eq!(set(&cluster)?, serde_json::json!(["root", "root"]));
    // Not even its first table has the drained one.
    assert_eq!(cluster.served(10)?, shares(&[("db3", 10)]));
    let db2 = cluster.server("db2")?;
    assert_eq!((withheld(&db2).first(), &db2["drained"]["at"]), (Some(&"drained"), &drained_at));

    let removed = asked(&cluster, "POST", "/v1/reader", r#"{"remove":{"address":"10.77.0.14"}}"#)?;
    assert_eq!(removed["readers"], serde_json::json!([]));
    let (code, said) =
        ask(&cluster, "POST", "/v1/reader", r#"{"remove":{"address":"10.77.0.14"}}"#)?;
    assert_eq!(code, 422, "{said}");
    assert!(said.contains("10.77.0.14 was not added as a reader"), "{said}");
    for (address, said) in [
        ("10.77.0.100", "10.77.0.100 is the VIP of service reader"),
        ("127.0.0.1", "127.0.0.1 is not the address of one host on a network"),
    ] {
        let (code, answer) = ask(
            &cluster,
            "POST",
            "/v1/reader",
            &format!(r#"{{"add":{{"address":"{address}"}}}}"#),
        )?;
        assert!(code == 422 && answer.contains(said), "{code}: {answer}");
    }
    let taken = r#"{"add":{"address":"10.77.0.15","name":"db2"}}"#;
    let (code, said) = ask(&cluster, "POST", "/v1/reader", taken)?;
    assert!(code == 422 && said.contains("db2 is 10.77.0.12 already"), "{code}: {said}");
    Ok(())
}

#[test]
fn netns_a_damaged_store_changes_nothing_and_is_not_replaced() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[DIRECT])?;
    let store = cluster.director.store_path();
    success(cluster.director.pgha(["drain", "db2"])?)?;
    success(cluster.director.pgha(["weight", "db3", "3"])?)?;
    let whole = fs::read(&store)?;
    let before = cluster.director.status()?["store"]["incarnation"].clone();
    assert!(cluster.director.terminate()?.success());
    let damaged = &whole[..whole.len() - 1];
    fs::write(&store, damaged)?;

    // Fail static: what the data plane remembers stands.
    cluster.director.start()?;
    cluster.wait_weights(&[("db1", 0), ("db2", 0), ("db3", 3)])?;
    let status = cluster.director.status()?;
    let (answers, error) = (&status["store"]["answers"], status["store"]["error"].as_str());
    assert!(error.is_some_and(|error| error.contains("is damaged")), "{}", status["store"]);
    assert!(*answers == false && status["store"]["stale_since"].is_u64(), "{}", status["store"]);
    let log = cluster.director.log()?;
    assert!(log.contains("orders are neither read nor taken; those that are known stay"), "{log}");
    let refused = cluster.director.pgha(["undrain", "db2"])?;
    let said = String::from_utf8(refused.stderr)?;
    assert!(!refused.status.success() && said.contains("not kept, so not in force: "), "{said}");
    assert!(said.contains("put a backup in its place, or move it away"), "{said}");
    assert_eq!(cluster.served(6)?, shares(&[("db3", 6)]));
    assert_eq!(fs::read(&store)?, damaged);

    // Moved away: the new one takes over what the data plane remembers, without a restart.
    fs::rename(&store, store.with_extension("damaged"))?;
    wait_for("an empty store to take over the orders", SOON, || {
        let status = cluster.director.status()?;
        ensure!(
            status["store"]["answers"] == true && status["store"]["revision"] == 1,
            "{}",
            status["store"]
        );
        Ok(Some(()))
    })?;
    success(cluster.director.pgha(["undrain", "db2"])?)?;
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 3)])?;

    // A backup: its orders come with it, but its revisions are given out a second time. So it is another store.
    let incarnation =
        || Ok::<_, anyhow::Error>(cluster.director.status()?["store"]["incarnation"].clone());
    let between = incarnation()?;
    assert!(cluster.director.terminate()?.success());
    fs::write(&store, &whole)?;
    cluster.director.start()?;
    cluster.wait_weights(&[("db1", 0), ("db2", 0), ("db3", 3)])?;
    assert_eq!(set(&cluster)?, serde_json::json!(["root", "root"]));
    let after = incarnation()?;
    assert!(after != before && after != between, "{before} {between} {after}");
    assert_eq!(cluster.logged("It counts as another store from here on")?, 1);
    Ok(())
}

#[test]
fn netns_a_store_that_cannot_be_written_says_so_before_anybody_orders() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[DIRECT])?;
    success(cluster.director.pgha(["drain", "db2"])?)?;
    let before = cluster.director.status()?["store"].clone();
    // Not even root writes a file where a directory is.
    let beside = cluster.director.store_path().with_added_extension("new");
    fs::create_dir_all(beside.join("x"))?;
    let store = wait_for("a store that cannot be written to be told", SOON, || {
        let store = cluster.director.status()?["store"].clone();
        Ok((store["answers"] == false).then_some(store))
    })?;
    let error = store["error"].as_str().unwrap_or_default();
    assert!(error.contains("see that its directory is there, writable and not full"), "{store}");
    let refused = cluster.director.pgha(["undrain", "db2"])?;
    let said = String::from_utf8(refused.stderr)?;
    assert!(said.contains("not kept, so not in force: "), "{said}");
    assert_eq!(refused.status.code(), Some(5), "{said}");
    // What is in force stays, and can be read.
    assert_eq!(cluster.served(6)?, shares(&[("db3", 6)]));
    assert_eq!(set(&cluster)?[0], "root");

    fs::remove_dir_all(&beside)?;
    wait_for("the store to answer again", SOON, || {
        Ok((cluster.director.status()?["store"] == before).then_some(()))
    })?;
    success(cluster.director.pgha(["undrain", "db2"])?)?;
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 1)])?;
    Ok(())
}

#[test]
fn netns_an_empty_store_takes_over_the_orders_as_soon_as_it_can() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[DIRECT])?;
    let path = cluster.director.store_path();
    success(cluster.director.pgha(["drain", "db2"])?)?;
    assert!(cluster.director.terminate()?.success());
    fs::remove_file(&path)?;
    drop(Local::open(&path)?);
    let beside = path.with_added_extension("new");
    fs::create_dir_all(beside.join("x"))?;

    // It can be read, and is empty; it cannot be written.
    cluster.director.start()?;
    let told = "orders that the data plane remembers: not kept, so not in force: ";
    wait_for(
        "the store not to take them",
        SOON,
        || Ok((cluster.logged(told)? == 1).then_some(())),
    )?;
    let store = cluster.director.status()?["store"].clone();
    assert!(store["answers"] == false && store["revision"] == 0, "{store}");
    assert_eq!(cluster.served(6)?, shares(&[("db3", 6)]));

    fs::remove_dir_all(&beside)?;
    wait_for("the store to take them", SOON, || {
        let store = cluster.director.status()?["store"].clone();
        Ok((store["answers"] == true && store["revision"] == 1).then_some(()))
    })?;
    cluster.director.kill()?;
    success(cluster.director.pgha(["detach"])?)?;
    cluster.director.start()?;
    // Maps do not remember whose word it was.
    assert_eq!(set(&cluster)?[0], "unknown");
    assert_eq!(cluster.served(6)?, shares(&[("db3", 6)]));
    Ok(())
}

#[test]
fn netns_a_removed_store_is_put_back() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[DIRECT])?;
    let store = cluster.director.store_path();
    success(cluster.director.pgha(["drain", "db2"])?)?;
    let before = cluster.director.status()?["store"].clone();
    fs::remove_file(&store)?;
    wait_for("the file to be there again", SOON, || Ok(store.exists().then_some(())))?;
    wait_for("a word of it", SOON, || {
        Ok((cluster.logged("somebody removed the store's file; it is put back")? == 1)
            .then_some(()))
    })?;
    cluster.director.kill()?;
    cluster.director.start()?;
    let after = cluster.director.status()?["store"].clone();
    assert_eq!(after, before);
    assert_eq!(cluster.server("db2")?["drained"]["by"], "root");
    Ok(())
}
