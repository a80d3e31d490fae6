//! The controller's hold on the store in which orders are kept: what it holds, whether it can be used, and the
//! changes that are under way.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgha_machine::NodeName;
use pgha_machine::balancer::{OrderChange, Orders};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::events::{Happening, Kind};
use super::status::{OrderReply, ReaderReply, Refusal, StoreStatus};
use crate::config::StorePlace;
use crate::store::{
    CasError, ChangeError, Configured, EtcdError, Key, LocalError, Mark, Reading, Store as _,
    StoreError, change,
};

/// The key of the record.
pub(super) const KEY: &str = "orders";
/// Number of the record's form. One of another form is left alone: a newer pgha knows more.
const FORM: u32 = 1;
/// How long the store has to answer: then a start goes on with what the data plane remembers, who ordered
/// something hears so, and people are told.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a store that cannot be read is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is seen that the store is still there.
const TEND: Duration = Duration::from_secs(10);

pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// The record.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    form: u32,
    orders: Orders,
}

/// A record that is none of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("the record {KEY} of the store cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error(
        "the record {KEY} of the store has form {0}, and this pgha knows form {FORM}; use a newer one"
    )]
    Form(u32),
}

pub(super) fn decode(value: &[u8]) -> Result<Orders, RecordError> {
    #[derive(Deserialize)]
    struct Form {
        form: u32,
    }
    let Form { form } = serde_json::from_slice(value)?;
    if form != FORM {
        return Err(RecordError::Form(form));
    }
    let Record { orders, .. } = serde_json::from_slice(value)?;
    Ok(orders)
}

fn encode(orders: Orders) -> Result<Vec<u8>, RecordError> {
    Ok(serde_json::to_vec(&Record { form: FORM, orders })?)
}

/// What happened to the store.
#[derive(Debug)]
pub(super) enum Kept {
    /// This is what it holds.
    Read(Reading),
    /// It is there and can be written. Its file may have been put back, which somebody had removed.
    Answers { put_back: bool },
    /// It cannot be used.
    Failed(String),
    /// A change ended.
    Changed(Result<Reading, NotKept>, Wanted),
}

/// A change that is not in the store, as far as is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotKept {
    /// The store is well, but does not take this.
    #[error("not kept, so not in force: {0}")]
    Refused(String),
    /// The store cannot be used.
    #[error("not kept, so not in force: {0}")]
    Failed(String),
    /// The store cannot be used, and may have the change all the same.
    #[error("perhaps not kept; it may come into force yet, see `pgha status`: {0}")]
    Unknown(String),
}

impl NotKept {
    /// Why the store cannot be used, if so.
    pub(super) fn trouble(&self) -> Option<&str> {
        match self {
            Self::Refused(_) => None,
            Self::Failed(error) | Self::Unknown(error) => Some(error),
        }
    }
}

impl From<ChangeError<RecordError>> for NotKept {
    fn from(error: ChangeError<RecordError>) -> Self {
        let text = error.to_string();
        match error {
            // The store answered.
            ChangeError::Crowded
            | ChangeError::Store(
                CasError::Conflict(_)
                | CasError::Failed(
                    StoreError::Local(LocalError::Full { .. } | LocalError::TooLong(_))
                    | StoreError::Etcd(EtcdError::TooLong(_)),
                ),
            ) => Self::Refused(text),
            ChangeError::Unwanted(_) | ChangeError::Store(CasError::Failed(_)) => {
                Self::Failed(text)
            }
            ChangeError::Store(CasError::Unknown(_)) => Self::Unknown(text),
        }
    }
}

/// Changes that belong together.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) changes: Vec<OrderChange>,
    /// Who wants them.
    pub(super) by: String,
    pub(super) asked: Asked,
}

/// Who waits for a change.
#[derive(Debug)]
pub(super) enum Asked {
    /// Nobody: what the data plane remembers was taken over.
    Import,
    /// An operator, for servers of these services.
    Order(Vec<(IpAddr, u16)>, Reply<OrderReply>),
    /// An operator, for a reader.
    Reader(Reply<ReaderReply>),
}

/// The controller's hold on the store.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) store: Configured,
    pub(super) place: StorePlace,
    pub(super) key: Key,
    /// What was taken in last.
    pub(super) taken: Option<Mark>,
    /// The record as it was last read is none of ours.
    pub(super) foreign: bool,
    /// The store is empty, and did not take what the data plane remembers: it is asked to again.
    pub(super) unimported: bool,
    /// People were told of that.
    pub(super) unimported_told: bool,
    /// What is being written.
    under_way: Vec<OrderChange>,
    /// Why the store cannot be used, and since when.
    trouble: Option<(String, SystemTime)>,
    tell: mpsc::Sender<Kept>,
    told: mpsc::Receiver<Kept>,
    watching: Option<JoinHandle<()>>,
}

impl Book {
    pub(super) fn new(place: &StorePlace, cluster: &NodeName) -> Self {
        let (tell, told) = mpsc::channel(16);
        let key = KEY.parse().expect("a constant that is a key");
        Self {
            store: Configured::new(place, cluster),
            place: place.clone(),
            key,
            taken: None,
            foreign: false,
            unimported: false,
            unimported_told: false,
            under_way: Vec::new(),
            trouble: None,
            tell,
            told,
            watching: None,
        }
    }

