//! What operators order of a managed cluster, and what they see of it.
use std::process::Output;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pgha_ctl::agent::status::RoleStatus;
use pgha_tests::lab::invariants::nothing_is_lost;
use pgha_tests::lab::{
    AgentOptions, Director, Managed, SOON, WRITER_VIP, Writer, wait_for, wait_until,
};
use serde_json::Value;

const REFUSED: Option<i32> = Some(5);
const UNREACHABLE: Option<i32> = Some(4);

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What a verb is refused for.
fn refused(controller: &Director, verb: &[&str]) -> Result<String> {
    let output = controller.pgha(verb)?;
    ensure!(output.status.code() == REFUSED, "{verb:?}: {}: {}", output.status, said(&output));
    Ok(said(&output))
}

fn done(controller: &Director, verb: &[&str]) -> Result<String> {
    let output = controller.pgha(verb)?;
    ensure!(output.status.success(), "{verb:?}: {}: {}", output.status, said(&output));
    Ok(said(&output))
}

fn json(controller: &Director, verb: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&done(controller, verb)?)?)
}

/// A node as `pgha status --json` has it.
fn node(status: &Value, name: &str) -> Result<Value> {
    let nodes = status["managed"]["nodes"].as_array().context("nodes")?;
    nodes.iter().find(|node| node["node"] == name).cloned().with_context(|| status.to_string())
}

/// Waits until `pgha status --json` shows a node like that.
fn wait_shown(controller: &Director, name: &str, role: &str, data: &str) -> Result<Value> {
    wait_for(format!("{name} to be shown as {role}, {data}"), SOON, || {
        let status: Value = serde_json::from_slice(&controller.pgha(["status", "--json"])?.stdout)?;
        let shown = node(&status, name)?;
        ensure!(shown["role"] == role && shown["data"] == data, "{shown}");
        Ok(Some(status))
    })
}

/// An ordered failover obeys `nofailover` and loses nothing (scenario 13). Then the primary and one of two voters
/// are lost at once (scenario 12): nobody follows, and it is said why; an operator's word lets the node that is left
/// be the primary once the end of the old one is proven, and that stands in the history.
#[test]
fn netns_operators_order_failover_and_force_what_no_vote_allows() -> Result<()> {
    let test = "netns_operators_order_failover_and_force_what_no_vote_allows";
    let options = AgentOptions {
        controller: Some("lb1"),
        nodes: vec![("db2", "nofailover = true")],
        ..AgentOptions::default()
    };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let controller = managed.controller.as_ref().context("a controller")?;
    managed.agent("db1")?.wait_voters(2)?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    ordered(&managed, controller, &writer)?;
    let db3 = managed.agent("db3")?;
    db3.wait_voters(2)?;
    writer.wait_after(Instant::now(), SOON)?;
    // A voter first: the primary goes before it can do without that one.
    managed.agent("db1")?.host().link_down()?;
    db3.host().link_down()?;
    let lost = Instant::now();
    nobody_follows(controller)?;
    forced(&managed, controller)?;
    writer.wait_after(lost, SOON * 2)?;
    managed.finish([writer])?;
    // Without a controller the agents tell, and it is said what is not known.
    controller.terminate()?;
    let output = controller.pgha(["status", "--json"])?;
    ensure!(output.status.code() == UNREACHABLE, "{}: {}", output.status, said(&output));
    let status: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(node(&status, "db2")?["role"] == "PRI", "{status}");
    ensure!(node(&status, "db3")?["role"] == "unknown", "{status}");
    ensure!(status["managed"]["failover_error"].is_string(), "{status}");
    Ok(())
}

