//! Promotions that are killed at every step that leaves something on disk.
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use pgha_machine::Timeline;
use pgha_machine::failover::voters::VoterSet;
use pgha_tests::lab::{Lab, SOON, wait_until};

use crate::managed::{Managed, cluster};

/// A step of PostgreSQL on its way out of recovery, by what it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The first WAL file of the new timeline is there.
    WalFile,
    /// `standby.signal` is removed.
    Signal,
    /// The history of the new timeline is there.
    History,
    /// The control file names the new timeline, and no client was let in.
    Control,
}

impl Step {
    const ALL: [Self; 4] = [Self::WalFile, Self::Signal, Self::History, Self::Control];

    fn is_done(self, data: &Path, held: &Path, timeline: Timeline) -> bool {
        let wal = data.join("pg_wal");
        let digits = format!("{:08X}", timeline.get());
        match self {
            Self::WalFile => fs::read_dir(wal).into_iter().flatten().flatten().any(|entry| {
                let name = entry.file_name();
                name.len() == 24 && name.to_string_lossy().starts_with(&digits)
            }),
            Self::Signal => !data.join("standby.signal").exists(),
            Self::History => wal.join(format!("{digits}.history")).exists(),
            Self::Control => held.exists(),
        }
    }
}

/// Promotes, and kills all of PostgreSQL as soon as that step is seen. Whether it was killed.
fn killed_at(db1: &Managed, step: Step, timeline: Timeline) -> Result<bool> {
    let (data, held) = (db1.postgres.data(), db1.postgres.home().join("held"));
    let kill = db1.server.cgroups().join("cgroup.kill");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let begun = Instant::now();
            while !over.load(Ordering::Relaxed) && begun.elapsed() < SOON {
                if step.is_done(&data, &held, timeline) {
                    return fs::write(&kill, "1").map(|()| true);
                }
            }
            Ok(false)
        });
        let promoted =
            db1.attempt(|server| async move { server.promote(timeline, &VoterSet::empty()).await });
        over.store(true, Ordering::Relaxed);
        let killed = killer.join().map_err(|_| anyhow::anyhow!("the killer panicked"))??;
        Ok(killed && promoted?.is_err())
    })
}

/// The timeline that it writes.
fn writes(db1: &Managed) -> Result<String> {
    let file = db1.psql("select pg_walfile_name(pg_current_wal_lsn())")?;
    Ok(file.get(..8).context("a timeline")?.to_owned())
}

/// Whatever a killed promotion left: either it has happened, and the node goes on as the primary of just that timeline,
/// or there is nothing of it, and it is ordered again.
fn goes_on(db1: &Managed, timeline: Timeline) -> Result<bool> {
    let wal = db1.run(|server| async move { server.start().await })?.context("a log")?;
    let happened = wal.end.timeline == timeline;
    if happened {
        db1.run(|server| async move {
            server.kill().await?;
            server.restart(&VoterSet::empty()).await?;
            server.admit().await
        })?;
    } else {
        let history = format!("pg_wal/{:08X}.history", timeline.get());
        ensure!(!db1.postgres.data().join(history).exists(), "a history of nobody's timeline");
        db1.run(|server| async move { server.promote(timeline, &VoterSet::empty()).await })?;
    }
    assert_eq!(writes(db1)?, format!("{:08X}", timeline.get()));
    db1.psql("insert into t select 1")?;
    Ok(happened)
}

#[test]
fn netns_server_promotion_that_is_killed_is_begun_again_or_has_happened() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = cluster(&lab, &["db1", "db2"])?.try_into().ok().context("two")?;
    let held = db1.postgres.home().join("held");
    let conf = db1.postgres.data().join("postgresql.conf");
    let text = fs::read_to_string(&conf)?;
    // What PostgreSQL does when its control file has the timeline, and before anybody may write.
    let holds = format!("recovery_end_command = 'touch {}; sleep 60'\n", held.display());
    let mut timeline = Timeline::new(3);
    db1.run(|server| async move { server.promote(timeline, &VoterSet::empty()).await })?;
    db1.psql("create table t (x int)")?;
    for step in Step::ALL {
        let mut moments = Vec::new();
        for _ in 0..3 {
            timeline = Timeline::new(timeline.get() + 2);
            db1.run(|server| async move {
                server.kill().await?;
                server.start().await
            })?;
            if step == Step::Control {
                fs::write(&conf, format!("{text}{holds}"))?;
                db1.postgres.reload()?;
            }
            let killed = killed_at(&db1, step, timeline)?;
            fs::write(&conf, &text)?;
            let _ = fs::remove_file(&held);
            if !killed {
                moments.push("came too late");
                continue;
            }
            moments.push(if goes_on(&db1, timeline)? { "it had happened" } else { "forgotten" });
        }
        println!("killed at {step:?}: {moments:?}");
        match step {
            Step::Control => ensure!(moments == ["it had happened"; 3], "{moments:?}"),
            _ if moments.iter().all(|moment| *moment == "came too late") => {
                bail!("no promotion was killed at {step:?}")
            }
            Step::WalFile | Step::Signal | Step::History => {}
        }
    }
    // Others follow to where all of that has led.
    db2.stream_from("db1")?;
    let rows = db1.psql("select count(*) from t")?;
    wait_until("the rows", SOON + Duration::from_secs(10), || {
        Ok(db2.psql("select count(*) from t")? == rows)
    })
}
