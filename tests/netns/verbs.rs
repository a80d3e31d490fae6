//! What operators look at and steer with, and how it ends.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_tests::lab::{Running, SOON, wait_for};
use serde_json::Value;

use crate::cluster::{Cluster, success};

const REFUSED: Option<i32> = Some(5);

#[test]
fn netns_status_nodes_and_why_not_agree() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let status = json(&cluster, &["status", "--json"])?;
    assert_eq!(status["schema"], 3, "{status:#}");
    let nodes = json(&cluster, &["nodes", "--json"])?;
    assert_eq!(nodes["schema"], 3, "{nodes:#}");
    let node = |nodes: &Value, address: &str| {
        let all = nodes["nodes"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|node| node["hostname"] == address).context(address.to_owned())
    };
    for (address, name) in [("10.77.0.12", "db2"), ("10.77.0.13", "db3")] {
        let node = node(&nodes, address)?;
        assert_eq!((&node["name"], &node["status"]), (&name.into(), &"up".into()), "{node:#}");
        assert_eq!(
            (&node["role"], &node["lb_weight"]),
            (&"standby".into(), &0.5.into()),
            "{node:#}"
        );
        assert_eq!(node["replication_state"], "streaming", "{node:#}");
        assert!(node["last_status_change"].as_u64() >= status["started"].as_u64(), "{node:#}");
    }
    let primary = node(&nodes, "10.77.0.11")?;
    assert_eq!((&primary["role"], &primary["lb_weight"]), (&"primary".into(), &0.0.into()));
    assert_eq!(cluster.director.pgha(["why-not", "db2"])?.status.code(), Some(0));

    success(cluster.director.pgha(["drain", "db3"])?)?;
    let table = success(cluster.director.pgha(["status"])?)?;
    assert!(table.contains("drained by root "), "{table}");
    let answer = cluster.director.pgha(["why-not", "db3", "--json"])?;
    assert_eq!(answer.status.code(), Some(3), "{answer:?}");
    let answer: Value = serde_json::from_slice(&answer.stdout)?;
    let reason = &answer["services"][0]["reasons"][0];
    assert_eq!(
        (&reason["reason"], &reason["by"]),
        (&"drained".into(), &"root".into()),
        "{answer:#}"
    );
    assert_eq!(reason["mend"], "pgha undrain db3", "{answer:#}");
    assert_eq!(node(&json(&cluster, &["nodes", "--json"])?, "10.77.0.13")?["status"], "drained");
    let top = success(cluster.director.pgha(["top", "--once", "--interval", "100ms"])?)?;
    for part in ["cluster lab", "1 of 2 serve", "● drained", "VERDICTS of "] {
        assert!(top.contains(part), "{part} in {top}");
    }

    let unknown = cluster.director.pgha(["why-not", "db22", "--json"])?;
    assert_eq!(unknown.status.code(), REFUSED, "{unknown:?}");
    let told: Value = serde_json::from_slice(&unknown.stderr)?;
    assert_eq!((&told["schema"], &told["exit"]), (&3.into(), &5.into()), "{told:#}");
    assert!(
        told["error"].as_str().is_some_and(|error| error.ends_with("did you mean db2?")),
        "{told:#}"
    );
    Ok(())
}

#[test]
fn netns_a_watched_status_survives_a_restart() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let watch = cluster.director.start_pgha(["status", "--watch", "100ms"], "watch")?;
    let pid = |cluster: &Cluster| cluster.director.pid().context("a process");
    log_has(&watch, "service reader 10.77.0.100:5432")?;
    cluster.director.kill()?;
    log_has(&watch, "no controller runs on this node")?;
    log_has(&watch, "what was seen ")?;
    let before = pid(&cluster)?;
    cluster.director.start()?;
    assert_ne!(pid(&cluster)?, before);
    let looks = |watch: &Running| watch.log().matches("frames ").count();
    let seen = looks(&watch);
    wait_for("more looks", SOON, || Ok((looks(&watch) > seen + 3).then_some(())))?;
    watch.signal(Signal::SIGINT)?;
    assert_eq!(watch.wait(SOON)?.code(), Some(0));
    Ok(())
}

