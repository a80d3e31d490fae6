//! The history of the cluster, kept in the store under a key of its own: every term that there was, and what led to
//! it. The record knows no wall clock; here stands when a controller saw what. Each controller writes what it has
//! noticed and nobody has written before, so that it does not matter which of them lives.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use pgha_machine::failover::record::{Cause, Degraded, Term};
use pgha_machine::{Epoch, NodeName, Position, Timeline};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::store::{self, ChangeError, Configured, Key, Store as _, StoreError};

/// The key.
pub(in crate::controller) const KEY: &str = "history";
/// The version of what is written. A reader that does not know it leaves it alone.
const FORMAT: u32 = 1;
/// So many terms and incidents are kept.
const TERMS: usize = 1_000;
const INCIDENTS: usize = 256;
/// How long a store that did not take it is left alone, and how much waits for it at most.
const AGAIN: Duration = Duration::from_secs(1);
const WAITING: usize = 256;

/// The history, as it is kept and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The version of this form.
    pub format: u32,
    /// The terms, the oldest first.
    pub terms: Vec<Chapter>,
    /// What happened, the oldest first.
    pub incidents: Vec<Incident>,
}

impl Default for History {
    fn default() -> Self {
        Self { format: FORMAT, terms: Vec::new(), incidents: Vec::new() }
    }
}

/// A term of a primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chapter {
    /// Its epoch.
    pub epoch: Epoch,
    /// The primary.
    pub node: NodeName,
    /// Its timeline.
    pub timeline: Timeline,
    /// Where the log of the term before was left.
    pub fork: Position,
    /// When a controller saw that the primary was promoted: milliseconds since the Unix epoch, by its clock.
    pub at: u64,
    /// Whether it saw that at once; otherwise it was so already when it began.
    pub witnessed: bool,
    /// For how long there was no primary, in milliseconds, as that controller saw it: from the last renewal of the
    /// former lease, or its end, to the promotion.
    pub gap_ms: Option<u64>,
    /// How it came to it; missing for the first.
    pub cause: Option<Cause>,
    /// The times in which `sync` waited for nobody.
    pub degraded: Vec<Degraded>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// When: milliseconds since the Unix epoch, by the clock of the controller that saw it.
    pub at: u64,
    /// That controller.
    pub seen_by: NodeName,
    /// What kind of thing.
    pub kind: IncidentKind,
    /// In which epoch.
    pub epoch: Option<Epoch>,
    /// One sentence.
    pub text: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// An operator's order is carried out.
    Ordered,
    /// An operator's order was declined.
    Declined,
    /// The primary is suspected, and voters stop.
    Frozen,
    /// That is undone.
    Thawed,
    /// Nobody can become the primary.
    Nobody,
    /// A fence device was asked, and what came of it.
    Fenced,
    /// A candidate may take the next epoch.
    Nominated,
    /// There is a new primary.
    Promoted,
}

/// What a controller has noticed.
#[derive(Clone, Debug)]
pub(in crate::controller) enum Noted {
    /// The terms of the record, and of the last: when it was promoted, and for how long nobody was the primary.
    Terms(Vec<Term>, Option<Witnessed>, u64),
    /// Something happened.
    Incident(Incident),
}

/// What was seen of the beginning of a term.
#[derive(Clone, Copy, Debug)]
pub(in crate::controller) struct Witnessed {
    pub(in crate::controller) epoch: Epoch,
    pub(in crate::controller) gap: Option<Duration>,
}

/// The history cannot be read or written now.
#[derive(Debug, thiserror::Error)]
pub(in crate::controller) enum ChronicleError {
    #[error("the history in the store cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error(
        "the history in the store has format {0}, and this pgha knows format {FORMAT}; update pgha here"
    )]
    Newer(u32),
    #[error("the history cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("the history cannot be read: the store gave no answer within {} s", PATIENCE.as_secs())]
    Late,
}

/// How long the store may take to tell the history.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where it is kept.
#[derive(Clone, Debug)]
pub(in crate::controller) struct Place {
    store: Configured,
    key: Key,
}

