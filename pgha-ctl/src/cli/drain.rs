//! `pgha drain`: no new connections for a server, and, where that is wanted, waiting until its last session is
//! over.

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use pgha_machine::NodeName;
use pgha_machine::balancer::ServiceView;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::argument;
use super::client::{self, ClientError, Controller, Options};
use super::exit::Exit;
use super::named::Named;
use super::output::print;
use super::status::is_passing;
use super::{Server, steer, words};
use crate::controller::flows::{FlowsQuery, FlowsReply, Standing};
use crate::controller::status::{OrderKind, OrderReply, OrderRequest, Refusal, SCHEMA, Status};

/// How often it is counted again. A count that takes long is asked for less often.
const COUNT: Duration = Duration::from_millis(500);
/// How many refusals in a row a controller may give that is being restarted.
const REFUSALS: u8 = 5;

/// What is drained, and how long that is waited for.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Wait until the server has no session left. Ctrl-C ends the waiting, not the drain.
    ///
    /// Exit code: 0 when none is left, 6 when --timeout was over first, 130 after Ctrl-C.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than that: `90s`, `10min`. The drain stays in force.
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = argument::time)]
    timeout: Option<Duration>,
    /// Reset the sessions that are left after that time: their clients get a RST at once.
    #[arg(long, value_name = "TIME", value_parser = argument::time)]
    reset_after: Option<Duration>,
}

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Waited {
    /// [`SCHEMA`].
    schema: u32,
    ended: Ended,
    /// Sessions that the server had left when it was counted last; `None` when it never could be.
    sessions_left: Option<u64>,
    waited_ms: u64,
    /// The other directors, where they keep orders of their own: it does not drain there.
    #[serde(default)]
    apart: Vec<NodeName>,
    /// The other directors, whose sessions were not counted.
    #[serde(default)]
    uncounted: Vec<NodeName>,
    /// The services as they were when the drain began.
    services: Vec<ServiceView>,
}

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    /// No session is left.
    Drained,
    /// Time was over.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

