//! Agent, guardian and controller as services: what systemd is told, what they may do, and that another version takes
//! their place under load.
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use pgha_ctl::agent::status::{AgentStatus, RoleStatus};
use pgha_tests::lab::artifacts::pgha_binary;
use pgha_tests::lab::service::{Launch, Listening};
use pgha_tests::lab::{
    Agent, AgentOptions, Director, Managed, SOON, WRITER_VIP, Writer, wait_until,
};
use pgha_tests::skip::skipped;

/// How soon a loop has to go round, for systemd.
const WATCHDOG: Duration = Duration::from_secs(3);
const GOES_ROUND: &str = "WATCHDOG=1";

/// Numbers of `linux/capability.h`.
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const IPC_LOCK: u64 = 1 << 14;
const SYS_NICE: u64 = 1 << 23;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

const AGENT: u64 =
    KILL | SETGID | SETUID | NET_ADMIN | NET_RAW | IPC_LOCK | SYS_NICE | PERFMON | BPF;
const GUARDIAN: u64 = NET_ADMIN | IPC_LOCK;
const CONTROLLER: u64 = NET_ADMIN | NET_RAW | PERFMON | BPF;

/// With these a program begins, beside what it keeps: to give up the rest, and to give directories away.
const SETPCAP: u64 = 1 << 8;
const CHOWN: u64 = 1;
const NAMES: [(&str, u64); 11] = [
    ("CAP_BPF", BPF),
    ("CAP_CHOWN", CHOWN),
    ("CAP_IPC_LOCK", IPC_LOCK),
    ("CAP_KILL", KILL),
    ("CAP_NET_ADMIN", NET_ADMIN),
    ("CAP_NET_RAW", NET_RAW),
    ("CAP_PERFMON", PERFMON),
    ("CAP_SETGID", SETGID),
    ("CAP_SETPCAP", SETPCAP),
    ("CAP_SETUID", SETUID),
    ("CAP_SYS_NICE", SYS_NICE),
];

/// Every process is exchanged for one of another file while a client writes all the time: it loses no connection, and
/// the cluster no start, no epoch and no lease.
#[test]
fn netns_agent_guardian_and_controller_are_replaced_under_load() -> Result<()> {
    let test = "netns_agent_guardian_and_controller_are_replaced_under_load";
    let lease = Duration::from_secs(30);
    let options = AgentOptions { lease, controller: Some("lb1"), ..AgentOptions::default() };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let (db1, db2) = (managed.agent("db1")?, managed.agent("db2")?);
    db1.wait_voters(2)?;
    let next = managed.lab.directory().join("pgha");
    fs::copy(pgha_binary()?, &next)?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON * 2)?;
    let (before, connections) = (db1.status()?, writer.connections());
    let former = only_guardian(db1)?;

    // A standby's first. The controllers go on: nobody takes an agent that is soon followed by another for lost.
    let controller = managed.controller.as_ref().context("a controller")?;
    db2.terminate()?;
    db2.start_as(&Launch { program: Some(next.clone()), told: None })?;
    let told = Listening::new(&managed.lab, "db1")?;
    ends_with_a_renewal(db1, db2)?;
    db1.start_as(&Launch { program: Some(next.clone()), told: Some((&told, WATCHDOG)) })?;
    db1.wait_role(RoleStatus::Primary)?;
    guardian_is_replaced(db1, former, &next)?;
    // One that stands still for long is taken for lost.
    controller.terminate()?;
    is_served(db1, &told)?;
    assert_rights(db1.pid()?, AGENT, AGENT)?;
    // What the agent starts has its bound, and can have no more than it has.
    assert_rights(only_guardian(db1)?, GUARDIAN, AGENT)?;
    assert_rights(db1.postgres().postmaster_pid()?.context("a postmaster")?, 0, AGENT)?;
    writer.wait_after(Instant::now(), SOON)?;

    controller_is_replaced(&managed, controller, &next)?;
    assert_rights(controller.pid().context("a controller")?, CONTROLLER, CONTROLLER)?;

    // Longer than the lease that the former agent had: the new one renews it, and its guardian hears of that.
    let begun = Instant::now();
    wait_until("the first lease to be over", lease * 2, || Ok(begun.elapsed() > lease))?;
    writer.wait_after(Instant::now(), SOON)?;
    ensure!(writer.connections() == connections, "it had to connect again");
    is_the_same(&before, &db1.status()?)?;
    tells_its_roles(db1)?;
    managed.finish([writer]).map(drop)
}

