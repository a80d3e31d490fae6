//! The controller has the writer VIP and the reader VIP, and both follow the record of the cluster.
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pgha_machine::failover::record::Proof;
use pgha_tests::lab::{
    AgentOptions, Host, Managed, READER_VIP, SOON, Session, WRITER_VIP, Writer, wait_for,
    wait_until,
};

/// A session through the reader VIP with each of these servers.
fn readers<'n>(client: &Host, servers: [&'n str; 2]) -> Result<[(&'n str, Session); 2]> {
    let with = |server: &'n str| {
        wait_for(format!("a reader's session with {server}"), SOON * 2, || {
            let session = Session::open(client, READER_VIP)?;
            Ok((session.server()? == server).then_some((server, session)))
        })
    };
    Ok([with(servers[0])?, with(servers[1])?])
}

/// Scenarios 3, 4 and 27: the primary's host is cut off, and its voters prove that it acknowledges nothing more. Writers go on
/// within its lease, who only waited for it is told, and no reader's session breaks. It comes back as a reader.
#[test]
fn netns_agent_balanced_writers_follow_a_lost_host_before_its_lease_ends() -> Result<()> {
    let test = "netns_agent_balanced_writers_follow_a_lost_host_before_its_lease_ends";
    let options = AgentOptions {
        lease: Duration::from_secs(30),
        controller: Some("lb1"),
        balanced: true,
        failover: "mode = \"strict\"\nquorum = 1\n".to_owned(),
        ..AgentOptions::default()
    };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let (db1, client) = (managed.agent("db1")?, managed.lab.host("client")?);
    let controller = managed.controller.as_ref().context("a controller")?;
    db1.wait_voters(2)?;
    let readers = readers(&client, ["db2", "db3"])?;
    let writer = Writer::start(&client, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    let mut waits = Session::open(&client, WRITER_VIP)?;
    ensure!(waits.server()? == "db1", "a writer is sent to the primary");
    ensure!(db1.status()?.writer_vip.is_none(), "no agent claims it");

    let cut = Instant::now();
    db1.host().link_down()?;
    let first = wait_for("a commit on another server", SOON * 2, || {
        Ok(writer.acknowledged().into_iter().find(|one| one.server != "db1"))
    })?;
    let successor = managed.wait_successor("db1")?;
    let record = successor.status()?.record.context("a record")?;
    let cause = record.term().cause.clone().context("a cause")?;
    ensure!(cause.proof == Proof::Quorum, "{cause:?}");
    // Renewed each quarter of it, the lease lasted for three quarters and more.
    let gap = first.at - cut;
    ensure!(gap < options.lease * 3 / 4, "{gap:?} after the loss");
    waits.wait_ended(SOON)?;
    // Those of the node that was promoted ended with its reader VIP.
    for (name, reader) in &readers {
        if *name != successor.host().name() {
            ensure!(reader.query("select 1")? == "1", "the session of a reader on {name} goes on");
        }
    }
    wait_until("the status to say where writers go", SOON, || {
        let status = controller.status()?;
        let services = status["services"].as_array().context("services")?;
        let service = services.iter().find(|of| of["name"] == "writer").context("a service")?;
        let servers = service["servers"].as_array().context("servers")?;
        let up: Vec<_> =
            servers.iter().filter(|of| of["withheld"] == serde_json::json!([])).collect();
        let [only] = up[..] else { anyhow::bail!("{service:#}") };
        Ok(only["name"] == successor.host().name())
    })?;

    db1.host().link_up()?;
    db1.wait_streaming()?;
    managed.reader()?.wait_for("db1", SOON * 2)?;
    managed.finish([writer]).map(drop)
}
