//! What the kernel tells the controller of the director's neighbours.
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_tests::lab::{SOON, wait_for};

use crate::cluster::Cluster;

/// Each notice takes more than half a kilobyte of the socket's buffer, which has 208 of them
/// (net.core.rmem_default).
const TOO_MANY: u32 = 2000;

const MAC: &str = "02:00:00:00:00:01";

#[test]
fn netns_news_that_are_too_many_stop_nobody() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let director = &cluster.director;
    let pid = Pid::from_raw(director.pid().context("a controller")?);
    let mut batch = String::new();
    for number in 0..TOO_MANY {
        let (high, low) = (number / 250, number % 250);
        writeln!(batch, "neigh replace 10.99.{high}.{low} lladdr {MAC} dev eth0 nud permanent")?;
    }
    let flood = || director.host().command(["ip", "-batch", "-"])?.stdin(&batch).run();

    kill(pid, Signal::SIGSTOP)?;
    flood()?;
    let lost = dropped(&director.host().run(["cat", "/proc/net/netlink"])?);
    kill(pid, Signal::SIGCONT)?;
    ensure!(lost > 0, "the kernel dropped no notice");
    // More of them while the table is read again.
    flood()?;
    director.host().run(["ip", "neigh", "flush", "dev", "eth0", "nud", "permanent"])?;

    cluster.wait_serving(&["db2", "db3"])?;
    cluster.reader("db2")?.signal_all(Signal::SIGKILL)?;
    wait_for("db2 to get no more connections", SOON, || {
        Ok((cluster.weights()?["db2"] == 0).then_some(()))
    })?;
    assert_eq!(cluster.served(4)?.keys().collect::<Vec<_>>(), ["db3"]);
    assert_eq!(cluster.logged("trying again")?, 0, "{}", director.log()?);
    Ok(())
}

/// Notices that the kernel dropped for want of memory, of all the host's sockets: the column Drops.
fn dropped(sockets: &str) -> u64 {
    let drops = |line: &str| line.split_whitespace().nth(8)?.parse::<u64>().ok();
    sockets.lines().filter_map(drops).sum()
}
