//! What a client sees of direct server return, and how connections are shared out.
use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pgha_tests::lab::plan::mac_text;
use pgha_tests::lab::{Capture, Host, SOON, wait_for};

use crate::cluster::{Cluster, shares};

/// The first byte behind the two MAC addresses.
const BEHIND_MACS: usize = 12;

#[test]
fn netns_forwarding_rotates_and_changes_nothing_but_mac_addresses() -> Result<()> {
    let names = ["db2", "db3", "db4"];
    let cluster = Cluster::up(&names, &[("\"maglev\"", "\"rr\"")])?;
    // The director's own probes of the VIP are no client's.
    let others = format!("not host {}", cluster.director.host().address());
    let at_client = Capture::at_port(&cluster.client, &format!("tcp port 5432 and {others}"))?;
    let to_vip = format!("tcp port 5432 and host 10.77.0.100 and {others}");
    let at_readers: Vec<Capture> = cluster
        .readers
        .iter()
        .map(|reader| Capture::at_port(reader.host(), &to_vip))
        .collect::<Result<_>>()?;

    let mut served = Vec::new();
    for _ in 0..6 {
        let answer = cluster.psql(
            "select current_setting('cluster_name'), inet_client_addr(), inet_server_addr()",
        )?;
        let (server, addresses) = answer.split_once('|').context("columns")?;
        assert_eq!(addresses, "10.77.0.31|10.77.0.100");
        served.push(server.to_owned());
    }
    let first: BTreeSet<_> = served[..3].iter().map(String::as_str).collect();
    assert_eq!(first, BTreeSet::from(names), "{served:?}");
    assert_eq!(served[..3], served[3..]);
    let neighbour = cluster.client.run(["ip", "neigh", "show", "10.77.0.100"])?;
    assert!(neighbour.contains(&mac_text(cluster.director.host().mac())), "{neighbour}");

    let (client, director) = (cluster.client.mac(), cluster.director.host().mac());
    // The last frames of a closed connection may still be under way.
    wait_for("every frame to arrive where it was sent", SOON, || {
        let seen = at_client.frames()?;
        let sent = between(&seen, client, director);
        let mut forwarded = Vec::new();
        for (reader, capture) in cluster.readers.iter().zip(&at_readers) {
            let mac = reader.host().mac();
            let at_reader = capture.frames()?;
            forwarded.extend(between(&at_reader, director, mac));
            let replies = between(&seen, mac, client);
            ensure!(!replies.is_empty(), "no reply of {}", reader.host().name());
            ensure!(sorted(replies) == sorted(between(&at_reader, mac, client)), "replies differ");
        }
        // From the IP header on they are the same, byte by byte.
        ensure!(sorted(sent) == sorted(forwarded), "forwarded frames differ from those sent");
        Ok(Some(()))
    })?;
    let from_director = |frame: &Vec<u8>| frame[6..12] == director;
    assert!(!at_client.frames()?.iter().any(from_director), "replies came by the director");
    Ok(())
}

/// What lies behind the MAC addresses of the frames between these two.
fn between(frames: &[Vec<u8>], from: [u8; 6], to: [u8; 6]) -> Vec<Vec<u8>> {
    let macs = [to, from].concat();
    frames
        .iter()
        .filter(|frame| frame.starts_with(&macs))
        .map(|frame| frame[BEHIND_MACS..].to_vec())
        .collect()
}

fn sorted(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort();
    frames
}

#[test]
fn netns_weights_share_out_connections() -> Result<()> {
    // A whitelist: whoever has no weight of his own gets nothing.
    let edits = [
        ("default_weight = 1", "default_weight = 0"),
        ("\"maglev\"", "\"rr\""),
        ("\"10.77.0.12\"\n", "\"10.77.0.12\"\nweight = 3\n"),
        ("\"10.77.0.13\"\n", "\"10.77.0.13\"\nweight = 1\n"),
    ];
    let cluster = Cluster::prepared(&["db2", "db3", "db4"])?;
    cluster.configure(&edits)?;
    cluster.director.start()?;
    cluster.wait_weights(&[("db1", 0), ("db2", 3), ("db3", 1), ("db4", 0)])?;
    assert_eq!(
        cluster.connects(400)?,
        shares(&[("db1", 0), ("db2", 300), ("db3", 100), ("db4", 0)])
    );
    assert_eq!(cluster.served(8)?, shares(&[("db2", 6), ("db3", 2)]));

    let edits = [&edits[..1], &edits[2..]].concat();
    cluster.configure(&edits)?;
    cluster.director.reload()?;
    wait_for("maglev", SOON, || {
        let status = cluster.director.status()?;
        Ok((status["services"][0]["scheduler"] == "maglev").then_some(()))
    })?;
    // With that many, 5 percentage points are more than four times the standard deviation.
    let count = 1600;
    let got = cluster.connects(count)?;
    assert_eq!(cluster.logged("gets no new connections")?, 0, "{}", cluster.director.log()?);
    let share = |name: &str| got[name] as f64 / count as f64;
    assert_eq!(got["db1"] + got["db4"], 0, "{got:?}");
    assert!((share("db2") - 0.75).abs() < 0.05, "{got:?}");
    assert!((share("db3") - 0.25).abs() < 0.05, "{got:?}");
    println!("maglev 3:1 over {count} connections: {got:?}");
    Ok(())
}

#[test]
fn netns_mac_address_of_a_reader_is_followed() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let session = cluster.session()?;
    let reader = cluster.reader("db2")?.host();
    let before = cluster.server("db2")?["mac"].clone();
    assert_eq!(before, mac_text(reader.mac()));

    let new = "02:00:0a:4d:77:0c";
    move_to(reader, new)?;
    let start = Instant::now();
    wait_for("the director to follow", SOON, || {
        Ok((cluster.server("db2")?["mac"] == new).then_some(()))
    })?;
    println!("MAC address followed after {:.0?}", start.elapsed());
    cluster.wait_weights(&[("db1", 0), ("db2", 1)])?;
    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    // Its sessions go on, too.
    assert_eq!(session.server()?, "db2");
    Ok(())
}

/// Gives a host's interface another MAC address, which the host announces.
fn move_to(host: &Host, mac: &str) -> Result<()> {
    host.run(["sysctl", "-qw", "net.ipv4.conf.eth0.arp_notify=1"])?;
    host.run(["ip", "link", "set", "eth0", "address", mac]).map(drop)
}