/// The units in the documentation are understood by systemd, and give what the programs keep.
#[test]
fn netns_units_are_what_systemd_and_the_programs_want() -> Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let directory = tempfile::tempdir()?;
    for (unit, rights) in [
        ("pgha-agent.service", AGENT | SETPCAP | CHOWN),
        ("pgha-controller.service", CONTROLLER | SETPCAP),
    ] {
        let text = fs::read_to_string(examples.join(unit))?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let named: u64 = lines
            .flat_map(str::split_whitespace)
            .map(|name| NAMES.iter().find(|(known, _)| *known == name).context(name.to_owned()))
            .map(|found| found.map(|(_, bit)| bit))
            .sum::<Result<u64>>()?;
        ensure!(named == rights, "{unit}: {named:x}, and not {rights:x}");
        // The program need not be installed here.
        fs::write(directory.path().join(unit), text.replace("/usr/bin/pgha", "/bin/true"))?;
    }
    let units = fs::read_dir(directory.path())?.map(|unit| Ok(unit?.path()));
    let units = units.collect::<Result<Vec<_>>>()?;
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output();
    match verify {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped("netns_units_are_what_systemd_and_the_programs_want", "no systemd-analyze")
        }
        verified => {
            let output = verified?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success() && said.is_empty(), "{said}");
            Ok(())
        }
    }
}

/// The agent of the primary ends when it has renewed once more: nobody takes it for lost before the next one renews.
fn ends_with_a_renewal(primary: &Agent, standby: &Agent) -> Result<()> {
    let renewals = |agent: &Agent| Ok(agent.status()?.record.context("a record")?.lease.renewal());
    let before: u64 = renewals(primary)?;
    primary.terminate()?;
    wait_until("another renewal, by the word of a standby", SOON, || {
        let now: Result<u64> = renewals(standby);
        let now = now?;
        ensure!(now > before, "{now} renewals, and {before} when the agent was to end");
        Ok(true)
    })
}

fn is_the_same(before: &AgentStatus, after: &AgentStatus) -> Result<()> {
    ensure!(after.start == before.start, "{:?} after {:?}", after.start, before.start);
    ensure!(after.epoch == before.epoch, "{:?} after {:?}", after.epoch, before.epoch);
    Ok(())
}

/// The guardians of an agent: those that listen in its directory.
fn guardians(agent: &Agent) -> Result<Vec<i32>> {
    let directory = agent.runtime().join("guardian").display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile is none.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        if let [_, b"guardian", b"--socket", socket, ..] = words[..]
            && String::from_utf8_lossy(socket).starts_with(&directory)
        {
            found.push(pid);
        }
    }
    Ok(found)
}

fn only_guardian(agent: &Agent) -> Result<i32> {
    let guardians = guardians(agent)?;
    let [one] = guardians[..] else { anyhow::bail!("{guardians:?}") };
    Ok(one)
}

fn guardian_is_replaced(agent: &Agent, former: i32, program: &Path) -> Result<()> {
    wait_until("another guardian in the place of the one before", SOON, || {
        let now = guardians(agent)?;
        ensure!(!now.contains(&former) && now.len() == 1, "{now:?}, and {former} before");
        let runs = fs::read_link(format!("/proc/{}/exe", now[0]))?;
        ensure!(runs == program, "{}", runs.display());
        Ok(true)
    })
}

