//! A director with a foot in two networks, and on devices without native XDP.
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use pgha_tests::lab::{Lab, READER_VIP, SOON, Stub, wait_for, wait_until};

use crate::cluster::{Cluster, shares, weight, withheld};

const INTERFACE: &str = "interface = \"eth0\"";
const BOTH: (&str, &str) = (INTERFACE, "interface = [\"eth0\", \"eth1\"]");
const REVERSED: (&str, &str) = (INTERFACE, "interface = [\"eth1\", \"eth0\"]");
const BRIDGE: (&str, &str) = (INTERFACE, "interface = \"lan0\"");
const MIXED: (&str, &str) = (INTERFACE, "interface = [\"eth1\", \"lan0\"]");
const ROTATING: (&str, &str) = ("\"maglev\"", "\"rr\"");

/// One reader in each network, db2 in front and db3 behind, and a director in both.
fn prepared() -> Result<Cluster> {
    let lab = Lab::new()?;
    lab.host("lb1")?;
    lab.back_hosts(&["db3"])?;
    lab.second_interface("lb1")?;
    Cluster::prepared_in(lab, &[IpAddr::V4(READER_VIP)], &["db2", "db3"])
}

fn start(cluster: &Cluster, edits: &[(&str, &str)], serving: &[&str]) -> Result<()> {
    cluster.configure(edits)?;
    cluster.director.start()?;
    cluster.wait_serving(serving)
}

/// `native` or `generic`: how the XDP program on an interface of the director runs, as the kernel
/// says.
fn mode(cluster: &Cluster, interface: &str) -> Result<Option<&'static str>> {
    let link = cluster.director.host().run(["ip", "-d", "link", "show", "dev", interface])?;
    Ok(if link.contains("xdpgeneric") {
        Some("generic")
    } else {
        link.contains("xdp").then_some("native")
    })
}

fn status_mode(cluster: &Cluster) -> Result<(String, bool)> {
    let status = cluster.director.status()?;
    let director = &status["director"];
    let mode = director["mode"].as_str().with_context(|| format!("{director:#}"))?;
    Ok((mode.to_owned(), director["taken_over"] == true))
}

#[test]
fn netns_readers_behind_either_interface_get_their_share_and_fail_alone() -> Result<()> {
    let cluster = prepared()?;
    start(&cluster, &[BOTH, ROTATING], &["db2", "db3"])?;
    assert_eq!(status_mode(&cluster)?, ("native".to_owned(), false));
    assert_eq!(cluster.connects(60)?, shares(&[("db1", 0), ("db2", 30), ("db3", 30)]));
    let (kept, mut lost) = (cluster.session_with("db2")?, cluster.session_with("db3")?);
    for session in [&kept, &lost] {
        // More than one segment either way.
        let sql = format!("select length('{0}') from (select '{0}') t", "x".repeat(50_000));
        assert_eq!(session.query(&sql)?, "50000");
        assert_eq!(session.query("select repeat('x', 50000)")?.len(), 50_000);
    }

    let behind = cluster.reader("db3")?.host();
    behind.link_down()?;
    wait_for("db3 to be known dead", SOON, || {
        let server = cluster.server("db3")?;
        ensure!(server["dead"] == true && weight(&server)? == 0, "{server:#}");
        ensure!(withheld(&server).contains(&"silent"), "{server:#}");
        Ok(Some(()))
    })?;
    let Err(_) = lost.query("select 1") else { bail!("a server without a cable answered") };
    lost.wait_ended(SOON)?;
    assert_eq!(kept.server()?, "db2");
    assert_eq!(cluster.served(4)?, shares(&[("db2", 4)]));

    behind.link_up()?;
    cluster.wait_serving(&["db2", "db3"])?;
    assert_eq!(kept.server()?, "db2");
    assert_eq!(cluster.served(4)?, shares(&[("db2", 2), ("db3", 2)]));
    Ok(())
}