/// `pgha failover` under a writer.
fn ordered(managed: &Managed, controller: &Director, writer: &Writer) -> Result<()> {
    let error = refused(controller, &["failover", "db2"])?;
    ensure!(error.contains("db2 cannot become the primary: it is marked nofailover"), "{error}");
    let error = refused(controller, &["force-primary", "db3", "--accept-data-loss"])?;
    ensure!(error.contains("db1 is the primary: it renews its lease and is heard"), "{error}");
    let why = controller.pgha(["why-not", "db2"])?;
    ensure!(said(&why).contains("marked nofailover"), "{}", said(&why));
    let told = done(controller, &["failover"])?;
    ensure!(told.contains("db3 is the primary, after"), "{told}");
    let db3 = managed.agent("db3")?;
    db3.wait_role(RoleStatus::Primary)?;
    writer.wait_after(Instant::now(), SOON * 2)?;
    // What an operator gives up later is not given up by this.
    let (acknowledged, (_, record)) = (writer.acknowledged(), managed.primary()?);
    nothing_is_lost(&acknowledged, &db3.rows()?, &record)?;
    managed.agent("db1")?.wait_streaming()?;
    db3.wait_voters(2)?;
    wait_shown(controller, "db1", "HS:quorum", "STREAMING|QUORUM")?;
    let status = wait_shown(controller, "db3", "PRI", "LATEST")?;
    let managed_nodes = &status["managed"];
    ensure!(managed_nodes["writer_vip_at"] == serde_json::json!(["db3"]), "{managed_nodes}");
    ensure!(managed_nodes["votes"][0]["needed"] == 2, "{managed_nodes}");
    for fact in ["received", "flushed", "replayed", "lag_bytes"] {
        ensure!(!node(&status, "db1")?[fact].is_null(), "{fact}: {status}");
    }
    let text = done(controller, &["status"])?;
    for fact in
        ["db3 is the primary (epoch 2, timeline ", "lease: held by db3", "mode sync, quorum 1"]
    {
        ensure!(text.contains(fact), "{fact} in {text}");
    }
    let history = wait_term(controller, 2)?;
    let cause = &history["cause"];
    // Whichever is first: its word, or its voters have stopped.
    let proven = ["released", "quorum"].iter().any(|proof| cause["proof"] == *proof);
    ensure!(proven && cause["forced"] == false, "{history}");
    ensure!(cause["ordered"]["by"] == "root" && history["gap_ms"].is_u64(), "{history}");
    Ok(())
}

/// A term, as `pgha history` has it: that is written after the fact.
fn wait_term(controller: &Director, epoch: u64) -> Result<Value> {
    wait_for(format!("epoch {epoch} in the history"), SOON, || {
        let history = json(controller, &["history", "--json"])?;
        let terms = history["terms"].as_array().context("terms")?;
        Ok(terms.iter().find(|term| term["epoch"] == epoch).cloned())
    })
}

/// Scenario 12, before anybody has said anything.
fn nobody_follows(controller: &Director) -> Result<()> {
    let why = "1 of 2 voters are frozen with their log known, and 2 are needed";
    wait_until("the status to say why nobody follows", SOON * 2, || {
        let text = done(controller, &["status"])?;
        ensure!(text.contains(&format!("nobody follows yet: {why}")), "{text}");
        Ok(true)
    })?;
    let told = said(&controller.pgha(["why-not", "db2"])?);
    ensure!(told.contains(why) && told.contains("pgha force-primary"), "{told}");
    let error = refused(controller, &["failover"])?;
    ensure!(error.contains("1 of 2 voters are heard, and 2 are needed"), "{error}");
    wait_until("the history to say it too", SOON, || {
        let told = done(controller, &["history"])?;
        ensure!(told.contains(&format!("nobody becomes the primary yet: {why}")), "{told}");
        ensure!(
            told.contains("root ordered that another node be the primary, which was declined"),
            "{told}"
        );
        Ok(true)
    })
}

/// Scenario 12, by an operator's word.
fn forced(managed: &Managed, controller: &Director) -> Result<()> {
    let usage = controller.pgha(["force-primary", "db2"])?;
    ensure!(usage.status.code() == Some(2), "{}", said(&usage));
    let error = refused(controller, &["force-primary", "db1", "--accept-data-loss"])?;
    ensure!(error.contains("db1 cannot become the primary: its agent is not heard"), "{error}");
    let told = done(controller, &["force-primary", "db2", "--accept-data-loss"])?;
    ensure!(told.contains("acknowledged commits may be lost"), "{told}");
    managed.agent("db2")?.wait_role(RoleStatus::Primary)?;
    let term = wait_term(controller, 3)?;
    let (cause, ordered) = (&term["cause"], &term["cause"]["ordered"]);
    ensure!(cause["forced"] == true && cause["proof"] == "lease", "{term}");
    ensure!(ordered["by"] == "root" && ordered["takeover"]["force"] == "db2", "{term}");
    let told = done(controller, &["history"])?;
    ensure!(told.contains("FORCED, acknowledged commits may be lost, by root at"), "{told}");
    Ok(())
}