#[test]
fn netns_a_drain_is_waited_for_until_the_last_session_is_over() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let session = cluster.session_with("db2")?;
    is_counted(&cluster)?;

    // Time is over first, and the drain stays.
    let timeout =
        cluster.director.pgha(["drain", "db2", "--wait", "--timeout", "100ms", "--json"])?;
    assert_eq!(timeout.status.code(), Some(6), "{timeout:?}");
    let ended: Value = serde_json::from_slice(&timeout.stdout)?;
    assert_eq!((&ended["ended"], &ended["schema"]), (&"timed_out".into(), &3.into()), "{ended:#}");
    cluster.wait_weights(&[("db1", 0), ("db2", 0), ("db3", 1)])?;

    // Ctrl-C ends the waiting only.
    let waiting = cluster.director.start_pgha(["drain", "db2", "--wait"], "interrupted")?;
    log_has(&waiting, "db2: 1 session left")?;
    waiting.signal(Signal::SIGINT)?;
    assert_eq!(waiting.wait(SOON)?.code(), Some(130), "{}", waiting.log());
    log_has(&waiting, "db2 has 1 session left, and the drain stays in force")?;
    assert_eq!(session.server()?, "db2");

    let waiting = cluster.director.start_pgha(["drain", "db2", "--wait"], "waiting")?;
    log_has(&waiting, "db2: 1 session left")?;
    assert!(waiting.is_running()?);
    drop(session);
    assert_eq!(waiting.wait(SOON)?.code(), Some(0), "{}", waiting.log());
    log_has(&waiting, "db2 is drained: no session is left")?;

    // Somebody takes back what is waited for.
    success(cluster.director.pgha(["undrain", "db2"])?)?;
    let _session = cluster.session_with("db2")?;
    is_counted(&cluster)?;
    let waiting = cluster.director.start_pgha(["drain", "db2", "--wait"], "taken-back")?;
    log_has(&waiting, "db2: 1 session left")?;
    success(cluster.director.pgha(["undrain", "db2"])?)?;
    assert_eq!(waiting.wait(SOON)?.code(), REFUSED, "{}", waiting.log());
    log_has(&waiting, "db2 is drained no longer in service reader: somebody took that back")
}

#[test]
fn netns_sessions_left_are_reset_when_a_drain_says_so() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let mut session = cluster.session_with("db2")?;
    let other = cluster.session_with("db3")?;
    is_counted(&cluster)?;
    let waiting =
        cluster.director.start_pgha(["drain", "db2", "--wait", "--reset-after", "20s"], "reset")?;
    log_has(&waiting, "db2: 1 session left, reset in ")?;
    assert_eq!(session.server()?, "db2", "until then nothing happens to it");
    session.wait_ended(SOON * 2)?;
    assert_eq!(waiting.wait(SOON)?.code(), Some(0), "{}", waiting.log());
    assert_eq!(other.server()?, "db3");
    Ok(())
}

#[test]
fn netns_readers_are_added_and_removed_by_a_verb() -> Result<()> {
    const DB3: &str = "\n[[node]]\nname = \"db3\"\naddress = \"10.77.0.13\"\n";
    let direct = [("discovery = \"both\"", "discovery = \"direct\""), (DB3, "")];
    let cluster = Cluster::prepared(&["db2", "db3"])?;
    cluster.configure(&direct)?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2"])?;
    let none = cluster.director.pgha(["reader", "remove", "db3"])?;
    assert_eq!(none.status.code(), REFUSED, "{none:?}");

    let add = ["reader", "add", "10.77.0.13", "--name", "db3", "--weight", "2"];
    let added = success(cluster.director.pgha(add)?)?;
    assert!(added.starts_with("db3 (10.77.0.13) is a reader of every service"), "{added}");
    cluster.wait_serving(&["db3"])?;
    let listed = json(&cluster, &["reader", "list", "--json"])?;
    let reader = &listed["readers"][0];
    assert_eq!((&reader["address"], &reader["by"]), (&"10.77.0.13".into(), &"root".into()));
    assert_eq!((&reader["name"], &reader["weight"]), (&"db3".into(), &2.into()), "{listed:#}");
    wait_for("db3 to be up in the list", SOON, || {
        let listed = success(cluster.director.pgha(["reader", "list"])?)?;
        ensure!(listed.contains("reader up"), "{listed}");
        Ok(Some(()))
    })?;

    success(cluster.director.pgha(["reader", "remove", "db3"])?)?;
    wait_for("db3 to get no new connections", SOON, || {
        let answer = cluster.director.pgha(["why-not", "10.77.0.13"])?;
        // Out of the service for its sessions' sake, or forgotten already.
        ensure!([Some(3), REFUSED].contains(&answer.status.code()), "{answer:?}");
        Ok(Some(()))
    })?;
    assert_eq!(json(&cluster, &["reader", "list", "--json"])?["readers"], Value::Array(Vec::new()));
    Ok(())
}

#[test]
fn netns_reload_by_a_verb_tells_what_is_wrong() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    cluster
        .configure(&[("rise = 2", "rise = 0"), ("scheduler = \"maglev\"", "schedular = \"rr\"")])?;
    let refused = cluster.director.pgha(["reload"])?;
    assert_eq!(refused.status.code(), REFUSED, "{refused:?}");
    let said = String::from_utf8(refused.stderr)?;
    for wrong in ["health.rise = 0 is out of bounds", "service[0].schedular: no such key"] {
        assert!(said.contains(wrong), "`{wrong}` in {said}");
    }
    let scheduler = |cluster: &Cluster| {
        Ok::<_, anyhow::Error>(cluster.director.status()?["services"][0]["scheduler"].clone())
    };
    assert_eq!(scheduler(&cluster)?, "maglev", "the old one stays in force");
    cluster.configure(&[("scheduler = \"maglev\"", "scheduler = \"rr\"")])?;
    let said = success(cluster.director.pgha(["reload"])?)?;
    assert!(said.contains("lb1.toml is in force\n"), "{said}");
    assert_eq!(scheduler(&cluster)?, "rr");
    Ok(())
}

