//! The store of a managed cluster is lost for good, and an operator founds the cluster anew over what its nodes have.
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pgha_ctl::agent::status::RoleStatus;
use pgha_tests::lab::{AgentOptions, Managed, SOON, WRITER_VIP, Writer, wait_until};

/// A store that is another one is not believed, and ends nothing: the primary goes on by the word of all members. With
/// the operator's order, as docs/operations.md has it, the nodes believe it, and nothing is lost.
#[test]
fn netns_agent_cluster_is_founded_anew_when_its_store_was_lost() -> Result<()> {
    let test = "netns_agent_cluster_is_founded_anew_when_its_store_was_lost";
    let options = AgentOptions::default();
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    wait_until("all members to be confirmed", SOON, || {
        let record = db1.status()?.record.context("a record")?;
        Ok(record.members.len() == 3 && record.members.values().all(|member| member.confirmed))
    })?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    managed.store.kill_all()?;
    wait_until("the failsafe", SOON, || Ok(db1.status()?.failsafe))?;
    managed.store.wipe()?;
    managed.store.start_all()?;
    managed.store.leader(db1.host())?;
    writer.wait_after(Instant::now() + options.lease, SOON + options.lease)?;
    ensure!(writer.connections() == 1, "a client had to connect again");
    ensure!(db1.status()?.failsafe, "the primary believes a store that it does not know");
    // The order of docs/operations.md.
    for agent in &managed.agents {
        agent.terminate()?;
    }
    for agent in &managed.agents {
        fs::remove_file(agent.postgres().home().join("agent").join("kept"))?;
    }
    for agent in &managed.agents {
        agent.start()?;
        agent.wait_role(RoleStatus::Standby)?;
        agent.wait_log()?;
    }
    managed.found()?;
    writer.wait_after(Instant::now(), SOON * 2)?;
    let acknowledged = writer.stop()?;
    let rows = db1.rows()?;
    let lost: Vec<_> = acknowledged.iter().filter(|one| !rows.contains(&one.id)).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    Ok(())
}
