//! `pgha top`: shares, connections, lag and verdicts as they change.

mod model;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::Args;
use pgha_machine::NodeName;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::client::{self, ClientError, Controller, Options};
use super::output::{self, put};
use super::status::{interval, is_passing};
use super::words;
use crate::controller::status::{SCHEMA, Status};
use model::{Looks, Order, Service, Verdict};

/// Columns of one text where there is no terminal.
const COLUMNS: u16 = 136;
/// How long keys are waited for before it is looked whether anybody wants them still.
const KEYS: Duration = Duration::from_millis(100);

/// How it is shown.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Look every so often.
    #[arg(long, value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one look as text, as is done wherever standard output is no terminal. It takes one
    /// interval, for there are rates in it.
    #[arg(long)]
    once: bool,
    /// Print one look as JSON; rates are per second, and null where they are not known.
    #[arg(long)]
    json: bool,
    /// The order of the servers.
    #[arg(long, value_enum, default_value_t)]
    sort: Order,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    looks: Looks,
    /// The last events, the newest last.
    events: Vec<Happened>,
    /// Why the controller could not be asked now.
    error: Option<String>,
}

/// What `GET /v1/events` says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Events {
    events: Vec<Happened>,
}

/// One event, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Happened {
    /// Milliseconds since the Unix epoch.
    at: u64,
    severity: String,
    text: String,
}

/// One answer of the controller.
struct Answer {
    status: Status,
    events: Vec<Happened>,
}

impl Seen {
    /// Takes in an answer, or that there is none: a controller may come back. What a person must mend
    /// is returned.
    fn take_in(
        &mut self,
        at: Instant,
        asked: Result<Answer, ClientError>,
    ) -> Result<(), ClientError> {
        match asked {
            Ok(Answer { status, events }) => {
                self.looks.push(at, status);
                self.events = events;
                self.error = None;
            }
            Err(error) if is_passing(&error) => self.error = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Shows it until somebody has enough.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { interval, once, json, sort } = arguments;
    let controller = options.controller()?;
    if json || once || !io::stdout().is_terminal() {
        let seen = two_looks(&controller, interval).await?;
        return if json {
            output::print(true, &Sample::of(&seen, sort, words::now()), |_| String::new())
        } else {
            print(&seen, sort)
        };
    }
    // One look before the screen is taken: what is wrong from the start is a sentence on it.
    let mut seen = Seen::default();
    let first = ask(&controller).await?;
    seen.take_in(Instant::now(), Ok(first))?;
    let terminal = ratatui::try_init()?;
    let ended = Screen { terminal, seen, order: sort, skipped: 0, help: false };
    let ended = ended.run(controller, interval).await;
    ratatui::restore();
    ended
}

async fn ask(controller: &Controller) -> Result<Answer, ClientError> {
    let status = client::status(controller).await?;
    // A controller that tells none is none that is broken.
    let events = client::events(controller).await.unwrap_or_default().events;
    Ok(Answer { status, events })
}

/// Two looks, to know what happened in between.
async fn two_looks(controller: &Controller, interval: Duration) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    seen.take_in(Instant::now(), Ok(ask(controller).await?))?;
    tokio::time::sleep(interval).await;
    seen.take_in(Instant::now(), Ok(ask(controller).await?))?;
    Ok(seen)
}

/// One look as JSON.
#[derive(Debug, Serialize)]
struct Sample {
    /// [`SCHEMA`].
    schema: u32,
    /// Name of the cluster; missing before the first look.
    cluster: Option<NodeName>,
    services: Vec<Service>,
    verdicts: Vec<Verdict>,
}

impl Sample {
    fn of(seen: &Seen, order: Order, wall: u64) -> Self {
        let newest = seen.looks.newest(Instant::now());
        Self {
            schema: SCHEMA,
            cluster: newest.map(|(status, _)| status.cluster.clone()),
            services: seen.looks.services(order, wall),
            verdicts: seen.looks.verdicts(),
        }
    }
}

/// One look as text.
fn print(seen: &Seen, order: Order) -> anyhow::Result<()> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let size = ratatui::crossterm::terminal::size().ok().filter(|_| io::stdout().is_terminal());
    let columns = size.map(|(columns, _)| columns).or(columns).unwrap_or(COLUMNS);
    let lines = view::lines(seen, order, columns, Instant::now(), words::now());
    let lines: Vec<_> = lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect();
    Ok(put(format!("{}\n", lines.join("\n")).as_bytes())?)
}

/// A terminal that shows it.
struct Screen {
    terminal: DefaultTerminal,
    seen: Seen,
    order: Order,
    /// Lines that are scrolled away above.
    skipped: usize,
    help: bool,
}

impl Screen {
    async fn run(mut self, controller: Controller, interval: Duration) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut keys = keys();
        let mut answers = answers(controller, interval);
        loop {
            self.draw()?;
            tokio::select! {
                Some(event) = keys.recv() => if self.is_over(&event?) { return Ok(()) },
                Some(answer) = answers.recv() => self.seen.take_in(Instant::now(), answer)?,
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let Self { terminal, seen, order, skipped, help } = self;
        terminal.draw(|frame| {
            let area = frame.area();
            let lines = view::lines(seen, *order, area.width, Instant::now(), words::now());
            // A screen that grew or a list that shrank leaves nothing to scroll.
            let room = usize::from(area.height.saturating_sub(1));
            *skipped = (*skipped).min(lines.len().saturating_sub(room));
            view::draw(&lines, *skipped, *order, *help, frame.buffer_mut());
        })?;
        Ok(())
    }

    /// Takes in a key; whether it was the last.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys of a keyboard mean nothing here")]
    fn is_over(&mut self, event: &Event) -> bool {
        // A new size only has it drawn again.
        let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
            return false;
        };
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Down | KeyCode::Char('j') => self.skipped += 1,
            KeyCode::Up | KeyCode::Char('k') => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::PageDown => self.skipped += 10,
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(10),
            KeyCode::Home => self.skipped = 0,
            _ => {}
        }
        false
    }
}

/// Keys and changes of size, as they come. They are waited for on a thread of their own, which ends with the
/// receiver.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (tell, told) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            match event::poll(KEYS) {
                Ok(false) => {}
                Ok(true) => {
                    if tell.blocking_send(event::read()).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = tell.blocking_send(Err(error));
                    return;
                }
            }
        }
    });
    told
}

/// What the controller answers, asked every so often and never twice at once.
fn answers(
    controller: Controller,
    interval: Duration,
) -> mpsc::Receiver<Result<Answer, ClientError>> {
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut due = tokio::time::interval(interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            if tell.send(ask(&controller).await).await.is_err() {
                return;
            }
        }
    });
    told
}
