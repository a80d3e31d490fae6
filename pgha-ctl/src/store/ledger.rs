//! The record of a managed cluster: one key, in whichever store.

#[cfg(test)]
mod tests;

use std::time::Duration;

use pgha_machine::Mark;
use pgha_machine::failover::message::Reading;
use pgha_machine::failover::record::Record;
use pgha_machine::failover::timing::Timings;
use pgha_machine::failover::{Answer, Request, Written};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::record::{self, Incarnation, Key};
use super::{CasError, Store, StoreError};

/// The key.
pub const KEY: &str = "failover";
/// The version of what is written. A reader that does not know it leaves the record alone.
const FORMAT: u32 = 1;
/// How long a watch that failed is left alone.
const WATCH_AGAIN: Duration = Duration::from_millis(200);

/// The record as it is kept: JSON, so that a person can read it too.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    record: Record,
}

/// Only its version, whatever else there is.
#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON, or lacks something.
    #[error("the record {KEY:?} in the store cannot be read: {0}; restore the store from a backup")]
    Unreadable(#[from] serde_json::Error),
    /// Of a newer pgha.
    #[error(
        "the record {KEY:?} in the store has format {0}, and this pgha knows format {FORMAT}; update pgha here"
    )]
    Newer(u32),
}

/// The record cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It gave no answer.
    #[error("the store gave no answer within {0:?}")]
    Late(Duration),
}

/// How long an answer may take that a lease depends on. A store that gives none is gone: then a member that is
/// asked has to find the same, and to answer, before the lease is dropped (S8).
#[must_use]
pub fn patience(lease: Timings) -> Duration {
    lease.longest_request() / 3
}

/// The record, for one who reads and writes it.
#[derive(Clone, Debug)]
pub struct Ledger<S> {
    store: S,
    key: Key,
    patience: Duration,
}

impl<S: Store + Clone> Ledger<S> {
    /// The record in `store`, which is given `patience` for each answer.
    ///
    /// # Panics
    /// Never: [`KEY`] is a key.
    #[must_use]
    pub fn new(store: S, patience: Duration) -> Self {
        Self { store, key: KEY.parse().expect("a key"), patience }
    }

    /// Does what a machine asks for; and what went wrong, for the log.
    pub async fn ask(&self, request: Request) -> (Answer, Option<LedgerError>) {
        match request {
            Request::Read => match self.read().await {
                Ok(reading) => (Answer::Read(Some(reading)), None),
                Err(error) => (Answer::Read(None), Some(error)),
            },
            Request::Put { expected, record } => {
                let (written, error) = self.put(expected, &record).await;
                (Answer::Written(written), error)
            }
        }
    }

    /// Does what a machine asks for beside its loop, and tells the answer as `event` has it: once, whatever
    /// becomes of the store.
    pub fn ask_beside<E: Send + 'static>(
        &self,
        request: Request,
        tell: mpsc::Sender<E>,
        event: fn(Answer) -> E,
    ) {
        let ledger = self.clone();
        tokio::spawn(async move {
            let (answer, trouble) = ledger.ask(request).await;
            if let Some(trouble) = trouble {
                tracing::debug!("the store: {trouble}");
            }
            let _ = tell.send(event(answer)).await;
        });
    }

    /// The record as it is.
    ///
    /// # Errors
    /// When it cannot be known now.
    pub async fn read(&self) -> Result<Reading, LedgerError> {
        let reading = tokio::time::timeout(self.patience, self.store.get(&self.key)).await;
        reading_of(&reading.map_err(|_| LedgerError::Late(self.patience))??)
    }

    /// Puts `record` where what was read as `expected` still is; and what went wrong. A write without an answer
    /// may come yet.
    pub async fn put(&self, expected: Mark, record: &Record) -> (Written, Option<LedgerError>) {
        let value = match encode(record) {
            Ok(value) => value,
            Err(error) => return (Written::Failed, Some(RecordError::from(error).into())),
        };
        let put = self.store.cas(&self.key, to_store(expected), value);
        match tokio::time::timeout(self.patience, put).await {
            Ok(Ok(mark)) => (Written::Done(mark.revision), None),
            Ok(Err(CasError::Conflict(_))) => (Written::Conflict, None),
            Ok(Err(CasError::Failed(error))) => (Written::Failed, Some(error.into())),
            Ok(Err(CasError::Unknown(error))) => (Written::Unknown, Some(error.into())),
            Err(_) => (Written::Unknown, Some(LedgerError::Late(self.patience))),
        }
    }

    /// Tells each change of the record as soon as the store does, as `event` has it, until nobody listens.
    pub async fn follow<E>(&self, tell: mpsc::Sender<E>, event: impl Fn(Answer) -> E) {
        let mut seen = None;
        loop {
            let news = match seen {
                Some(seen) => self.watch(seen).await,
                None => self.read().await,
            };
            match news {
                Ok(reading) => {
                    seen = Some(reading.mark);
                    if tell.send(event(Answer::Changed(reading))).await.is_err() {
                        return;
                    }
                }
                Err(trouble) => {
                    tracing::debug!("the record is not watched: {trouble}");
                    seen = None;
                    tokio::time::sleep(WATCH_AGAIN).await;
                }
            }
        }
    }

    /// Waits until the record is another than what was read as `seen`.
    ///
    /// # Errors
    /// When the store cannot be watched now.
    pub async fn watch(&self, seen: Mark) -> Result<Reading, LedgerError> {
        reading_of(&self.store.watch(&self.key, to_store(seen)).await?)
    }
}

fn encode(record: &Record) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Kept { format: FORMAT, record: record.clone() })
}

fn decode(value: &[u8]) -> Result<Record, RecordError> {
    let Version { format } = serde_json::from_slice(value)?;
    if format != FORMAT {
        return Err(RecordError::Newer(format));
    }
    Ok(serde_json::from_slice::<Kept>(value)?.record)
}

fn reading_of(reading: &record::Reading) -> Result<Reading, LedgerError> {
    let record = reading.value.as_deref().map(decode).transpose()?;
    Ok(Reading { mark: to_machine(reading.mark), record: record.map(Box::new) })
}

const fn to_machine(mark: record::Mark) -> Mark {
    let incarnation = u128::from_be_bytes(*mark.incarnation.bytes());
    Mark { incarnation, revision: mark.revision }
}

const fn to_store(mark: Mark) -> record::Mark {
    let incarnation = Incarnation::from_bytes(mark.incarnation.to_be_bytes());
    record::Mark { incarnation, revision: mark.revision }
}
