//! Who may connect to a service, and how often.
use std::net::{SocketAddrV4, TcpStream};
use std::thread;

use anyhow::{Context as _, Result};
use pgha_tests::lab::postgres::PORT;
use pgha_tests::lab::{Host, READER_VIP, SOON, wait_for};

use crate::cluster::Cluster;

const SCHEDULER: &str = "scheduler = \"maglev\"\n";

fn counted(cluster: &Cluster, reason: &str) -> Result<u64> {
    cluster.director.status()?["reasons"][reason].as_u64().context("a reason")
}

/// A connection through the VIP; the kernel repeats its SYN for as long as nobody answers.
fn connect(from: &Host) -> Result<TcpStream> {
    let vip = SocketAddrV4::new(READER_VIP, PORT);
    from.inside(|| Ok(TcpStream::connect_timeout(&vip.into(), SOON)?))
}

/// Opens that many connections at the same time.
fn burst(from: &Host, count: usize) -> Result<Vec<TcpStream>> {
    thread::scope(|scope| {
        let opened: Vec<_> = (0..count).map(|_| scope.spawn(|| connect(from))).collect();
        opened.into_iter().map(|opened| opened.join().expect("no panic")).collect()
    })
}

#[test]
fn netns_only_allowed_clients_connect() -> Result<()> {
    let others = format!("{SCHEDULER}allowed_clients = [\"10.77.0.32/32\", \"10.78.0.0/16\"]\n");
    let with_client = format!("{SCHEDULER}allowed_clients = [\"10.77.0.30/31\"]\n");
    let cluster = Cluster::up(&["db2"], &[(SCHEDULER, &others)])?;
    connect(&cluster.lab.host("client2")?)?;
    assert_eq!(counted(&cluster, "not_allowed")?, 0);
    thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(&cluster.client));
        wait_for("a SYN and the next one to be dropped", SOON, || {
            Ok((counted(&cluster, "not_allowed")? >= 2).then_some(()))
        })?;
        assert!(!connecting.is_finished(), "somebody answered");
        cluster.configure(&[(SCHEDULER, &with_client)])?;
        cluster.director.reload()?;
        connecting.join().expect("no panic").map(drop)
    })?;
    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    Ok(())
}

#[test]
fn netns_connections_beyond_the_rate_are_made_later() -> Result<()> {
    let limited = format!("{SCHEDULER}syn_rate = 2\nsyn_burst = 5\n");
    let cluster = Cluster::up(&["db2"], &[(SCHEDULER, &limited)])?;
    let streams = burst(&cluster.client, 5)?;
    assert_eq!(counted(&cluster, "syn_limited")?, 0);
    let more = burst(&cluster.client, 6)?;
    let dropped = counted(&cluster, "syn_limited")?;
    assert!(dropped >= 1, "{dropped}");
    assert_eq!(counted(&cluster, "new_flow")?, 11);
    // Somebody else is not counted among them.
    let others = burst(&cluster.lab.host("client2")?, 5)?;
    assert_eq!(counted(&cluster, "syn_limited")?, dropped);
    drop((streams, more, others));
    Ok(())
}

#[test]
fn netns_nobody_is_limited_by_default() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let streams = burst(&cluster.client, 60)?;
    assert_eq!(counted(&cluster, "new_flow")?, 60);
    for reason in ["not_allowed", "syn_limited"] {
        assert_eq!(counted(&cluster, reason)?, 0, "{reason}");
    }
    drop(streams);
    Ok(())
}
