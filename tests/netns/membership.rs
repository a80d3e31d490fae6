//! Who becomes a reader, by what the primary and the servers themselves say.
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};
use pgha_tests::lab::{PostgresOptions, READER_VIP, SOON, wait_for};
use serde_json::Value;

use crate::cluster::{Cluster, psql, servers, service, weight, withheld};

/// Those of both services.
const VIPS: [IpAddr; 2] = [IpAddr::V4(READER_VIP), IpAddr::V4(Ipv4Addr::new(10, 77, 0, 101))];

/// A second service, whose readers are found by walsenders alone.
const WALSENDERS_TOO: (&str, &str) = (
    "\n[[service]]",
    r#"
[[service]]
name = "streams"
vip = "10.77.0.101"
port = 5432
discovery = "walsenders"

[[service]]"#,
);

#[test]
fn netns_sync_states_all_count() -> Result<()> {
    let cluster = Cluster::prepared_for(&VIPS, &["db2", "db3"])?;
    cluster.configure(&[WALSENDERS_TOO])?;
    cluster.director.start()?;
    wait_for("both services to serve", SOON, || {
        let status = cluster.director.status()?;
        for service in ["reader", "streams"] {
            let servers = servers(&status, service)?;
            for name in ["db2", "db3"] {
                let server = servers.get(name).with_context(|| format!("{service}: {name}"))?;
                ensure!(weight(server)? == 1, "{service}: {server:#}");
            }
        }
        Ok(Some(()))
    })?;
    let maps = cluster.director.maps(READER_VIP)?;
    let table = maps.table()?;
    for (names, states) in [
        ("ANY 1 (db2,db3)", ["quorum", "quorum"]),
        ("FIRST 1 (db2,db3)", ["sync", "potential"]),
        ("FIRST 2 (db2,db3)", ["sync", "sync"]),
        ("", ["async", "async"]),
    ] {
        cluster.primary.set_guc("synchronous_standby_names", names)?;
        wait_for(format_args!("{states:?} by `{names}`"), SOON, || {
            let status = cluster.director.status()?;
            for service in ["reader", "streams"] {
                let servers = servers(&status, service)?;
                let seen = ["db2", "db3"].map(|name| servers[name]["sync_state"].clone());
                if seen != states.map(Value::from) {
                    bail!("{service}: {seen:?}");
                }
            }
            Ok(Some(()))
        })?;
        let status = cluster.director.status()?;
        for service in ["reader", "streams"] {
            for name in ["db2", "db3"] {
                let server = &servers(&status, service)?[name];
                assert_eq!(weight(server)?, 1, "{names}: {service}: {server:#}");
            }
        }
        assert_eq!(maps.table()?, table, "{names}");
    }
    Ok(())
}

