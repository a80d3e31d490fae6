//! What operators order: weights and drains.
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use pgha_tests::lab::{READER_VIP, SOON, wait_for};
use serde_json::Value;

use crate::cluster::{Cluster, shares, success, withheld};

#[test]
fn netns_orders_are_kept_through_a_killed_controller() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[("\"maglev\"", "\"rr\"")])?;
    let session = cluster.session_with("db2")?;

    let reply = json(&cluster, &["weight", "db3", "3", "--json"])?;
    let server = |reply: &Value, address: &str| {
        let servers = reply["services"][0]["servers"].as_array().cloned().unwrap_or_default();
        servers.into_iter().find(|server| server["address"] == address).context("the server")
    };
    let db3 = server(&reply, "10.77.0.13")?;
    assert_eq!(
        (&db3["effective_weight"], &db3["weight_set"]["by"]),
        (&3.into(), &"root".into()),
        "{db3:#}"
    );
    // The reply is true: the maps are written already.
    let slots = |name: &str| {
        let id = cluster.id(name)?;
        let table = cluster.director.maps(READER_VIP)?.table()?;
        Ok::<_, anyhow::Error>(table.iter().filter(|slot| **slot == id).count())
    };
    assert!(slots("db3")? > 2 * slots("db2")?);
    assert_eq!(cluster.connects(40)?, shares(&[("db1", 0), ("db2", 10), ("db3", 30)]));

    // By address and by service.
    let reply = json(&cluster, &["drain", "10.77.0.12", "--service", "reader", "--json"])?;
    let db2 = server(&reply, "10.77.0.12")?;
    assert_eq!(
        (withheld(&db2), &db2["drained"]["by"]),
        (vec!["drained"], &"root".into()),
        "{db2:#}"
    );
    assert_eq!(slots("db2")?, 0);
    assert_eq!(session.server()?, "db2");
    assert_eq!(cluster.served(10)?, shares(&[("db3", 10)]));

    cluster.director.kill()?;
    assert_eq!(session.server()?, "db2");
    assert_eq!(cluster.served(4)?, shares(&[("db3", 4)]));
    cluster.director.start()?;
    cluster.wait_weights(&[("db1", 0), ("db2", 0), ("db3", 3)])?;
    // It has passed its checks, and is drained all the same.
    wait_for("db2 to be up", SOON, || {
        let db2 = cluster.server("db2")?;
        ensure!(db2["health"] == "up" && withheld(&db2) == ["drained"], "{db2:#}");
        Ok(Some(()))
    })?;
    assert_eq!(session.server()?, "db2");
    assert_eq!(cluster.served(10)?, shares(&[("db3", 10)]));

    let text = success(cluster.director.pgha(["undrain", "db2"])?)?;
    assert!(text.contains("db2") && text.contains("service reader 10.77.0.100:5432"), "{text}");
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 3)])?;
    success(cluster.director.pgha(["weight", "db3", "default"])?)?;
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 1)])?;
    assert_eq!(cluster.served(4)?, shares(&[("db2", 2), ("db3", 2)]));
    assert_eq!(session.server()?, "db2");

    for (order, said) in [
        (
            vec!["drain", "db9"],
            "\"db9\" is neither the name of a node or of an added reader nor an IP address; `pgha status` lists the servers",
        ),
        (
            vec!["weight", "10.77.0.99", "1"],
            "10.77.0.99 is no real server; `pgha status` lists them",
        ),
        (
            vec!["undrain", "db2", "--service", "writer"],
            "db2 is no real server of writer; `pgha status` lists them",
        ),
    ] {
        let refused = cluster.director.pgha(&order)?;
        assert_eq!(refused.status.code(), Some(5), "{order:?}");
        assert_eq!(sentence(&refused)?, format!("pgha: {said}"), "{order:?}");
    }
    // Not even a command line.
    assert_eq!(cluster.director.pgha(["weight", "db2", "1001"])?.status.code(), Some(2));
    Ok(())
}

#[test]
fn netns_verbs_without_a_controller_say_so() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    cluster.director.kill()?;
    // A killed controller leaves the file of its socket, an ended one does not.
    for _ in 0..2 {
        for verb in [vec!["status"], vec!["drain", "db2"]] {
            let refused = cluster.director.pgha(&verb)?;
            assert_eq!(refused.status.code(), Some(4));
            let said = sentence(&refused)?;
            assert!(said.starts_with("pgha: no controller runs on this node ("), "{said}");
            assert!(said.ends_with("start one: pgha controller"), "{said}");
        }
        cluster.director.start()?;
        cluster.director.terminate()?;
    }

    cluster.configure(&[
        ("interface = \"eth0\"", "interface = \"a/b\""),
        ("rise = 2", "rise = 0"),
        ("scheduler = \"maglev\"", "schedular = \"maglev\""),
        ("[\"10.77.0.11\"]", "[]"),
    ])?;
    let checked = cluster.director.pgha(["check-config"])?;
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stderr)?;
    assert!(said.contains(": 4 errors\n"), "{said}");
    for wrong in [
        "director.interface = \"a/b\" cannot name a network interface",
        "health.rise = 0 is out of bounds; give a whole number from 1 to 10",
        "service[0].schedular: no such key; did you mean \"scheduler\"?",
        "primary.hosts is an empty list; give at least one, such as `",
    ] {
        assert!(said.contains(wrong), "`{wrong}` in {said}");
    }
    cluster.configure(&[])?;
    let said = success(cluster.director.pgha(["check-config"])?)?;
    assert!(said.ends_with("correct; 1 service, 2 nodes\n"), "{said}");
    Ok(())
}

fn json(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&success(cluster.director.pgha(arguments)?)?)?)
}

/// The one line of standard error.
fn sentence(output: &Output) -> Result<String> {
    let said = String::from_utf8(output.stderr.clone())?;
    ensure!(said.lines().count() == 1, "{said}");
    Ok(said.trim_end().to_owned())
}
