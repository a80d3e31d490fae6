//! A new configuration under a running controller.
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use pgha_common::maps::{PeerKey, name};
use pgha_tests::lab::{READER_VIP, SOON, Session, maps, wait_for};
use serde_json::Value;

use crate::cluster::{Cluster, Edits, servers, service, withheld};

const REFUSED: &str = "the old configuration stays in force";
const DB2: &str = "name = \"db2\"\naddress = \"10.77.0.12\"\n";
const DB3: &str = "\n[[node]]\nname = \"db3\"\naddress = \"10.77.0.13\"\n";
const DIRECT: (&str, &str) = ("discovery = \"both\"", "discovery = \"direct\"");
const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const SECOND: (&str, &str) = (
    "\n[[node]]",
    "\n[[service]]\nname = \"second\"\nvip = \"10.77.0.101\"\ndiscovery = \"direct\"\n\n[[node]]",
);

#[test]
fn netns_reload_takes_what_is_right_and_refuses_the_rest() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[DIRECT])?;
    let heavy = format!("{DB2}weight = 5\n");
    let heavy = [DIRECT, (DB2, &*heavy)];
    reload(&cluster, &heavy)?;
    cluster.wait_weights(&[("db1", 0), ("db2", 5), ("db3", 1)])?;

    let session = cluster.session_with("db2")?;
    let tables = cluster.director.maps(READER_VIP)?;
    let before = (decided(&cluster)?, tables.bytes()?);
    let wrong = format!("{DB2}weight = 5000\n");
    let wrong_files = [
        (
            vec![DIRECT, (DB2, &*wrong)],
            ["node[1].weight = 5000", "give a whole number from 0 to 1000"],
        ),
        (
            vec![DIRECT, ("interval =", "intervall =")],
            ["health.intervall", "did you mean \"interval\"?"],
        ),
        (
            vec![DIRECT, ("interface = \"eth0\"", "interface = \"eth1\"")],
            ["director.interface changed from eth0 to eth1", "restart the controller"],
        ),
        (
            vec![DIRECT, ("cluster = \"lab\"", "cluster = \"other\"")],
            ["cluster changed from lab to other", "restart the controller"],
        ),
        (
            vec![DIRECT, ("\"10.77.0.100\"", "\"10.88.0.100\"")],
            [
                "VIP 10.88.0.100 lies in no subnet of eth0 (10.77.0.0/24)",
                "choose a VIP in one of them",
            ],
        ),
    ];
    for (edits, parts) in &wrong_files {
        refused(&cluster, || cluster.configure(edits), parts)?;
        assert_eq!(tables.bytes()?, before.1, "{parts:?}");
        // The verbs find the controller also by a file with errors.
        assert_eq!(decided(&cluster)?, before.0);
        assert_eq!(session.server()?, "db2");
    }
    // Nor is a file without sense, or none, one without services. The verbs need one with.
    let remove = || Ok(fs::remove_file(cluster.director.config_path())?);
    let garble = || cluster.configure(&[DIRECT, ("[health]", "[health")]);
    refused(&cluster, remove, &["lb1.toml", "cannot be read"])?;
    refused(&cluster, garble, &["lb1.toml", "line ", "not TOML"])?;
    assert_eq!(tables.bytes()?, before.1);
    assert_eq!(session.server()?, "db2");
    cluster.configure(&heavy)?;
    assert_eq!(decided(&cluster)?, before.0);
    // What was refused left nothing behind.
    reload(&cluster, &[DIRECT])?;
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 1)])
}

#[test]
fn netns_reload_adds_and_removes_nodes_and_services() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[DIRECT])?;
    let session = cluster.session_with("db3")?;

    reload(&cluster, &[DIRECT, (DB3, "")])?;
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 0)])?;
    assert_eq!(withheld(&cluster.server("db3")?), ["not_listed"]);
    assert_eq!(session.server()?, "db3");
    assert_eq!(cluster.served(12)?.len(), 1);

    reload(&cluster, &[DIRECT])?;
    cluster.wait_weights(&[("db1", 0), ("db2", 1), ("db3", 1)])?;
    assert_eq!(session.server()?, "db3");

    // A VIP that somebody answers for is refused, as at a start.
    let squatter = cluster.reader("db2")?.host();
    squatter.run(["ip", "address", "add", "10.77.0.101/32", "dev", "eth0"])?;
    refused(
        &cluster,
        || cluster.configure(&[DIRECT, SECOND]),
        &["VIP 10.77.0.101 is in use: 02:00:0a:4d:00:0c answers"],
    )?;
    assert!(service(&cluster.director.status()?, "second").is_err());
    squatter.run(["ip", "address", "del", "10.77.0.101/32", "dev", "eth0"])?;

    for reader in ["db2", "db3"] {
        cluster.lab.realserver(reader, &["setup", "--vip", "10.77.0.101"])?.run()?;
    }
    reload(&cluster, &[DIRECT, SECOND])?;
    wait_for("the second service to serve", SOON, || {
        let status = cluster.director.status()?;
        let servers = servers(&status, "second")?;
        ensure!(["db2", "db3"].iter().all(|name| servers[*name]["effective_weight"] == 1));
        Ok(Some(()))
    })?;
    let second = Session::open(&cluster.client, SECOND_VIP)?;
    assert!(second.server()?.starts_with("db"));
    assert_eq!(second.query("select inet_server_addr()")?, "10.77.0.101");
    assert_eq!(session.server()?, "db3");

    reload(&cluster, &[DIRECT])?;
    let status = cluster.director.status()?;
    assert!(service(&status, "second").is_err());
    assert!(cluster.director.maps(SECOND_VIP)?.table().is_err());
    assert_eq!(session.server()?, "db3");
    assert_eq!(cluster.served(20)?.len(), 2);
    Ok(())
}

