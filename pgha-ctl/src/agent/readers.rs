//! The reader VIPs on this node's loopback: while it is a reader, and not when it is the primary, but for those of
//! services that it serves, too: those that fall back to it, and that of writers where the directors balance it.
//!
//! What is wanted is put right each second, by the record of what there was before
//! ([`crate::net::realserver`]), so that an agent that ended in between leaves nothing to its successor but to go
//! on. The end of an agent changes nothing: PostgreSQL goes on, and so do its readers.

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use pgha_machine::balancer::{Discovery, Service};
use pgha_machine::failover::agent::Role;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::net::realserver::{self, RealServerError, Report, Step};
use crate::sock_diag::{SockDiag, States};

/// How often it is looked whether they are there.
const LOOK: Duration = Duration::from_secs(1);
/// How long a promotion waits for them to be off. A primary that still has them loses nothing: nobody sends it
/// readers.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is not known yet what PostgreSQL is here: what there is stays.
    Unknown,
    /// All of them.
    Reader,
    /// Those that a primary serves, too.
    Primary,
}

/// What a role means for them; `None`: nothing, for it is on its way to another.
const fn part_of(role: &Role) -> Option<Part> {
    match role {
        Role::Standby { upstream: Some(_) } => Some(Part::Reader),
        Role::Restarted { .. } | Role::Primary => Some(Part::Primary),
        Role::Standby { upstream: None } | Role::Frozen { .. } | Role::Down => None,
    }
}

/// The VIPs by the part that PostgreSQL has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vips {
    /// Whatever PostgreSQL is.
    always: Vec<IpAddr>,
    /// While it is a reader.
    reader: Vec<IpAddr>,
}

impl Vips {
    /// Those of the services.
    pub(super) fn of(services: &[Service]) -> Self {
        let mut vips = Self::default();
        let by_primary = |service: &Service| {
            service.fallback_to_primary || service.discovery == Discovery::Writer
        };
        for service in services {
            let of_vip = |other: &&Service| other.vip == service.vip;
            let always = services.iter().filter(of_vip).any(by_primary);
            let list = if always { &mut vips.always } else { &mut vips.reader };
            if !list.contains(&service.vip) {
                list.push(service.vip);
            }
        }
        vips
    }

    fn wanted(&self, part: Part) -> Vec<IpAddr> {
        let reader = self.reader.iter().filter(|_| part == Part::Reader);
        self.always.iter().chain(reader).copied().collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    part: Part,
    turn: u64,
}

/// What is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Those that were seen.
    here: Vec<IpAddr>,
    /// They were put right since that was ordered for that time.
    turn: u64,
    trouble: Option<String>,
}

/// The reader VIPs of this node.
#[derive(Debug)]
pub(super) struct Readers {
    wanted: watch::Sender<Wanted>,
    known: watch::Receiver<Known>,
    task: JoinHandle<()>,
}

impl Readers {
    /// Begins to look after them. What there was before is recorded in `state`, a directory that vanishes with a
    /// restart of the machine, as the addresses do.
    pub(super) fn new(vips: Vips, state: PathBuf) -> Self {
        let (wanted, wants) = watch::channel(Wanted { part: Part::Unknown, turn: 0 });
        let (tell, known) = watch::channel(Known::default());
        let keeping = Keeping { vips, state, wants, tell, known: Known::default() };
        Self { wanted, known, task: tokio::spawn(keeping.run()) }
    }