impl Place {
    pub(in crate::controller) fn of(store: Configured) -> Self {
        Self { store, key: KEY.parse().expect("a key") }
    }
}

/// Writes what is noticed, until it is dropped.
#[derive(Debug)]
pub(in crate::controller) struct Chronicle {
    tell: mpsc::Sender<Noted>,
    task: JoinHandle<()>,
}

impl Chronicle {
    pub(in crate::controller) fn begin(place: Place) -> Self {
        let (tell, told) = mpsc::channel(WAITING);
        Self { tell, task: tokio::spawn(write(place, told)) }
    }

    /// Has it written. Nobody waits for that: where the store has been away for long, the latest is left out.
    pub(in crate::controller) fn note(&self, noted: Noted) {
        if self.tell.try_send(noted).is_err() {
            tracing::warn!(
                "the history waits for the store and has no room: something is left out"
            );
        }
    }
}

impl Drop for Chronicle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The history as it is.
///
/// # Errors
/// When it cannot be known now.
pub(in crate::controller) async fn read(place: &Place) -> Result<History, ChronicleError> {
    let reading = tokio::time::timeout(PATIENCE, place.store.get(&place.key)).await;
    decode(reading.map_err(|_| ChronicleError::Late)??.value.as_deref())
}

async fn write(place: Place, mut told: mpsc::Receiver<Noted>) {
    let mut waiting = VecDeque::new();
    loop {
        match told.recv().await {
            Some(noted) => waiting.push_back(noted),
            None => return,
        }
        while let Ok(noted) = told.try_recv() {
            waiting.push_back(noted);
        }
        let add = |reading: &store::Reading| -> Result<Vec<u8>, ChronicleError> {
            let mut history = decode(reading.value.as_deref())?;
            waiting.iter().for_each(|noted| history.add(noted.clone()));
            Ok(serde_json::to_vec(&history)?)
        };
        match store::change(&place.store, &place.key, add).await {
            Ok(_) => waiting.clear(),
            Err(ChangeError::Unwanted(error)) => {
                tracing::error!("{error}; what happens is not written there");
                waiting.clear();
            }
            Err(error) => {
                tracing::debug!("the history is written later: {error}");
                waiting.truncate(WAITING);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn decode(value: Option<&[u8]>) -> Result<History, ChronicleError> {
    /// Only its version, whatever else there is.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Some(value) = value else { return Ok(History::default()) };
    let Version { format } = serde_json::from_slice(value)?;
    if format != FORMAT {
        return Err(ChronicleError::Newer(format));
    }
    Ok(serde_json::from_slice(value)?)
}

impl History {
    /// Adds what is not there yet. What somebody has written of a term stays; where its log forks, and when it was
    /// degraded, is what the record says last.
    fn add(&mut self, noted: Noted) {
        match noted {
            Noted::Terms(terms, witnessed, at) => {
                for term in terms.into_iter().filter(|term| term.promoted) {
                    let known = self.terms.iter_mut().find(|chapter| chapter.epoch == term.epoch);
                    let seen = witnessed.filter(|seen| seen.epoch == term.epoch);
                    if let Some(known) = known {
                        known.degraded = term.degraded;
                        if let Some(seen) = seen.filter(|_| !known.witnessed) {
                            (known.witnessed, known.at) = (true, at);
                            known.gap_ms = seen.gap.map(super::milliseconds);
                        }
                        continue;
                    }
                    self.terms.push(Chapter {
                        epoch: term.epoch,
                        node: term.node,
                        timeline: term.timeline,
                        fork: term.fork,
                        at,
                        witnessed: seen.is_some(),
                        gap_ms: seen.and_then(|seen| seen.gap).map(super::milliseconds),
                        cause: term.cause,
                        degraded: term.degraded,
                    });
                }
                self.terms.sort_by_key(|chapter| chapter.epoch);
                self.terms.drain(..self.terms.len().saturating_sub(TERMS));
            }
            Noted::Incident(incident) => {
                if !self.incidents.contains(&incident) {
                    self.incidents.push(incident);
                }
                self.incidents.drain(..self.incidents.len().saturating_sub(INCIDENTS));
            }
        }
    }
}