#[test]
fn netns_unlisted_standby_joins_and_wal_tools_never_do() -> Result<()> {
    // db3 is listed, but no PostgreSQL runs there.
    let cluster = Cluster::prepared_for(&VIPS, &["db2"])?;
    let [db3, other] = cluster.lab.hosts(&["db3", "client2"])?.try_into().expect("two hosts");
    cluster.configure(&[WALSENDERS_TOO])?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2"])?;

    let named = PostgresOptions::default().application_name("10.77.0.15");
    let db5 = cluster.lab.standby_with("db5", "db1", &named)?;
    cluster.lab.realserver_setup_for("db5", &VIPS)?;
    let primary = &cluster.primary;
    let tools = [
        primary.receivewal(&cluster.client, "archive")?,
        primary.basebackup(&other, "backup", "stream")?,
        // Under the names of a listed node, of the primary, and of a host that is not there.
        primary.receivewal(&db3, "db3")?,
        primary.receivewal(&cluster.client, "db1")?,
        primary.receivewal(&other, "10.77.0.99")?,
        // Beside a standby that is one.
        primary.receivewal(cluster.reader("db2")?.host(), "mirror")?,
    ];
    db5.wait_streaming()?;
    wait_for("every walsender", SOON, || {
        let seen = primary.psql(
            "select application_name from pg_stat_replication where state = 'streaming' \
             group by 1 order by 1",
        )?;
        ensure!(seen == "10.77.0.15\n10.77.0.99\narchive\nbackup\ndb1\ndb2\ndb3\nmirror", "{seen}");
        Ok(Some(()))
    })?;

    // The one that is not there is silent, the others refuse or are no standby: all have been checked.
    let wanted = [
        ("client", "refused"),
        ("client2", "refused"),
        ("db1", "not_in_recovery"),
        ("db3", "refused"),
        ("10.77.0.99", "unproven"),
    ];
    wait_for("the verdict on every walsender", SOON, || {
        let status = cluster.director.status()?;
        for service in ["reader", "streams"] {
            let servers = servers(&status, service)?;
            for name in ["db2", "db5"] {
                let server = servers.get(name).with_context(|| format!("{service}: {name}"))?;
                ensure!(weight(server)? == 1, "{service}: {server:#}");
            }
            for (name, reason) in wanted {
                let server = servers.get(name).with_context(|| format!("{service}: {name}"))?;
                ensure!(withheld(server).contains(&reason), "{service}: {name}: {server:#}");
                ensure!(weight(server)? == 0, "{service}: {name}: {server:#}");
                ensure!(reason != "unproven" || !server["error"].is_null(), "{server:#}");
            }
            ensure!(servers.len() == wanted.len() + 2, "{:?}", servers.keys());
        }
        Ok(Some(()))
    })?;
    let served: BTreeSet<String> = cluster.served(40)?.into_keys().collect();
    assert_eq!(served, BTreeSet::from(["db2".to_owned(), "db5".to_owned()]));
    // The mirror has made none of its own meanwhile.
    let members: Vec<String> = cluster.servers()?.into_keys().collect();
    assert_eq!(members, ["10.77.0.99", "client", "client2", "db1", "db2", "db3", "db5"]);
    for address in ["10.77.0.31", "10.77.0.32", "10.77.0.11", "10.77.0.13", "10.77.0.99"] {
        assert_eq!(
            cluster.logged(&format!("{address}:5432 gets new connections"))?,
            0,
            "{address}"
        );
    }

    // Who stops streaming and has no sessions is forgotten; a primary may have some of before.
    drop(tools);
    wait_for("the tools to be forgotten", SOON, || {
        let status = cluster.director.status()?;
        let names: Vec<String> = servers(&status, "streams")?.into_keys().collect();
        ensure!(names == ["db1", "db2", "db5"], "{names:?}");
        Ok(Some(()))
    })?;
    assert_eq!(service(&cluster.director.status()?, "reader")?["discovery"], "both");
    Ok(())
}

#[test]
fn netns_primary_unreachable_from_the_start() -> Result<()> {
    let cluster = Cluster::prepared(&["db2", "db3"])?;
    // Its host is gone and says nothing.
    cluster.primary.host().link_down()?;
    starts_without_a_primary(&cluster)?;
    // It is there and refuses.
    cluster.primary.host().link_up()?;
    cluster.primary.stop()?;
    starts_without_a_primary(&cluster)?;
    // Nobody can be known by walsenders: clients are told at once.
    cluster.configure(&[("discovery = \"both\"", "discovery = \"walsenders\"")])?;
    cluster.director.start()?;
    assert_eq!(cluster.weights()?.len(), 0);
    let refused = psql(&cluster.client, "select 1")?.output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("Connection refused"), "{said}");
    // It is found as soon as it is there.
    cluster.primary.start()?;
    cluster.wait_weights(&[("db2", 1), ("db3", 1)])
}

/// Listed servers are asked themselves, by a controller that starts and is ended again.
fn starts_without_a_primary(cluster: &Cluster) -> Result<()> {
    for discovery in ["direct", "both"] {
        cluster.configure(&[("discovery = \"both\"", &format!("discovery = \"{discovery}\""))])?;
        cluster.director.start()?;
        cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 1)])?;
        let primary = &cluster.director.status()?["primary"];
        assert_eq!(primary["answers"], false, "{primary:#}");
        assert!(primary["host"].is_null() && primary["stale_ms"].is_u64(), "{primary:#}");
        assert_eq!(cluster.served(20)?.len(), 2);
        cluster.director.terminate()?;
        assert!(cluster.director.pgha(["detach"])?.status.success());
    }
    Ok(())
}