/// A device without native XDP: slower, and people are told so.
#[test]
fn netns_an_interface_without_native_xdp_serves_in_generic_mode() -> Result<()> {
    let cluster = Cluster::prepared(&["db2"])?;
    cluster.director.host().bridge()?;
    start(&cluster, &[BRIDGE], &["db2"])?;
    assert_eq!(status_mode(&cluster)?, ("generic".to_owned(), false));
    assert_eq!(mode(&cluster, "lan0")?, Some("generic"));
    assert_eq!(cluster.logged("WARN the XDP program runs in generic mode")?, 1);
    let session = cluster.session()?;

    cluster.director.kill()?;
    cluster.director.start()?;
    assert_eq!(status_mode(&cluster)?, ("generic".to_owned(), true));
    assert_eq!(session.server()?, "db2");
    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    Ok(())
}

/// A frame goes from one interface to another only between programs of one mode.
#[test]
fn netns_one_interface_without_native_xdp_makes_all_generic() -> Result<()> {
    let cluster = prepared()?;
    cluster.director.host().bridge()?;
    start(&cluster, &[MIXED, ROTATING], &["db2", "db3"])?;
    assert_eq!(status_mode(&cluster)?, ("generic".to_owned(), false));
    for interface in ["lan0", "eth1"] {
        assert_eq!(mode(&cluster, interface)?, Some("generic"), "{interface}");
    }
    let sessions = [cluster.session_with("db2")?, cluster.session_with("db3")?];
    cluster.director.kill()?;
    cluster.director.start()?;
    assert_eq!(status_mode(&cluster)?, ("generic".to_owned(), true));
    assert_eq!(sessions[0].server()?, "db2");
    assert_eq!(sessions[1].server()?, "db3");
    assert_eq!(cluster.served(4)?, shares(&[("db2", 2), ("db3", 2)]));
    Ok(())
}

#[test]
fn netns_a_foreign_program_on_one_interface_keeps_all_of_them_bare() -> Result<()> {
    let cluster = prepared()?;
    cluster.director.host().attach_stub(Stub::Pass)?;
    for edits in [BOTH, REVERSED] {
        cluster.configure(&[edits])?;
        let (code, said) = cluster.director.start_expecting_failure()?;
        assert_eq!(code, 1);
        for part in ["interface eth0 has a foreign XDP program already", "bpftool prog show id"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(mode(&cluster, "eth1")?, None);
        assert_eq!(mode(&cluster, "eth0")?, Some("native"));
        assert!(!cluster.director.pins().exists());
    }
    Ok(())
}

#[test]
fn netns_an_interface_taken_out_of_the_configuration_is_let_go() -> Result<()> {
    let cluster = prepared()?;
    start(&cluster, &[BOTH], &["db2", "db3"])?;
    let session = cluster.session_with("db2")?;
    let links = || ["link", "link-1"].map(|pin| cluster.director.pins().join(pin).exists());
    assert_eq!(links(), [true, true]);

    assert!(cluster.director.terminate()?.success());
    start(&cluster, &[], &["db2"])?;
    assert_eq!(status_mode(&cluster)?, ("native".to_owned(), true));
    assert_eq!(links(), [true, false]);
    // The kernel lets go of a link in a work queue.
    wait_until("eth1 to be bare", SOON, || Ok(mode(&cluster, "eth1")?.is_none()))?;
    let status = cluster.director.status()?;
    let names: Vec<_> = status["director"]["interfaces"]
        .as_array()
        .context("interfaces")?
        .iter()
        .filter_map(|interface| interface["name"].as_str())
        .collect();
    assert_eq!(names, ["eth0"]);
    assert_eq!(session.server()?, "db2");

    // And back: it is attached anew, beside the one that was taken over.
    cluster.director.kill()?;
    start(&cluster, &[BOTH], &["db2", "db3"])?;
    assert_eq!(links(), [true, true]);
    assert_eq!(mode(&cluster, "eth1")?, Some("native"));
    assert_eq!(session.server()?, "db2");
    cluster.session_with("db3").map(drop)
}
