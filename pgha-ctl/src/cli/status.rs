//! `pgha status`: once, or again and again.

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::terminal;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::argument;
use super::client::{self, ClientError, Controller, Options};
use super::exit::Exit;
use super::managed::{self, Managed};
use super::output::print;
use super::{table, words};
use crate::controller::status::Status;
use crate::rpc::client::ConnectError;

/// How often the status is shown where nobody says how often.
const INTERVAL: &str = "2s";

/// How the status is shown.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show it again and again, every so often (2s when no time is given), until Ctrl-C. A terminal is
    /// redrawn in place; elsewhere, each is printed after the one before, with --json in one line.
    #[arg(
        long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = INTERVAL,
        value_parser = interval
    )]
    watch: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// An interval between looks: seconds, or with a unit.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    // `2` is what other watchers take.
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let interval = match seconds {
        Some(interval) => interval,
        None => argument::time(text)?,
    };
    if interval < Duration::from_millis(100) {
        return Err("give at least 100ms".to_owned());
    }
    Ok(interval)
}

/// A status, and the managed nodes.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: Option<&'a Status>,
    /// Why there is no status of a controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    managed: Option<&'a Managed>,
}

/// Shows the status. Where nodes are managed, they are shown also when no controller answers.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { watch, json } = arguments;
    let controller = options.controller()?;
    let Some(interval) = watch else {
        return once(json, look(options, &controller).await);
    };
    let mut watched = Watched::new(json);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut due = tokio::time::interval(interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let looked = async {
            due.tick().await;
            look(options, &controller).await
        };
        let (asked, managed) = tokio::select! {
            looked = looked => looked,
            _ = interrupt.recv() => return Ok(Exit::Done),
        };
        watched.managed = managed;
        watched.take_in(asked)?;
        let shown = watched.shown(interval, words::now(), Instant::now())?;
        match put(&shown) {
            // Whoever reads has enough: `pgha status --watch | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            put => put?,
        }
    }
}

/// Asks the controller, and whoever manages nodes, side by side.
async fn look(
    options: &Options,
    controller: &Controller,
) -> (Result<Status, ClientError>, Option<Managed>) {
    tokio::join!(client::status(controller), managed::gather(options, controller))
}

fn once(
    json: bool,
    (asked, managed): (Result<Status, ClientError>, Option<Managed>),
) -> anyhow::Result<Exit> {
    let (status, error) = match asked {
        Ok(status) => (Some(status), None),
        // Of the managed nodes their agents tell.
        Err(error) if managed.is_some() && is_passing(&error) => (None, Some(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let exit = if status.is_some() { Exit::Done } else { Exit::Unreachable };
    let shown = Shown { status: status.as_ref(), error, managed: managed.as_ref() };
    print(json, &shown, |shown| text(shown, words::now()))?;
    Ok(exit)
}

fn text(shown: &Shown<'_>, now: u64) -> String {
    let mut text = String::new();
    if let Some(error) = &shown.error {
        text += &format!("pgha: {error}\n\n");
    }
    if let Some(managed) = shown.managed {
        text += &managed::text(managed, now);
        text.push('\n');
    }
    text + &shown.status.map(|status| table::status(status, now)).unwrap_or_default()
}

fn size() -> Option<(u16, u16)> {
    io::stdout().is_terminal().then(terminal::size)?.ok()
}

/// Whether a controller that could not be asked now may be asked again soon. The rest is a person's to mend.
pub(super) const fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::NoController { .. }
        | ClientError::Timeout { .. }
        | ClientError::Connect(ConnectError::Tcp { .. } | ConnectError::Timeout { .. })
        | ClientError::Broken(_)
        | ClientError::Refused(_) => true,
        ClientError::Permission { .. }
        | ClientError::Connect(ConnectError::Tls { .. } | ConnectError::Credentials(_))
        | ClientError::Credentials(_)
        | ClientError::Config(_)
        | ClientError::Unreadable(_)
        | ClientError::Http(_)
        | ClientError::Query(_) => false,
    }
}

/// What was seen last, and whether it is seen still.
struct Watched {
    json: bool,
    last: Option<(Status, Instant)>,
    /// Why the controller could not be asked now.
    error: Option<ClientError>,
    /// The managed nodes, as they were told now.
    managed: Option<Managed>,
}

impl Watched {
    const fn new(json: bool) -> Self {
        Self { json, last: None, error: None, managed: None }
    }

    /// Takes in an answer, or that there is none: a controller may come back. What a person must mend
    /// here ends the watch.
    fn take_in(&mut self, asked: Result<Status, ClientError>) -> Result<(), ClientError> {
        match asked {
            Ok(status) => {
                self.last = Some((status, Instant::now()));
                self.error = None;
            }
            Err(error) if is_passing(&error) => self.error = Some(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn shown(&self, interval: Duration, wall: u64, now: Instant) -> anyhow::Result<String> {
        if self.json {
            return Ok(match (&self.error, &self.last) {
                (None, Some((status, _))) => {
                    let managed = self.managed.as_ref();
                    let shown = Shown { status: Some(status), error: None, managed };
                    serde_json::to_string(&shown)? + "\n"
                }
                // Each line is a status, or none is there.
                _ => String::new(),
            });
        }
        let at = words::moment(wall);
        let mut text = format!("{at} UTC, every {}\n", humantime::format_duration(interval));
        if let Some(error) = &self.error {
            text += &format!("pgha: {error}\n");
        }
        if let Some(managed) = &self.managed {
            text += &format!("\n{}", managed::text(managed, wall));
        }
        if let Some((status, seen)) = &self.last {
            if self.error.is_some() {
                let age = now.saturating_duration_since(*seen).as_secs();
                text += &format!("what was seen {age} s ago:\n");
            }
            text += &format!("\n{}\n", table::status(status, wall));
        }
        Ok(text)
    }
}

/// Writes one look at the status: over the one before where it is a terminal.
fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match size() {
        Some((_, rows)) => stdout.write_all(over(text, rows.into()).as_bytes())?,
        None => stdout.write_all(text.as_bytes())?,
    }
    stdout.flush()
}

/// The text from the top of a terminal on, over what is there (ECMA-48: CUP, EL, ED). Whole lines are never
/// erased before they are written, so nothing flickers.
fn over(text: &str, rows: usize) -> String {
    let mut over = "\x1b[H".to_owned();
    let lines: Vec<_> = text.trim_end().lines().collect();
    // The last row would scroll the first one away.
    let room = rows.saturating_sub(1).max(1);
    let shown = if lines.len() > room { room.saturating_sub(1) } else { lines.len() };
    for line in &lines[..shown] {
        over += &format!("{line}\x1b[K\n");
    }
    if shown < lines.len() {
        over +=
            &format!("... {} more lines; make the terminal higher\x1b[K\n", lines.len() - shown);
    }
    over + "\x1b[J"
}