    /// The store itself, for the API.
    pub(super) fn store(&self) -> Configured {
        self.store.clone()
    }

    /// What happens next to the store.
    pub(super) async fn next(&mut self) -> Option<Kept> {
        self.told.recv().await
    }

    /// Follows the record from here on.
    pub(super) fn follow(&mut self) {
        let (store, key, tell) = (self.store.clone(), self.key.clone(), self.tell.clone());
        let place = self.place.clone();
        self.watching = Some(tokio::spawn(follow(store, place, key, self.taken, tell)));
    }

    /// Writes changes of the orders that the store holds, or of those given where it holds none.
    pub(super) fn change(&mut self, base: Orders, wanted: Wanted) {
        self.under_way.extend_from_slice(&wanted.changes);
        let (store, key, tell) = (self.store.clone(), self.key.clone(), self.tell.clone());
        let place = self.place.clone();
        let at = seconds(SystemTime::now());
        // Beside the loop, which waits for no disk.
        tokio::spawn(async move {
            let mut writes = false;
            let changed = change(&store, &key, |found| {
                let mut orders = found.value.as_deref().map_or_else(|| Ok(base.clone()), decode)?;
                wanted.changes.iter().for_each(|change| orders.change(change, &wanted.by, at));
                writes = true;
                encode(orders)
            });
            let ended = timeout(PATIENCE, changed).await;
            let changed = match ended {
                Ok(changed) => changed.map_err(NotKept::from),
                Err(_) if writes => Err(NotKept::Unknown(hangs(&place))),
                // It was not even read.
                Err(_) => Err(NotKept::Failed(hangs(&place))),
            };
            let _ = tell.send(Kept::Changed(changed, wanted)).await;
        });
    }

    /// Whether this very controller writes that change just now.
    pub(super) fn is_under_way(&self, change: &OrderChange) -> bool {
        self.under_way.contains(change)
    }

    /// Those changes are written, or could not be.
    pub(super) fn over(&mut self, changes: &[OrderChange]) {
        for change in changes {
            if let Some(index) = self.under_way.iter().position(|one| one == change) {
                self.under_way.swap_remove(index);
            }
        }
    }

    /// It cannot be used. What people are told, if it could be used before: in one outage texts alternate, and the
    /// latest is in the status.
    #[must_use]
    pub(super) fn failed(&mut self, error: String) -> Option<Happening> {
        let new = self.trouble.is_none();
        let text = format!("orders are neither read nor taken; those that are known stay: {error}");
        let since = self.trouble.take().map_or_else(SystemTime::now, |(_, since)| since);
        self.trouble = Some((error, since));
        new.then(|| Happening::warning(Kind::StoreFailed, text))
    }

    /// It can be used. What people are told, if it could not before.
    #[must_use]
    pub(super) fn answers(&mut self) -> Option<Happening> {
        self.trouble.take().map(|_| {
            Happening::info(Kind::StoreAnswers, "the store answers; orders are read and taken")
        })
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            kind: self.place.kind().to_owned(),
            path: self.place.path().to_owned(),
            shared: matches!(self.place, StorePlace::Etcd(_)),
            endpoints: self.place.endpoints().iter().map(ToString::to_string).collect(),
            incarnation: self.taken.map(|mark| mark.incarnation.to_string()),
            revision: self.taken.map(|mark| mark.revision),
            answers: self.trouble.is_none(),
            error: self.trouble.as_ref().map(|(error, _)| error.clone()),
            stale_since: self.trouble.as_ref().map(|(_, since)| seconds(*since)),
        }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        if let Some(task) = &self.watching {
            task.abort();
        }
    }
}

/// Tells what the store holds whenever that is something else, and how the store is.
async fn follow(
    store: Configured,
    place: StorePlace,
    key: Key,
    mut seen: Option<Mark>,
    tell: mpsc::Sender<Kept>,
) {
    let mut tend = super::every(TEND);
    loop {
        let reading = async {
            match seen {
                Some(mark) => store.watch(&key, mark).await,
                None => answered(store.get(&key), &place, &tell).await,
            }
        };
        let kept = tokio::select! {
            reading = reading => match reading {
                Ok(reading) => {
                    seen = Some(reading.mark);
                    Kept::Read(reading)
                }
                Err(error) => {
                    tokio::time::sleep(AGAIN).await;
                    Kept::Failed(error.to_string())
                }
            },
            _ = tend.tick() => match answered(store.tend(), &place, &tell).await {
                Ok(put_back) => Kept::Answers { put_back },
                Err(error) => Kept::Failed(error.to_string()),
            },
        };
        if tell.send(kept).await.is_err() {
            return;
        }
    }
}

/// The answer, however late; people are told when it is.
async fn answered<T>(
    question: impl Future<Output = T>,
    place: &StorePlace,
    tell: &mpsc::Sender<Kept>,
) -> T {
    let mut question = pin!(question);
    if let Ok(answer) = timeout(PATIENCE, &mut question).await {
        return answer;
    }
    let _ = tell.send(Kept::Failed(hangs(place))).await;
    question.await
}

pub(super) fn hangs(place: &StorePlace) -> String {
    let see = match place {
        StorePlace::Local(_) => "its disk is well",
        StorePlace::Etcd(_) => "most of its members run and reach each other",
    };
    format!("the store {place} did not answer within {} s; see that {see}", PATIENCE.as_secs())
}

pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