#[test]
fn netns_verbs_of_this_node_and_top_print_json() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let config = json(&cluster, &["check-config", "--json"])?;
    assert_eq!((&config["schema"], &config["services"]), (&3.into(), &1.into()), "{config:#}");
    let top = json(&cluster, &["top", "--json", "--interval", "100ms"])?;
    assert_eq!((&top["schema"], &top["cluster"]), (&3.into(), &"lab".into()), "{top:#}");
    let servers = top["services"][0]["servers"].as_array().context("servers")?;
    let db2 = servers.iter().find(|server| server["name"] == "db2").context("db2")?;
    assert_eq!((&db2["state"], &db2["address"]), (&"up".into(), &"10.77.0.12".into()), "{db2:#}");
    assert!(db2["new_per_second"].is_number() && db2["open"].is_u64(), "{db2:#}");

    let undo = |cluster: &Cluster| {
        let text = cluster.lab.realserver("db2", &["undo", "--json"])?.run()?;
        Ok::<Value, anyhow::Error>(serde_json::from_str(&text)?)
    };
    let undone = undo(&cluster)?;
    let steps = undone["steps"].as_array().context("steps")?;
    let removed = steps.iter().find(|step| step["step"] == "address_removed");
    assert_eq!(removed.context("the VIP")?["of"], "10.77.0.100", "{undone:#}");
    assert_eq!(undo(&cluster)?["steps"][0]["step"], "nothing_to_undo");

    cluster.director.terminate()?;
    for there in [true, false] {
        let detached = json(&cluster, &["detach", "--json"])?;
        assert_eq!((&detached["detached"], &detached["schema"]), (&there.into(), &3.into()));
    }
    Ok(())
}

#[test]
fn netns_a_reload_tells_whoever_asked_that_the_login_is_refused() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    cluster.configure(&[("user = \"pgha\"", "user = \"nobody\"")])?;
    let reloaded = json(&cluster, &["reload", "--json"])?;
    let warning = reloaded["warnings"][0].as_str().context("a warning")?;
    for part in ["the login is in force as reloaded", "refuses user nobody"] {
        assert!(warning.contains(part), "`{part}` in {warning}");
    }
    // It is an event for everybody else, and takes nobody out.
    wait_for("the event", SOON, || Ok((cluster.logged(warning)? > 0).then_some(())))?;
    cluster.wait_serving(&["db2"])?;
    cluster.configure(&[])?;
    let reloaded = json(&cluster, &["reload", "--json"])?;
    assert_eq!(reloaded["warnings"], Value::Array(Vec::new()), "{reloaded:#}");
    Ok(())
}

#[test]
fn netns_who_streams_under_anothers_name_is_told() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let unplaced =
        || Ok::<_, anyhow::Error>(cluster.director.status()?["primary"]["unplaced"].clone());
    assert_eq!(unplaced()?, Value::Array(Vec::new()));
    let receiver = cluster.primary.receivewal(&cluster.client, "db2")?;
    wait_for("the second db2", SOON, || {
        let unplaced = unplaced()?;
        let of = &unplaced[0];
        ensure!(of["application_name"] == "db2" && of["reason"] == "shared_name", "{unplaced:#}");
        ensure!(of["client"] == cluster.client.address().to_string(), "{unplaced:#}");
        Ok(Some(()))
    })?;
    let status = success(cluster.director.pgha(["status"])?)?;
    let line = "what streams as \"db2\" is no reader: another standby streams under that name";
    assert!(status.contains(line), "{status}");
    cluster.wait_weights(&[("db1", 0), ("db2", 1)])?;
    receiver.signal(Signal::SIGTERM)?;
    wait_for("one db2", SOON, || {
        let unplaced = unplaced()?;
        ensure!(unplaced == Value::Array(Vec::new()), "{unplaced:#}");
        Ok(Some(()))
    })
}

/// Waits until the data plane knows that the session's server answered.
fn is_counted(cluster: &Cluster) -> Result<()> {
    wait_for("the session to be counted", SOON, || {
        let flows =
            json(cluster, &["flows", "--server", "db2", "--state", "established", "--json"])?;
        ensure!(flows["total"] == 1, "{flows:#}");
        Ok(Some(()))
    })
}

fn log_has(running: &Running, part: &str) -> Result<()> {
    wait_for(format_args!("`{part}`"), SOON.max(Duration::from_secs(10)), || {
        let log = running.log();
        ensure!(log.contains(part), "{log}");
        Ok(Some(()))
    })
}

fn json(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&success(cluster.director.pgha(arguments)?)?)?)
}
