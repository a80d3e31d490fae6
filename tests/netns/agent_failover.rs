//! A primary is lost, and another one follows it: agents, a controller, and a real etcd.
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use pgha_ctl::agent::status::RoleStatus;
use pgha_tests::lab::{Agent, AgentOptions, Managed, SOON, WRITER_VIP, Writer, wait_until};

fn options() -> AgentOptions {
    AgentOptions { controller: Some("lb1"), ..AgentOptions::default() }
}

/// The primary's host is cut off when one voter alone has what was acknowledged last, and that one is marked
/// `nofailover`: the other gets it from there, and becomes the primary (scenario 13), so that nothing that was
/// acknowledged is lost. The former primary comes back, acknowledges nothing, and streams. Then PostgreSQL is killed on
/// the new one (scenario 2): another follows at once, and it comes back by itself.
#[test]
fn netns_agent_failover_of_a_lost_host_or_a_crash_loses_nothing() -> Result<()> {
    let test = "netns_agent_failover_of_a_lost_host_or_a_crash_loses_nothing";
    let options = AgentOptions { nodes: vec![("db2", "nofailover = true")], ..options() };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let (db1, db3) = (managed.agent("db1")?, managed.agent("db3")?);
    db1.wait_voters(2)?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    db3.host().cut_from(db1.host())?;
    writer.wait_after(Instant::now(), SOON)?;
    db1.host().link_down()?;
    let successor = managed.wait_successor("db1")?;
    writer.wait_after(Instant::now(), SOON * 2)?;
    ensure!(successor.host().name() == "db3", "db2 is marked nofailover");
    ensure!(db3.log().contains("order: catch up with db2"), "{}", db3.tail());
    db1.host().link_up()?;
    db3.host().join(db1.host())?;
    db1.wait_streaming()?;
    ensure!(db1.status()?.epoch == successor.status()?.epoch, "{:?}", db1.status()?);
    let former = managed.wait_whole()?;
    let before = former.status()?;
    former.postgres().signal_postmaster(Signal::SIGKILL)?;
    let successor = managed.wait_successor(former.host().name())?;
    writer.wait_after(Instant::now(), SOON * 2)?;
    let terms = managed.primary()?.1.terms;
    let [.., last, next] = &*terms else { bail!("{terms:?}") };
    // It was not the primary once more in between.
    ensure!((Some(last.epoch), Some(next.epoch)) == (before.epoch, successor.status()?.epoch));
    former.wait_streaming()?;
    managed.wait_whole()?;
    managed.finish([writer])?;
    let all = successor.rows()?;
    wait_until("both others to have all of it", SOON, || {
        Ok(db1.rows()? == all && former.rows()? == all)
    })
}

/// Scenario 17: where nothing is handed over a crash is a restart in place until the budget is spent; then another node
/// is the primary: of two that have the same the one with the higher priority (scenario 13).
#[test]
fn netns_agent_failover_follows_a_spent_restart_budget() -> Result<()> {
    let test = "netns_agent_failover_follows_a_spent_restart_budget";
    let agent = "restarts = 1\nhand_over = false\n".to_owned();
    // By their names db2 would come first.
    let nodes = vec![("db3", "priority = 10")];
    let Some(managed) = Managed::up(test, &AgentOptions { agent, nodes, ..options() })? else {
        return Ok(());
    };
    let db1 = managed.agent("db1")?;
    db1.wait_voters(2)?;
    let client = managed.lab.host("client")?;
    let mut writer = Writer::start(&client, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    let before = db1.status()?.start;
    db1.postgres().signal_postmaster(Signal::SIGKILL)?;
    wait_until("another start", SOON * 2, || {
        let status = db1.status()?;
        ensure!(
            status.role == RoleStatus::Primary && status.start != before,
            "{}",
            status.role_text
        );
        Ok(true)
    })?;
    writer.wait_after(Instant::now(), SOON)?;
    writer.end()?;
    wait_equal(db1)?;
    db1.postgres().signal_postmaster(Signal::SIGKILL)?;
    let successor = managed.wait_successor("db1")?;
    ensure!(successor.host().name() == "db3", "it has the higher priority");
    let later = Writer::start(&client, WRITER_VIP)?;
    later.wait_after(Instant::now(), SOON * 2)?;
    db1.wait_streaming()?;
    let (primary, _) = managed.primary()?;
    ensure!(primary.host().name() == successor.host().name(), "one failover, not two");
    managed.finish([writer, later]).map(drop)
}

/// Waits until both standbys have all of the primary's log.
fn wait_equal(primary: &Agent) -> Result<()> {
    let sql =
        "select count(*) from pg_stat_replication where flush_lsn = pg_current_wal_flush_lsn()";
    wait_until("both standbys to have all of it", SOON, || Ok(primary.psql(sql)? == "2"))
}