impl Ended {
    const fn exit(self) -> Exit {
        match self {
            Self::Drained => Exit::Done,
            Self::TimedOut => Exit::TimedOut,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// Drains, and waits where that is wanted.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { server: Server { server, service, json }, wait, timeout, reset_after } =
        arguments;
    let controller = options.controller()?;
    let reset_after_ms =
        reset_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let order = OrderKind::Drain { reset_after_ms };
    // Before the order: whoever hears of it may interrupt at once.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let request = OrderRequest { server: server.clone(), service, order };
    let reply = client::order(&controller, &request).await?;
    if !wait {
        print(json, &reply, steer::services)?;
        return Ok(Exit::Done);
    }
    let mut waiting = Waiting::new(server.clone(), &reply.services);
    let over = timeout.and_then(|timeout| waiting.began.checked_add(timeout));
    let ended = tokio::select! {
        drained = waiting.drained(&controller) => drained.map(|()| Ended::Drained)?,
        () = until(over) => Ended::TimedOut,
        _ = interrupt.recv() => Ended::Interrupted,
    };
    let (sessions_left, waited) = (waiting.left, waiting.began.elapsed());
    drop(waiting);
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    let OrderReply { services, apart, peers: uncounted, .. } = reply;
    let waited =
        Waited { schema: SCHEMA, ended, sessions_left, waited_ms, apart, uncounted, services };
    print(json, &waited, |waited| sentence(waited, &server))?;
    Ok(ended.exit())
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// How it ended, for people.
fn sentence(waited: &Waited, server: &str) -> String {
    let time = words::span(Duration::from_millis(waited.waited_ms));
    let left =
        waited.sessions_left.map_or_else(|| "an unknown number of sessions".to_owned(), sessions);
    let ended = match waited.ended {
        Ended::Drained => format!("{server} is drained: no session is left, after {time}"),
        Ended::TimedOut => format!(
            "{server} has {left} left after {time}; the drain stays in force (pgha undrain {server} takes it \
             back)"
        ),
        Ended::Interrupted => format!(
            "no longer waited for; {server} has {left} left, and the drain stays in force (pgha undrain \
             {server} takes it back)"
        ),
    };
    format!(
        "{ended}\ncounted: the sessions that this director remembers{}",
        elsewhere(&waited.uncounted, &waited.apart)
    )
}

/// Where else sessions may be, that were not counted.
fn elsewhere(uncounted: &[NodeName], apart: &[NodeName]) -> String {
    if uncounted.is_empty() {
        return String::new();
    }
    let forward = if uncounted.len() == 1 { "forwards" } else { "forward" };
    let others: Vec<_> = uncounted.iter().map(ToString::to_string).collect();
    let others = others.join(", ");
    let there = if apart.is_empty() { "ask there" } else { "drain it there" };
    format!(
        ", and none that {others} {forward}; {there} too (--to), or see pg_stat_activity on the server"
    )
}

fn sessions(count: u64) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

/// A server that is waited for.
struct Waiting {
    server: String,
    /// The services in which it drains.
    vips: Vec<SocketAddr>,
    began: Instant,
    /// Sessions when they were counted last.
    left: Option<u64>,
    shown: String,
}

/// A server as it is seen while it drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    left: u64,
    /// When the rest is reset, in milliseconds.
    reset_ms: Option<u64>,
}

impl Waiting {
    fn new(server: String, services: &[ServiceView]) -> Self {
        let vips = services.iter().map(|view| SocketAddr::new(view.vip, view.port)).collect();
        Self { server, vips, began: Instant::now(), left: None, shown: String::new() }
    }

    /// Returns when no session is left. A controller that is restarted is waited for.
    async fn drained(&mut self, controller: &Controller) -> Result<(), ClientError> {
        let mut refusals = 0;
        loop {
            let begun = Instant::now();
            match self.look(controller).await {
                Ok(Look { left: 0, .. }) => {
                    self.left = Some(0);
                    return Ok(());
                }
                Ok(look) => {
                    refusals = 0;
                    self.left = Some(look.left);
                    self.show(progress(&self.server, look));
                }
                Err(ClientError::Refused(_)) if refusals < REFUSALS => refusals += 1,
                Err(error @ ClientError::Refused(_)) => return Err(error),
                Err(error) if is_passing(&error) => {
                    self.show(format!("waiting for the controller: {error}"));
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(COUNT.max(3 * begun.elapsed())).await;
        }
    }

    async fn look(&self, controller: &Controller) -> Result<Look, ClientError> {
        let reset_ms = still_drained(&client::status(controller).await?, &self.vips, &self.server)?;
        let mut left = 0;
        for vip in &self.vips {
            let server = Some(self.server.clone());
            let query = FlowsQuery {
                server,
                vip: Some(vip.to_string()),
                limit: Some(0),
                ..FlowsQuery::default()
            };
            left += live(&client::flows(controller, &query).await?);
        }
        Ok(Look { left, reset_ms })
    }

    /// Tells it on standard error: in place on a terminal, elsewhere when it is another than before.
    fn show(&mut self, line: String) {
        if line == self.shown {
            return;
        }
        let mut stderr = io::stderr();
        // Nobody may read it any more; how it ends is told by the exit code.
        let _ = if stderr.is_terminal() {
            write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
        self.shown = line;
    }
}

impl Drop for Waiting {
    /// Takes the line in place away.
    fn drop(&mut self) {
        let mut stderr = io::stderr();
        if !self.shown.is_empty() && stderr.is_terminal() {
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
    }
}

/// Sessions that may still be used: what is closing or orphaned is over for its client.
fn live(reply: &FlowsReply) -> u64 {
    let of = |state| reply.states.get(&state).copied().unwrap_or_default();
    of(Standing::Pending) + of(Standing::Established)
}

/// When the sessions left are reset, the first of them. Refused where somebody took the drain back: its
/// sessions would be waited for in vain.
fn still_drained(
    status: &Status,
    vips: &[SocketAddr],
    server: &str,
) -> Result<Option<u64>, Refusal> {
    let mut reset_ms = None;
    let services = status.services.iter().map(|service| &service.view);
    let named = Named::parse(status, server);
    for view in services.filter(|view| vips.contains(&SocketAddr::new(view.vip, view.port))) {
        for found in view.servers.iter().filter(|found| named.is(found)) {
            if found.drained.is_none() {
                return Err(Refusal::of(format!(
                    "{server} is drained no longer in service {}: somebody took that back",
                    view.name
                )));
            }
            reset_ms = [reset_ms, found.reset_ms].into_iter().flatten().min();
        }
    }
    Ok(reset_ms)
}

fn progress(server: &str, look: Look) -> String {
    let reset = match look.reset_ms {
        None => String::new(),
        Some(left) => {
            format!(", reset in {}", words::span(Duration::from_secs(left.div_ceil(1000))))
        }
    };
    format!("{server}: {} left{reset}", sessions(look.left))
}
