//! Fence devices turn hosts of the lab off: what they say is a proof, and that they do not answer is none.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_tests::lab::{Agent, AgentOptions, Cmd, Host, Managed, SOON, WRITER_VIP, Writer};

const LEASE: Duration = Duration::from_secs(12);
/// Sooner than that after a host was cut off no lease can have ended: its last renewal is at most a quarter of it old.
const SOONEST: Duration = Duration::from_secs(9);

/// By ClusterLabs' interface: has the power of a host cut, and knows whether it is. It hangs, fails, or works once it may.
/// Like that of a device on the network it needs no right over the host, and has none: a controller keeps few.
const DEVICE: &str = r#"#!/bin/sh
here=${0%/*}
while IFS= read -r line; do
    case "$line" in
        action=*) action=${line#action=} ;;
        nodename=*) node=${line#nodename=} ;;
        how=*) how=${line#how=} ;;
    esac
done
echo "$how $action $node" >> "$here/told"
test "$how" = hangs && exec sleep 600
if test "$how" = fails || ! test -e "$here/may"; then
    echo "Unable to connect/login to fencing device" >&2
    exit 1
fi
namespace=$(cat "$here/$node")
case "$action" in
    off)
        touch "$here/cut-$node"
        until test -e "$here/off-$node"; do sleep 0.02; done ;;
    status)
        test -e "$here/off-$node" && exit 2
        exit 0 ;;
esac
"#;

/// The power of the hosts: cut where a device asks for it, which ends every process there. Until it is dropped.
struct Power {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Power {
    fn of(hosts: Vec<Host>, directory: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stops.load(Ordering::Relaxed) {
                for host in &hosts {
                    let asked = directory.join(format!("cut-{}", host.name()));
                    if asked.exists() {
                        cut(host)?;
                        fs::write(directory.join(format!("off-{}", host.name())), "")?;
                        fs::remove_file(asked)?;
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it.
    fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.map_err(|_| anyhow!("the power of the hosts"))?)
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Ends every process of a host.
fn cut(host: &Host) -> Result<()> {
    loop {
        let pids = Cmd::new(["ip", "netns", "pids", host.namespace().name()]).run()?;
        if pids.trim().is_empty() {
            return Ok(());
        }
        for pid in pids.split_whitespace() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Three levels for each node: one hangs, one fails, one may work.
fn configuration(device: &Path) -> String {
    let mut text = "mode = \"async\"\nfence_timeout = \"1s\"\n".to_owned();
    for node in ["db1", "db2", "db3"] {
        for (level, how) in [(1, "hangs"), (2, "fails"), (3, "works")] {
            text += &format!(
                "[[fence]]\nname = \"{how}-{node}\"\nnode = \"{node}\"\nlevel = {level}\nagent = {device:?}\n\
                 options = [\"how={how}\"]\n"
            );
        }
    }
    text
}

/// The primary's host is cut off: who follows it, and how long after.
fn lose<'m>(
    managed: &'m Managed,
    primary: &Agent,
    writer: &Writer,
) -> Result<(&'m Agent, Duration)> {
    primary.host().link_down()?;
    let cut = Instant::now();
    let successor = managed.wait_successor(primary.host().name())?;
    let after = cut.elapsed();
    writer.wait_after(Instant::now(), SOON * 2)?;
    Ok((successor, after))
}

/// Scenario 32: nobody waits for a voter, so that nothing but the end of the lease or a device proves that the primary
/// is gone. While no device works, it is the lease; one that works is quicker.
#[test]
fn netns_fence_device_is_a_proof_only_where_it_says_so() -> Result<()> {
    let test = "netns_fence_device_is_a_proof_only_where_it_says_so";
    let directory = tempfile::tempdir()?;
    let device = directory.path().join("fence_lab");
    fs::write(&device, DEVICE)?;
    fs::set_permissions(&device, fs::Permissions::from_mode(0o755))?;
    let options = AgentOptions {
        failover: configuration(&device),
        lease: LEASE,
        controller: Some("lb1"),
        ..AgentOptions::default()
    };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let hosts = managed.agents.iter().map(|agent| agent.host().clone()).collect();
    let power = Power::of(hosts, directory.path().to_owned());
    let told = || Ok::<_, anyhow::Error>(fs::read_to_string(directory.path().join("told"))?);
    let db1 = managed.agent("db1")?;
    let writer = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    let (second, by_lease) = lose(&managed, db1, &writer)?;
    for how in ["hangs", "fails", "works"] {
        ensure!(told()?.contains(&format!("{how} off db1\n")), "{}", told()?);
    }
    ensure!(!told()?.contains("status"), "what failed was asked for more: {}", told()?);
    ensure!(by_lease >= SOONEST, "{by_lease:?} after no device worked");
    db1.host().link_up()?;
    db1.wait_streaming()?;

    fs::write(directory.path().join("may"), "")?;
    let name = second.host().name();
    let (third, by_power) = lose(&managed, second, &writer)?;
    for action in ["off", "status"] {
        ensure!(told()?.contains(&format!("works {action} {name}\n")), "{}", told()?);
    }
    println!("another primary after {by_lease:?} by the lease, after {by_power:?} by a device");
    ensure!(by_power < SOONEST, "{by_power:?} after a device worked");
    ensure!(second.postgres().processes()?.is_empty(), "{name} was turned off");
    power.end()?;
    second.host().link_up()?;
    second.start()?;
    second.wait_streaming()?;
    let (primary, _) = managed.primary()?;
    ensure!(primary.host().name() == third.host().name(), "two failovers, not three");
    managed.finish([writer]).map(drop)
}
