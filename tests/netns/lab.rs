//! The lab itself.
use std::env;
use std::fs;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_tests::lab::netns::Namespace;
use pgha_tests::lab::state::{self, State};
use pgha_tests::lab::{
    Capture, Host, Lab, PostgresOptions, SOON, Stub, artifacts, reaper, wait_for, wait_until,
};

/// An ethertype set aside for experiments (IEEE 802).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const BROADCAST: [u8; 6] = [0xff; 6];
/// Set for the process that a test makes to own a lab and be killed.
const OWNER_VARIABLE: &str = "PGHA_LAB_TEST_OWNER";

#[test]
fn netns_lab_hosts_reach_each_other() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, client] = lab.hosts(&["db1", "client"])?.try_into().unwrap();
    let capture = Capture::start(&db1, "tcp dst port 5432 and tcp[tcpflags] & tcp-syn != 0")?;
    let address = SocketAddrV4::new(db1.address(), 5432);
    let listener = db1.inside(|| Ok(TcpListener::bind(address)?))?;

    let stream = client.inside(|| Ok(TcpStream::connect_timeout(&address.into(), SOON)?))?;
    let (_accepted, peer) = listener.accept()?;
    assert_eq!(peer, stream.local_addr()?);
    assert_eq!(peer.ip(), client.address());
    let syn = capture.wait_for_frames(1)?.remove(0);
    assert!(syn.contains("02:00:0a:4d:00:1f > 02:00:0a:4d:00:0b"), "{syn}");
    assert!(fs::metadata(capture.stop()?)?.len() > 0);

    db1.link_down()?;
    assert!(!has_carrier(&db1)?);
    db1.link_up()?;
    wait_until("the carrier", SOON, || has_carrier(&db1))
}

fn has_carrier(host: &Host) -> Result<bool> {
    Ok(host.run(["ip", "-br", "link", "show", "eth0"])?.contains("LOWER_UP"))
}

#[test]
fn netns_lab_receives_what_xdp_sends_back() -> Result<()> {
    let lab = Lab::new()?;
    let [lb1, client, db1] = lab.hosts(&["lb1", "client", "db1"])?.try_into().unwrap();
    lb1.receive_xdp_tx()?;
    lb1.receive_xdp_tx()?;
    lb1.attach_stub(Stub::Tx)?;
    let capture = Capture::at_port(&lb1, "ether proto 0x88b5")?;
    let frame = frame(client.mac());
    let (client, db1) = (client.frames()?, db1.frames()?);

    client.send(&frame)?;
    // The switch sends a broadcast everywhere but back: it can only come from lb1.
    let returned = client.receive(SOON, |seen| seen[12..14] == EXPERIMENT)?;
    assert_eq!(returned, frame);
    for _ in ["from the client", "from lb1"] {
        assert_eq!(db1.receive(SOON, |seen| seen[12..14] == EXPERIMENT)?, frame);
    }
    capture.wait_for_frames(2).map(drop)
}

fn frame(source: [u8; 6]) -> Vec<u8> {
    [BROADCAST.as_slice(), &source, &EXPERIMENT, &[0x5a; 46]].concat()
}

#[test]
fn netns_lab_is_reaped_when_its_owner_is_killed() -> Result<()> {
    let (mut owner, lab) = own_a_lab()?;
    assert!(lab.places().bpf.join("lb1-port").exists());
    let traces = Traces::of(&lab);
    assert!(traces.all_exist());
    let inside = lab_process(&lab)?;

    owner.kill()?;
    owner.wait()?;
    wait_until("the lab to be reaped", SOON, || Ok(traces.none_exist()))?;
    // Whoever adopted it may be slow to wait for it: a zombie is in no namespace.
    assert!(!Path::new(&format!("/proc/{inside}/ns/net")).exists());
    Ok(())
}

