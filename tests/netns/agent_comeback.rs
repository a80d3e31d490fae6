//! How nodes come back: one that has what nobody else has, one that was left behind, one of another cluster, and one
//! whose disk was full or stood still.
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_ctl::agent::status::RoleStatus;
use pgha_machine::failover::record::{Proof, Suspicion};
use pgha_tests::lab::postgres::bin_directory;
use pgha_tests::lab::{Agent, AgentOptions, Disk, Managed, SOON, WRITER_VIP, Writer, wait_until};

/// Less than an agent waits before it tries again what did not work.
const PAUSE: Duration = Duration::from_millis(150);

fn options() -> AgentOptions {
    AgentOptions { controller: Some("lb1"), ..AgentOptions::default() }
}

/// A node's own files, by which it is known again.
fn has_own_files(agent: &Agent) -> Result<()> {
    let data = agent.postgres().data();
    let name = agent.host().name();
    let key = fs::read_to_string(data.join("server.key"))?;
    let hba = fs::read_to_string(data.join("pg_hba.conf"))?;
    ensure!(key == name && hba.contains(&format!("# of {name}")), "{name}: {key} {hba}");
    Ok(())
}

fn give_own_files(agent: &Agent) -> Result<()> {
    let data = agent.postgres().data();
    let name = agent.host().name();
    fs::write(data.join("server.key"), name)?;
    let hba = data.join("pg_hba.conf");
    Ok(fs::write(&hba, format!("{}# of {name}\n", fs::read_to_string(&hba)?))?)
}

/// Ends a node as a power cut does.
fn power_off(agent: &Agent) -> Result<()> {
    agent.kill()?;
    agent.postgres().signal_all(Signal::SIGKILL)?;
    agent.wait_ended(SOON)
}

/// Has the primary remove its log up to now.
fn remove_log(primary: &Agent) -> Result<()> {
    for setting in ["wal_keep_size = 0", "min_wal_size = '32MB'"] {
        primary.psql(&format!("alter system set {setting}"))?;
    }
    primary.psql("select pg_reload_conf()")?;
    for _ in 0..3 {
        primary.psql("insert into filling select pg_logical_emit_message(true, '', '')")?;
        primary.psql("select pg_switch_wal()")?;
        primary.psql("checkpoint")?;
    }
    Ok(())
}

/// Scenarios 4, 35 and 36: both voters replay nothing when the primary is lost, and nothing that was acknowledged is
/// lost; the old primary, with a commit that nobody else has, is rewound. Then a standby that was away for too long is
/// copied anew. Each has its own files at the end.
#[test]
fn netns_agent_comeback_of_who_diverged_and_of_who_was_left_behind() -> Result<()> {
    let test = "netns_agent_comeback_of_who_diverged_and_of_who_was_left_behind";
    let Some(managed) = Managed::up(test, &options())? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    managed.agents.iter().try_for_each(give_own_files)?;
    db1.wait_voters(2)?;
    db1.psql("create table filling (x pg_lsn)")?;
    let voters = [managed.agent("db2")?, managed.agent("db3")?];
    let has_table = |voter: &Agent| voter.psql("select count(*) from filling");
    for voter in voters {
        wait_until("the table", SOON, || Ok(has_table(voter)? == "0"))?;
        voter.psql("select pg_wal_replay_pause()")?;
    }
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    // A client beside the primary, which goes on when nobody else hears of it.
    let beside = Writer::start(db1.host(), db1.host().address())?;
    beside.wait_after(Instant::now(), SOON)?;
    db1.host().link_down()?;
    let cut = Instant::now();
    let successor = managed.wait_successor("db1")?;
    writer.wait_after(cut, SOON * 2)?;
    db1.host().link_up()?;
    db1.wait_streaming()?;
    ensure!(db1.log().contains("order: take back what"), "it was rewound:\n{}", db1.tail());
    has_own_files(db1)?;

    let behind = voters.into_iter().find(|voter| voter.host().name() != successor.host().name());
    let behind = behind.context("the third node")?;
    power_off(behind)?;
    remove_log(successor)?;
    behind.start()?;
    let begun = Instant::now();
    // A receiver counts as streaming before it hears that there is nothing to stream.
    let copied = wait_until("it to go on with a copy", SOON * 2, || {
        Ok(behind.log().contains("order: go on with the copy of"))
    });
    copied.with_context(|| format!("the end of its log:\n{}", behind.tail()))?;
    behind.wait_streaming()?;
    println!("{} streams {:.1?} after it was started", behind.host().name(), begun.elapsed());
    has_own_files(behind)?;
    let former = behind.postgres().data().with_added_extension("pgha-behind");
    wait_until("what it had before to be removed", SOON, || Ok(!former.exists()))?;
    ensure!(behind.status()?.rebuild.is_none(), "{:?}", behind.status()?);
    managed.finish([writer, beside])?;
    let all = successor.rows()?;
    wait_until("it to have all of it", SOON, || Ok(behind.rows()? == all))
}

