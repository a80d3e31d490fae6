//! The primary is gone: the readers stay as they are.
use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_tests::lab::{READER_VIP, SOON, hold_until, wait_for};

use crate::cluster::Cluster;

#[test]
fn netns_primary_lost_leaves_readers_alone() -> Result<()> {
    for discovery in ["both", "walsenders"] {
        primary_lost(discovery).with_context(|| format!("discovery {discovery}"))?;
    }
    Ok(())
}

fn primary_lost(discovery: &str) -> Result<()> {
    let edits = [("discovery = \"both\"", &*format!("discovery = \"{discovery}\""))];
    let cluster = Cluster::up(&["db2", "db3"], &edits)?;
    cluster.primary.psql("create table t()")?;
    let session = cluster.session()?;
    let server = session.server()?;
    let weights = cluster.weights()?;
    let table = cluster.director.maps(READER_VIP)?.table()?;
    let unchanged = || {
        let now = cluster.weights()?;
        ensure!(now == weights, "{now:?}");
        ensure!(cluster.director.maps(READER_VIP)?.table()? == table, "the table changed");
        ensure!(cluster.served(4)?.keys().all(|name| weights[name] > 0));
        Ok(())
    };

    cluster.primary.signal_all(Signal::SIGKILL)?;
    cluster.primary.wait_stopped(SOON)?;
    let stale_beyond = |limit: u64| {
        hold_until(format_args!("a primary lost for {limit} ms"), SOON, unchanged, || {
            let primary = cluster.director.status()?["primary"].clone();
            let stale = primary["stale_ms"].as_u64();
            Ok(stale.is_some_and(|age| age > limit).then_some(primary))
        })
    };
    // Ten rounds of asking.
    let primary = stale_beyond(2000)?;
    assert_eq!(primary["answers"], false);
    let errors = primary["errors"].to_string();
    assert!(errors.contains("10.77.0.11") && errors.contains("refused"), "{errors}");
    let text = String::from_utf8(cluster.director.pgha(["status"])?.stdout)?;
    assert!(text.contains("(10.77.0.11) on timeline 1: does not answer, stale since"), "{text}");
    assert_eq!(cluster.logged("the primary does not answer; the readers stay as they are")?, 1);

    // Neither does a controller that begins while it is away change anything.
    cluster.director.kill()?;
    assert!(cluster.psql("show cluster_name")?.starts_with("db"));
    cluster.director.start()?;
    let status = cluster.director.status()?;
    assert_eq!(status["director"]["taken_over"], true);
    unchanged()?;
    stale_beyond(1500)?;
    assert_eq!(session.server()?, server);
    let served: BTreeSet<String> = cluster.served(30)?.into_keys().collect();
    assert_eq!(served, BTreeSet::from(["db2".to_owned(), "db3".to_owned()]));

    cluster.primary.start()?;
    wait_for("the primary to be asked again", SOON, || {
        let primary = &cluster.director.status()?["primary"];
        Ok((primary["answers"] == true && primary["stale_ms"].is_null()).then_some(()))
    })?;
    cluster.wait_serving(&["db2", "db3"])?;
    assert_eq!(session.server()?, server);
    Ok(())
}