#[test]
fn netns_lab_is_swept_when_its_reaper_was_killed_too() -> Result<()> {
    let (mut owner, lab) = own_a_lab()?;
    let traces = Traces::of(&lab);
    let reaper = wait_for("the reaper", SOON, || reaper_of(&lab.id))?;
    kill(Pid::from_raw(reaper), Signal::SIGKILL)?;
    owner.kill()?;
    owner.wait()?;
    // Its end is seen at once, but another test may sweep at any time.
    ensure!(lab.is_left_over());

    // A new lab sweeps; this one is torn down at once.
    drop(Lab::new()?);
    wait_until("the lab to be swept", SOON, || Ok(traces.none_exist()))?;
    // Whoever comes late finds nothing to do.
    reaper::tear_down(&lab.id)
}

/// Runs this test binary again as the owner of a lab, which the child makes in
/// [`netns_lab_owner`].
fn own_a_lab() -> Result<(Child, State)> {
    let owner = Command::new(env::current_exe()?)
        .args(["--exact", "lab::netns_lab_owner", "--nocapture", "--ignored"])
        .env(OWNER_VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let pid = owner.id();
    let lab = wait_for("the lab of the child", SOON, || {
        let labs = state::all()?.into_iter();
        let mut own = labs.filter(|lab| lab.owner.as_ref().is_some_and(|owner| owner.pid == pid));
        let Some(lab) = own.next() else { bail!("the child has no lab") };
        Ok(lab.places().log.join("client-sleep.log").exists().then_some(lab))
    })?;
    // The log is made just before its process.
    wait_for("the process of the child", SOON, || lab_process(&lab).map(Some))?;
    Ok((owner, lab))
}

#[test]
#[ignore = "run by the tests that kill it"]
fn netns_lab_owner() -> Result<()> {
    if env::var_os(OWNER_VARIABLE).is_none() {
        return Ok(());
    }
    let lab = Lab::new()?;
    let lb1 = lab.host("lb1")?;
    lb1.receive_xdp_tx()?;
    let client = lab.host("client")?;
    let log = lab.directory().join("log/client-sleep.log");
    let sleep = client.command(["sleep", "1000"])?.start(&log)?;
    sleep.wait(Duration::from_secs(1000)).map(drop)
}

fn lab_process(lab: &State) -> Result<i32> {
    let namespace = Namespace::open(&state::namespace(&lab.id, "client"))?;
    namespace.processes()?.first().copied().context("no process in the client's namespace")
}

/// The process `lab reap <id>`, by its arguments.
fn reaper_of(id: &str) -> Result<Option<i32>> {
    let arguments = format!("\0reap\0{id}\0");
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        if line.ends_with(arguments.as_bytes()) {
            return Ok(path.file_name().and_then(|pid| pid.to_str()?.parse().ok()));
        }
    }
    Ok(None)
}

/// All that a lab makes outside its processes.
struct Traces(Vec<PathBuf>);

impl Traces {
    fn of(lab: &State) -> Self {
        let namespaces = lab
            .hosts
            .iter()
            .map(String::as_str)
            .chain(["switch"])
            .map(|host| Path::new("/run/netns").join(state::namespace(&lab.id, host)));
        Self(namespaces.chain([lab.places().data, lab.places().run]).collect())
    }

    fn all_exist(&self) -> bool {
        self.0.iter().all(|path| path.exists())
    }

    fn none_exist(&self) -> bool {
        !self.0.iter().any(|path| path.exists())
    }
}

#[test]
fn netns_lab_labs_do_not_meet() -> Result<()> {
    thread::scope(|scope| {
        let makers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let lab = Lab::new()?;
                    let [client, db1] = lab.hosts(&["client", "db1"])?.try_into().unwrap();
                    let address = SocketAddrV4::new(db1.address(), 5432);
                    let listener = db1.inside(|| Ok(TcpListener::bind(address)?))?;
                    client.inside(|| Ok(TcpStream::connect_timeout(&address.into(), SOON)?))?;
                    Ok((lab, listener))
                })
            })
            .collect();
        let labs: Vec<_> =
            makers.into_iter().map(|maker| maker.join().unwrap()).collect::<Result<_>>()?;
        let mut ids: Vec<_> = labs.iter().map(|(lab, _)| lab.id()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 3);
        for (lab, _) in &labs {
            let traces = Traces::of(&state::load(lab.id())?.context("a record")?);
            assert!(traces.all_exist());
        }
        Ok(())
    })
}

