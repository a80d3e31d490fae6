//! Managed nodes: the primary dies under a client that writes all the time.

use anyhow::{Result, ensure};
use pgha_tests::bench::failover::{Loss, Trial};

use super::story::{indent, scene};

/// What is done to the primary, one after the other.
const LOSSES: [(Loss, &str, &str); 2] = [
    (
        Loss::Crash,
        "its postmaster is killed (SIGKILL)",
        "the primary is killed: nobody can write for",
    ),
    (
        Loss::HostLossLease,
        "the cable of its host is pulled",
        "the primary's host is lost: nobody can write for",
    ),
];

/// Kills a primary, then loses the host of one. Returns lines of the summary; none where there is no etcd,
/// which is told.
pub(super) fn primary_killed() -> Result<Vec<(&'static str, String)>> {
    scene("Three managed nodes: the primary dies while a client writes");
    let Some(trial) = Trial::begin("cargo xtask demo", false, None)? else {
        println!("  SKIPPED: managed nodes need an etcd, and there is none here");
        return Ok(vec![("the primary is killed", "SKIPPED: there is no etcd".to_owned())]);
    };
    let mut measured = Vec::new();
    for (loss, what, summary) in LOSSES {
        println!("  {what}");
        let run = trial.lose(loss)?;
        indent(&run.to_string());
        measured.push((summary, format!("{} ms", run.gap.as_millis())));
    }
    let written = trial.end()?;
    let counted = format!("{} acknowledged, {} missing", written.acknowledged, written.missing);
    println!("  rows: {counted}");
    ensure!(written.missing == 0, "{} acknowledged rows are missing", written.missing);
    measured.push(("rows of that client", counted));
    Ok(measured)
}
