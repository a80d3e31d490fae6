//! The controller ends, in whatever way: the data plane goes on.
use anyhow::{Context as _, Result};
use pgha_common::maps::name;
use pgha_tests::lab::maps;
use pgha_tests::lab::postgres::bin_directory;
use pgha_tests::lab::{READER_VIP, Running, SOON, wait_for};

use crate::cluster::Cluster;

#[test]
fn netns_controller_killed_under_load_loses_no_connection() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let pgbench = bin_directory()?.join("pgbench");
    let socket = cluster.primary.home();
    let init = cluster.primary.host().command([&pgbench])?.args(["-iq", "-h"]).args([&socket]);
    init.run()?;
    wait_for("pgbench's tables on the readers", SOON, || {
        for reader in &cluster.readers {
            reader.psql("select 1 from pgbench_accounts where aid = 100000")?;
        }
        Ok(Some(()))
    })?;
    let before = cluster.director.status()?;
    let log = cluster.lab.directory().join("log/pgbench.log");
    let load = cluster
        .client
        .command([&pgbench])?
        .args(["-S", "-n", "-c", "6", "-T", "5", "-P", "1", "-h", &READER_VIP.to_string()])
        .start(&log)?;
    let second = |number: usize| progress(&load, number);
    second(1)?;
    // One for each of its clients, and a first to look at the tables.
    let flows = || Ok::<u64, anyhow::Error>(cluster.flows()?.values().sum());
    assert_eq!(flows()?, 7);

    cluster.director.kill()?;
    // New ones are served meanwhile.
    assert!(cluster.psql("show cluster_name")?.starts_with("db"));
    second(2)?;
    cluster.director.start()?;
    let after = cluster.director.status()?;
    assert_eq!(after["director"]["taken_over"], true);
    assert!(after["received"].as_u64() > before["received"].as_u64());
    assert_eq!(flows()?, 8);
    second(3)?;
    assert!(cluster.director.terminate()?.success());
    cluster.director.start()?;

    let end = load.wait(SOON)?;
    let said = load.log();
    assert!(end.success(), "{said}");
    for wrong in ["failed transactions: 1", "aborted", "error:", "terminated"] {
        assert!(!said.contains(wrong), "{said}");
    }
    assert!(said.contains("number of failed transactions: 0 "), "{said}");
    cluster.wait_serving(&["db2", "db3"])?;
    let status = cluster.director.status()?;
    assert_eq!(flows()?, 8);
    for (reason, count) in status["reasons"].as_object().context("reasons")? {
        let lost = ["unknown_flow", "unknown_reset", "dead_server", "no_server", "not_our_mac"];
        assert!(!lost.contains(&reason.as_str()) || count == 0, "{reason}: {count}");
    }
    println!("{} frames; pgbench: {}", status["received"], said.lines().last().unwrap_or_default());
    Ok(())
}

/// Waits until pgbench has reported that many seconds, at least.
fn progress(load: &Running, seconds: usize) -> Result<()> {
    wait_for(format_args!("second {seconds} of pgbench"), SOON, || {
        Ok((load.log().matches("progress: ").count() >= seconds).then_some(()))
    })
}

#[test]
fn netns_detach_takes_down_what_the_controller_leaves() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let director = &cluster.director;
    let pins = director.pins();
    let maps = name::PINNED.iter().map(|(map, _)| maps::pin(map));
    for pin in maps.chain(["link", "program"].map(str::to_owned)) {
        assert!(pins.join(&pin).exists(), "{pin}");
    }
    assert!(attached(&cluster)?);
    // Not under a running controller.
    let refused = director.pgha(["detach"])?;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr)?;
    assert!(said.contains("another controller of this cluster runs on this node"), "{said}");

    let session = cluster.session()?;
    assert!(director.terminate()?.success());
    assert!(!director.control_path().exists());
    assert!(attached(&cluster)? && pins.join("link").exists());
    assert_eq!(session.server()?, "db2");
    assert_eq!(cluster.psql("show cluster_name")?, "db2");

    let detached = director.pgha(["detach"])?;
    assert!(detached.status.success(), "{detached:?}");
    assert_eq!(
        String::from_utf8(detached.stdout)?,
        "detached from eth0; the VIPs are served no more\n"
    );
    assert!(!attached(&cluster)? && !pins.exists());
    let again = String::from_utf8(director.pgha(["detach"])?.stdout)?;
    assert_eq!(again, "nothing is attached for cluster lab\n");

    director.start()?;
    assert_eq!(director.status()?["director"]["taken_over"], false);
    cluster.wait_serving(&["db2"])?;
    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    // An open connection of before is known to nobody, but the table names the same server.
    assert_eq!(session.server()?, "db2");
    Ok(())
}

/// Whether the director's interface has an XDP program.
pub(crate) fn attached(cluster: &Cluster) -> Result<bool> {
    let link = cluster.director.host().run(["ip", "-d", "link", "show", "eth0"])?;
    Ok(link.contains("xdp"))
}

#[test]
fn netns_pins_cut_short_are_replaced() -> Result<()> {
    let cluster = Cluster::prepared(&["db2"])?;
    cluster.configure(&[])?;
    // A start that was killed before it attached leaves maps without a link.
    cluster.director.start()?;
    cluster.director.kill()?;
    let link = cluster.director.pins().join("link");
    std::fs::remove_file(&link)?;
    wait_for("the program to go with its link", SOON, || Ok((!attached(&cluster)?).then_some(())))?;
    assert!(cluster.director.pins().join(name::REALS).exists());
    cluster.director.start()?;
    assert_eq!(cluster.director.status()?["director"]["taken_over"], false);
    cluster.wait_serving(&["db2"])?;
    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    Ok(())
}