#[test]
fn netns_lab_leaves_nothing_after_a_panic() -> Result<()> {
    let lab = Lab::new()?;
    lab.host("client")?;
    let traces = Traces::of(&state::load(lab.id())?.context("a record")?);
    let panicked = thread::spawn(move || {
        let _lab = lab;
        // A panic, but for its message.
        resume_unwind(Box::new(()));
    });
    assert!(panicked.join().is_err());
    assert!(traces.none_exist());
    Ok(())
}

#[test]
fn netns_lab_stays_when_kept() -> Result<()> {
    let lab = Lab::new()?;
    lab.hosts(&["client", "db1"])?;
    let record = state::load(lab.id())?.context("a record")?;
    let traces = Traces::of(&record);
    lab.keep()?;
    assert!(traces.all_exist());

    let lab_binary = artifacts::lab_binary()?;
    let exec = |arguments: &[&str]| {
        Command::new(&lab_binary)
            .args(["exec", "--lab", &record.id, "client"])
            .args(arguments)
            .output()
    };
    let addresses = exec(&["ip", "-4", "-br", "address", "show", "eth0"])?;
    assert!(String::from_utf8_lossy(&addresses.stdout).contains("10.77.0.31/24"));
    assert_eq!(exec(&["sh", "-c", "exit 7"])?.status.code(), Some(7));
    assert!(Command::new(&lab_binary).args(["down", "--lab", &record.id]).status()?.success());
    assert!(traces.none_exist());
    Ok(())
}

#[test]
fn netns_lab_standbys_stream() -> Result<()> {
    let lab = Lab::new()?;
    let client = lab.host("client")?;
    let primary = lab.primary("db1")?;
    let standbys = lab.standbys(&["db2", "db3"], "db1")?;
    let named = PostgresOptions::default().application_name("10.77.0.14").guc("work_mem", "1MB");
    let db4 = lab.standby_with("db4", "db1", &named)?;
    db4.wait_streaming()?;
    assert_eq!(
        primary.psql("select application_name, client_addr from pg_stat_replication order by 1")?,
        "10.77.0.14|10.77.0.14\ndb2|10.77.0.12\ndb3|10.77.0.13"
    );
    assert_eq!(db4.psql("show work_mem")?, "1MB");
    primary.set_guc("work_mem", "2MB")?;
    assert_eq!(primary.psql("show work_mem")?, "2MB");

    primary.psql("create table t(i int); insert into t values (1)")?;
    let query = ["psql", "-XAtq", "-U", "pgha", "-h", "10.77.0.12", "-c"];
    wait_until("the new table on db2", SOON, || {
        // The role may monitor, not read.
        let seen = client.command(query)?.args(["table t"]).output()?;
        Ok(String::from_utf8_lossy(&seen.stderr).contains("permission denied"))
    })?;
    let receiver = primary.receivewal(&client, "archive")?;
    let backup = primary.basebackup(&client, "backup", "stream")?;
    wait_for("the walsenders of tools", SOON, || {
        let seen = primary.psql(
            "select application_name, state from pg_stat_replication \
             where application_name in ('archive', 'backup') order by 1, 2",
        )?;
        if !(seen.contains("archive|streaming") && seen.contains("backup|backup")) {
            bail!("`{seen}`; {}; {}", receiver.log(), backup.log());
        }
        Ok(Some(()))
    })?;
    drop((receiver, backup));

    standbys[0].signal_postmaster(Signal::SIGKILL)?;
    standbys[0].wait_stopped(SOON)?;
    wait_until("its orphans to end", SOON, || Ok(standbys[0].processes()?.is_empty()))?;
    standbys[0].start()?;
    standbys[0].wait_streaming()?;
    standbys[1].stop()?;
    assert!(!standbys[1].is_running()?);
    primary.signal_all(Signal::SIGKILL)?;
    primary.wait_stopped(SOON)?;
    primary.start()
}