/// Scenario 19: with a data directory of another cluster an agent does not start, and says why; where it has forgotten
/// which one it had, it ends as soon as it has read the record.
#[test]
fn netns_agent_refuses_a_data_directory_of_another_cluster() -> Result<()> {
    let test = "netns_agent_refuses_a_data_directory_of_another_cluster";
    let Some(managed) = Managed::up(test, &AgentOptions::default())? else { return Ok(()) };
    let db3 = managed.agent("db3")?;
    power_off(db3)?;
    let (data, state) = (db3.postgres().data(), db3.postgres().home().join("agent"));
    let aside = |path: &Path| path.with_added_extension("aside");
    fs::rename(&data, aside(&data))?;
    let initdb = db3.host().command([bin_directory()?.join("initdb")])?;
    let initdb = initdb.args(["-D"]).args([&data]).args(["--no-sync", "--auth=trust"]);
    initdb.as_postgres()?.run()?;
    let control = || fs::read(data.join("global/pg_control"));
    let before = control()?;
    let refused = |what: &str| -> Result<()> {
        let output = db3.pgha(&["agent"])?.output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && error.contains(what), "{error}");
        ensure!(error.contains("belongs to another cluster"), "{error}");
        Ok(())
    };
    refused("put the former directory back")?;
    ensure!(control()? == before, "it was touched");
    fs::rename(&state, aside(&state))?;
    refused("that of the cluster in the store is")?;
    ensure!(db3.postgres().processes()?.is_empty(), "PostgreSQL goes on");
    for path in [&data, &state] {
        fs::remove_dir_all(path)?;
        fs::rename(aside(path), path)?;
    }
    db3.start()?;
    db3.wait_streaming()
}

/// Scenario 28: the primary's disk is full, and another node takes over as soon as a write has failed; it comes back by
/// itself once there is room. Then it stands still, and another node takes over as soon as a write has taken too long.
/// What the agent keeps, and its sockets, are on that disk too.
#[test]
fn netns_agent_failover_of_a_disk_that_is_full_or_stands_still() -> Result<()> {
    let test = "netns_agent_failover_of_a_disk_that_is_full_or_stands_still";
    let agent = "guardian = false\nwrite_timeout = \"2s\"\n".to_owned();
    let options = AgentOptions { agent, ..options() };
    let Some(managed) = Managed::prepared(test, &options)? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    power_off(db1)?;
    let disk = managed.lab.disk_under(&db1.postgres().home(), 256 << 20)?;
    db1.start()?;
    db1.wait_role(RoleStatus::Standby)?;
    db1.wait_log()?;
    managed.found()?;
    db1.wait_voters(2)?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    full(&managed, db1, &disk, &writer)?;
    let (_, record) = managed.primary()?;
    let controller = managed.controller.as_ref().context("a controller")?;
    let output = controller.pgha(["failover", "db1"])?;
    ensure!(output.status.success(), "{output:?}");
    db1.wait_voters(2)?;
    writer.wait_after(Instant::now(), SOON)?;
    stands_still(&managed, db1, &disk, &writer)?;
    let (_, after) = managed.primary()?;
    ensure!(after.terms.len() == record.terms.len() + 2, "{:?}", after.terms);
    managed.finish([writer]).map(drop)
}

/// Waits until nothing is wrong with the disk of a node that follows another.
fn wait_well(agent: &Agent) -> Result<()> {
    agent.wait_streaming()?;
    wait_until("the disk to be well", SOON, || Ok(agent.status()?.faults.is_empty()))
}

fn full(managed: &Managed, db1: &Agent, disk: &Disk, writer: &Writer) -> Result<()> {
    disk.fill()?;
    let begun = Instant::now();
    let successor = managed.wait_successor("db1")?;
    let took = begun.elapsed();
    writer.wait_after(begun, SOON * 2)?;
    println!("another node is the primary {took:.1?} after the disk was full");
    // Not by its silence, nor by the end of its lease.
    let record = successor.status()?.record.context("a record")?;
    let cause = record.term().cause.clone().context("a cause")?;
    ensure!(cause.reason == Suspicion::Reported && cause.proof != Proof::Lease, "{cause:?}");
    let controller = managed.controller.as_ref().context("a controller")?;
    let told = |verb: &[&str]| -> Result<String> {
        Ok(String::from_utf8_lossy(&controller.pgha(verb)?.stdout).into_owned())
    };
    wait_until("operators to be told", SOON, || {
        let (status, why) = (told(&["status"])?, told(&["why-not", "db1"])?);
        let probe = db1.postgres().data().join("pg_wal/pgha.probe");
        let line = format!("the disk does not write: {}: No space left", probe.display());
        ensure!(status.contains(&line), "{status}");
        ensure!(why.contains("db1 does not become the primary: its disk does not write"), "{why}");
        ensure!(why.contains("pgha status"), "{why}");
        Ok(true)
    })?;
    tries_with_patience(db1)?;
    disk.free()?;
    wait_well(db1)?;
    writer.wait_after(Instant::now(), SOON)
}

/// PostgreSQL does not start while there is no room, which is tried again and again, but not without a pause.
fn tries_with_patience(agent: &Agent) -> Result<()> {
    let tries = || agent.log().matches("the order did not work: ").count();
    let (before, begun) = (tries(), Instant::now());
    wait_until("some starts to fail", SOON, || Ok(tries() >= before + 5))?;
    let (tries, took) = (tries() - before, begun.elapsed());
    println!("{tries} starts failed within {took:.1?}");
    ensure!(took >= PAUSE * u32::try_from(tries - 1)?, "{tries} starts failed within {took:.1?}");
    Ok(())
}

fn stands_still(managed: &Managed, db1: &Agent, disk: &Disk, writer: &Writer) -> Result<()> {
    disk.freeze()?;
    let frozen = Instant::now();
    managed.wait_successor("db1")?;
    let took = frozen.elapsed();
    writer.wait_after(frozen, SOON * 2)?;
    println!(
        "another node is the primary {took:.1?} after the disk stood still, and has the writer VIP after {:.1?}",
        frozen.elapsed()
    );
    ensure!(took >= Duration::from_secs(2), "a write may take 2 s: {took:.1?}");
    let faults = db1.status()?.faults;
    ensure!(faults.iter().any(|fault| fault.contains("a write takes")), "{faults:?}");
    disk.thaw()?;
    wait_well(db1)?;
    writer.wait_after(Instant::now(), SOON)
}