    /// PostgreSQL is that.
    pub(super) fn role(&self, role: &Role) {
        let Some(part) = part_of(role) else { return };
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.part != part;
            wanted.part = part;
            changed
        });
    }

    /// PostgreSQL is about to leave recovery: those of readers come off, and it is waited for that for a while.
    pub(super) async fn leave(&self) {
        let mut turn = 0;
        self.wanted.send_modify(|wanted| {
            *wanted = Wanted { part: Part::Primary, turn: wanted.turn + 1 };
            turn = wanted.turn;
        });
        let mut known = self.known.clone();
        let off = known.wait_for(|known| known.turn >= turn);
        if !matches!(tokio::time::timeout(PATIENCE, off).await, Ok(Ok(_))) {
            let why = self.trouble().unwrap_or_else(|| "the kernel has not answered".to_owned());
            tracing::warn!("the reader VIPs are not off lo yet, and the promotion goes on: {why}");
        }
    }

    /// Those that this node has.
    pub(super) fn here(&self) -> Vec<IpAddr> {
        self.known.borrow().here.clone()
    }

    /// What keeps them from being as they should.
    pub(super) fn trouble(&self) -> Option<String> {
        self.known.borrow().trouble.clone()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task.
struct Keeping {
    vips: Vips,
    state: PathBuf,
    wants: watch::Receiver<Wanted>,
    tell: watch::Sender<Known>,
    known: Known,
}

impl Keeping {
    async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.wants.changed() => if changed.is_err() {
                    return;
                },
                _ = looks.tick() => {}
            }
            let Wanted { part, turn } = *self.wants.borrow_and_update();
            let trouble = match self.put_right(part).await {
                Ok(here) => {
                    let left = self.left(&here, part);
                    self.known = Known { here, turn, trouble: self.known.trouble.take() };
                    left
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(text) =
                trouble.as_ref().filter(|text| self.known.trouble.as_ref() != Some(*text))
            {
                tracing::warn!("the reader VIPs: {text}");
            }
            self.known.trouble = trouble;
            self.tell.send_if_modified(|told| {
                let changed = *told != self.known;
                told.clone_from(&self.known);
                changed
            });
        }
    }

    /// Makes them as they are wanted; those that are there then.
    async fn put_right(&self, part: Part) -> Result<Vec<IpAddr>, RealServerError> {
        let (all, wanted) = (self.vips.wanted(Part::Reader), self.vips.wanted(part));
        if part != Part::Unknown {
            let mut surplus = realserver::recorded(&self.state)?;
            surplus.retain(|vip| !wanted.contains(vip));
            if !surplus.is_empty() {
                end_sessions(&surplus);
                told(&realserver::undo_but(&wanted, &self.state).await?);
            }
        }
        let seen = realserver::look(&wanted).await?;
        let ready = seen.vips.iter().all(|seen| seen.on_loopback)
            && seen.sysctls.iter().all(|sysctl| sysctl.enough);
        if !ready {
            told(&realserver::setup(&wanted, &self.state).await?);
        }
        let seen = realserver::look(&all).await?.vips;
        Ok(seen.into_iter().filter(|seen| seen.on_loopback).map(|seen| seen.vip).collect())
    }

    /// Those that are there although they should not be: what this agent has not put there it does not take off.
    fn left(&self, here: &[IpAddr], part: Part) -> Option<String> {
        let wanted = self.vips.wanted(part);
        let left = here.iter().filter(|vip| part == Part::Primary && !wanted.contains(vip));
        let left: Vec<_> = left.map(IpAddr::to_string).collect();
        (!left.is_empty()).then(|| {
            format!(
                "{} stays on lo of the primary, where somebody else put it; take it off",
                left.join(", ")
            )
        })
    }
}

/// Tells what was changed.
fn told(report: &Report) {
    for step in report.steps() {
        let is_as_it_was = matches!(
            step,
            Step::AddressKept(_) | Step::SysctlKept { .. } | Step::NothingToUndo { .. }
        );
        if !is_as_it_was {
            tracing::info!("reader VIPs: {step}");
        }
    }
}

/// Resets the connections to these VIPs: without the address neither side would hear of the other any more.
fn end_sessions(vips: &[IpAddr]) {
    match reset(vips) {
        Ok(0) => {}
        Ok(count) => tracing::info!("{count} sessions of readers are reset"),
        Err(error) => tracing::warn!(
            "sessions of readers cannot be reset, and wait for their own timeouts: {error}"
        ),
    }
}

fn reset(vips: &[IpAddr]) -> io::Result<usize> {
    let kernel = SockDiag::open()?;
    let mut ended = 0;
    for socket in kernel.all(States::CONNECTED)? {
        if vips.contains(&socket.local().ip()) && kernel.destroy(&socket)? {
            ended += 1;
        }
    }
    Ok(ended)
}