/// Ready, told how it is, and that the loop goes round; not while it stands still.
fn is_served(agent: &Agent, told: &Listening) -> Result<()> {
    let status = "STATUS=PostgreSQL is the primary; the record (epoch 1): this node is the holder";
    told.wait(&["READY=1", status, GOES_ROUND])?;
    agent.signal(Signal::SIGSTOP)?;
    told.wait_silence(WATCHDOG)?;
    agent.signal(Signal::SIGCONT)?;
    told.wait(&[GOES_ROUND])
}

fn controller_is_replaced(managed: &Managed, controller: &Director, next: &Path) -> Result<()> {
    let told = Listening::new(&managed.lab, "lb1")?;
    let launch = Launch { program: Some(next.to_owned()), told: Some((&told, WATCHDOG)) };
    controller.start_as(&launch, || Ok(controller.status().is_ok()))?;
    told.wait(&["READY=1", "STATUS=this director answers for the VIPs; ", GOES_ROUND])?;

    // A file that nobody writes keeps its reader waiting: the loop hangs, and nobody else says that it goes round.
    let file = controller.config_path();
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    nix::unistd::mkfifo(&file, Mode::S_IRWXU)?;
    controller.reload()?;
    told.wait_silence(WATCHDOG)?;
    fs::write(&file, &text)?;
    fs::remove_file(&file)?;
    fs::write(&file, text)?;
    told.wait(&[GOES_ROUND])?;
    controller.terminate()?;
    told.wait(&["STOPPING=1"])?;
    controller.start_as(&Launch { told: None, ..launch }, || Ok(controller.status().is_ok()))
}

/// Each thread has these capabilities and no other, and nothing that it runs can have more.
fn assert_rights(pid: i32, wanted: u64, bound: u64) -> Result<()> {
    // A machine of tests may lack some itself.
    let own = sets(Path::new("/proc/thread-self/status"))?.effective;
    let (wanted, bound) = (wanted & own, bound & own);
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let threads: Vec<PathBuf> =
        threads.map(|thread| Ok(thread?.path().join("status"))).collect::<Result<_>>()?;
    ensure!(!threads.is_empty());
    for thread in threads {
        // One that has ended meanwhile may do nothing.
        let Ok(sets) = sets(&thread) else { continue };
        let is_right = sets.effective == wanted
            && sets.permitted == wanted
            && sets.inherited == 0
            && sets.bounding == bound
            && sets.no_new_privileges;
        ensure!(is_right, "process {pid}: {sets:x?}, and not {wanted:x} of {bound:x}");
    }
    Ok(())
}

#[derive(Debug)]
struct Sets {
    /// Inheritable and ambient.
    inherited: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    no_new_privileges: bool,
}

fn sets(status: &Path) -> Result<Sets> {
    let text = fs::read_to_string(status)?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| name.to_owned())
    };
    let set = |name: &str| Ok::<_, anyhow::Error>(u64::from_str_radix(value(name)?, 16)?);
    Ok(Sets {
        inherited: set("CapInh:")? | set("CapAmb:")?,
        permitted: set("CapPrm:")?,
        effective: set("CapEff:")?,
        bounding: set("CapBnd:")?,
        no_new_privileges: value("NoNewPrivs:")? == "1",
    })
}

/// Each change of its part is in the log, with epoch, LSN and reason.
fn tells_its_roles(agent: &Agent) -> Result<()> {
    let log = agent.log();
    let told = |what: &str| log.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let roles = told("PostgreSQL here is ");
    ensure!(roles.iter().any(|line| line.contains("is the primary ")), "{roles:#?}");
    for line in roles.into_iter().chain(told("the record: this node is ")) {
        for field in [" epoch=", " lsn=", " timeline=", " reason=\""] {
            ensure!(line.contains(field), "without{field}: {line}");
        }
    }
    Ok(())
}
