//! `pgha controller` as it ships, which writes down each step of a failover that its coordinator has come to, and
//! kills itself after the first one of a name.
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sys::signal::{Signal, raise};
use pgha_ctl::controller::{self, Step};
use pgha_ctl::telemetry;
use pgha_machine::failover::coordinator::{Effect, Event, Stage};
use pgha_machine::failover::message::Message;
use pgha_machine::failover::record::Record;
use pgha_machine::failover::{Answer, Request, Written};

#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration of the controller.
    #[arg(long)]
    config: PathBuf,
    /// The file that steps are appended to, one a line.
    #[arg(long)]
    steps: PathBuf,
    /// The step after which it kills itself.
    #[arg(long)]
    end_after: Option<String>,
}

fn main() -> Result<()> {
    let Arguments { config, steps, end_after } = Arguments::parse();
    telemetry::init();
    let file = OpenOptions::new().append(true).create(true).open(&steps);
    let file = Mutex::new(file.with_context(|| steps.display().to_string())?);
    let known = AtomicBool::new(false);
    let observer = Arc::new(move |stage, step: Step<'_>| {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if stage == Stage::Watching && !known.swap(true, Ordering::Relaxed) {
            note(&mut file, "watching");
        }
        let Some(name) = name(stage, step) else { return };
        note(&mut file, &name);
        if end_after.as_ref() == Some(&name) {
            // Nothing of this process runs on after that: no thread, and no request that has not left it.
            let _ = raise(Signal::SIGKILL);
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(controller::run_observed(&config, observer))?)
}

fn note(file: &mut File, name: &str) {
    if let Err(error) = writeln!(file, "{name}") {
        eprintln!("the step {name} could not be noted: {error}");
    }
}

/// A step of a failover, in words; nothing where there is none. What a controller does all the time is a step while
/// the primary is suspected or a candidate nominated.
fn name(stage: Stage, step: Step<'_>) -> Option<String> {
    let during = match stage {
        Stage::Unknown => return None,
        Stage::Watching => "watching",
        Stage::Frozen => "frozen",
        Stage::Nominated => "nominated",
    };
    let (what, always) = match step {
        Step::Done(Effect::Store(Request::Read)) => ("a read is sent", true),
        Step::Done(Effect::Store(Request::Put { record, .. })) => (sent(stage, record), false),
        Step::Done(Effect::Send { message: Message::CatchUp { .. }, .. }) => {
            ("a candidate is told to catch up", false)
        }
        Step::Done(Effect::Send { .. }) => ("a report is sent", true),
        Step::Done(Effect::TurnOff { .. }) => ("a device is asked", false),
        Step::Comes(Event::Store(Answer::Read(_))) => ("a read is answered", true),
        Step::Comes(Event::Store(Answer::Changed(_))) => ("the record has changed", true),
        Step::Comes(Event::Store(Answer::Written(written))) => (came(*written), false),
        Step::Comes(Event::TurnedOff { .. }) => ("the device has answered", false),
        Step::Done(Effect::Answered { .. })
        | Step::Comes(Event::Heard { .. } | Event::Ordered { .. } | Event::Tick) => return None,
    };
    (stage != Stage::Watching || !always).then(|| format!("{during}: {what}"))
}

const fn came(written: Written) -> &'static str {
    match written {
        Written::Done(_) => "it is written",
        Written::Conflict => "something else was written",
        Written::Failed | Written::Unknown => "nobody knows whether it is written",
    }
}

/// Which write that is.
const fn sent(stage: Stage, record: &Record) -> &'static str {
    match (stage, &record.freeze, &record.nomination) {
        (_, Some(_), Some(_)) => "a nomination is sent",
        (Stage::Nominated, Some(_), None) => "a withdrawal is sent",
        (_, Some(_), None) => "a freeze is sent",
        (_, None, _) => "a thaw is sent",
    }
}