/// Has it read what was written for it, which it is to refuse with these parts of a sentence.
fn refused(cluster: &Cluster, write: impl FnOnce() -> Result<()>, parts: &[&str]) -> Result<()> {
    let before = cluster.logged(REFUSED)?;
    write()?;
    cluster.director.reload()?;
    wait_for(format_args!("{parts:?} in the log"), SOON, || {
        let log = cluster.director.log()?;
        let (_, said) = log.rsplit_once(REFUSED).unwrap_or_default();
        ensure!(cluster.logged(REFUSED)? == before + 1, "{log}");
        ensure!(parts.iter().all(|part| said.contains(part)), "{said}");
        Ok(Some(()))
    })
}

#[test]
fn netns_reload_knows_a_new_peer_that_is_an_old_neighbour() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[DIRECT])?;
    let peers = || -> Result<BTreeSet<[u8; size_of::<PeerKey>()]>> {
        let pinned = MapData::from_pin(cluster.director.pins().join(maps::pin(name::PEERS)))?;
        let map: HashMap<_, _, u32> = Map::HashMap(pinned).try_into()?;
        map.keys().map(|key| Ok(key?)).collect()
    };
    ensure!(peers()?.is_empty());
    let peer = "\n[[director.peer]]\nname = \"lb2\"\naddress = [\"10.77.0.12\", \"fd77::12\"]\n\n[postgres]";
    reload(&cluster, &[DIRECT, ("\n[postgres]", peer)])?;
    let db2 = cluster.lab.host("db2")?;
    let (mac, address6) = (db2.mac(), db2.address6().octets());
    let wanted = [
        PeerKey::director(mac),
        PeerKey::address(mac, db2.address().to_ipv6_mapped().octets()),
        PeerKey::address(mac, address6),
    ];
    let wanted: BTreeSet<_> = wanted.map(|key: PeerKey| zerocopy::transmute!(key)).into();
    wait_for("the peer's MAC address in the map", SOON, || Ok((peers()? == wanted).then_some(())))?;
    reload(&cluster, &[DIRECT])?;
    wait_for("the peer to leave the map", SOON, || Ok(peers()?.is_empty().then_some(())))
}

fn reload(cluster: &Cluster, edits: &Edits<'_>) -> Result<()> {
    let before = cluster.logged("reloaded")?;
    cluster.configure(edits)?;
    cluster.director.reload()?;
    wait_for("the reload", SOON, || {
        let log = cluster.director.log()?;
        ensure!(cluster.logged("reloaded")? > before, "{log}");
        Ok(Some(()))
    })
}

/// What a configuration decides of the services and their servers, and nothing that moves by itself.
fn decided(cluster: &Cluster) -> Result<Value> {
    const OF_A_SERVICE: [&str; 5] = ["name", "vip", "port", "scheduler", "discovery"];
    const OF_A_SERVER: [&str; 10] = [
        "name",
        "address",
        "id",
        "listed",
        "weight",
        "effective_weight",
        "dead",
        "drained",
        "weight_set",
        "reader",
    ];
    let named = |of: &Value, names: &[&str]| -> Result<Value> {
        let value = |name: &&str| -> Result<(String, Value)> {
            let value = of.get(*name).with_context(|| format!("no {name} in {of:#}"))?;
            Ok(((*name).to_owned(), value.clone()))
        };
        names.iter().map(value).collect()
    };
    let status = cluster.director.status()?;
    let services = status["services"].as_array().context("services")?;
    services
        .iter()
        .map(|service| {
            let mut decided = named(service, &OF_A_SERVICE)?;
            let servers = service["servers"].as_array().context("servers")?;
            decided["servers"] =
                servers.iter().map(|server| named(server, &OF_A_SERVER)).collect::<Result<_>>()?;
            Ok(decided)
        })
        .collect()
}
