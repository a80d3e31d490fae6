//! A store in an etcd, version 3.4 or later, by its JSON gateway.
//!
//! Every record is a key below `/pgha/<cluster>/`; its revision is etcd's `mod_revision`. Beside the records
//! lies the incarnation: which cluster of etcd it is, and a number that was drawn when it was first used. It is
//! read with every read and compared with every write, in the same transaction, so that what was read from one
//! store is never written to another.
//!
//! Reads are linearizable, always: a member without a quorum gives no answer, and another one is asked. A
//! write that may have been carried out is never sent again; whoever wanted it reads back.

mod error;
mod health;
mod member;
mod seen;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use pgha_machine::NodeName;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

pub use error::{Code, EtcdError};
pub use health::{Health, MemberHealth, Told};

use self::member::Member;
use self::seen::Seen;
use self::wire::{Header, HeaderAnswer, Record, Token, TxnAnswer};
use super::exchange::Failure;
use super::local::blocking;
use super::record::{Incarnation, Key, MAX_VALUE, Mark, Reading, Revision};
use super::{CasError, Store, StoreError};
use crate::config;

/// How long an answer is looked for, at one member after the other. Less than whoever orders something waits, who
/// hears then that it was never sent.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two rounds of all members.
const PAUSE: Duration = Duration::from_millis(50);
/// A watcher that hears nothing for so long reads: the member it listens to may be cut off and not know.
const QUIET: Duration = Duration::from_secs(2);
/// How often a store is made anew before somebody else must be doing the same.
const ATTEMPTS: usize = 5;

/// A store in an etcd.
#[derive(Clone, Debug)]
pub struct Etcd {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: config::Etcd,
    members: Vec<Member>,
    /// Who is asked first: who answered last.
    first: AtomicUsize,
    /// Which cluster of etcd this process began with: where it found a store, or had one made.
    cluster: OnceLock<u64>,
    /// How many watches in a row could not be had.
    unwatched: AtomicU32,
    seen: Seen,
    token: Mutex<Option<HeaderValue>>,
    prefix: String,
}

/// Whether a request may be sent again where no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    Read,
    Write,
}

/// An answer, and who gave it.
#[derive(Debug)]
struct Answer<'s> {
    member: &'s Member,
    body: Bytes,
}

/// What a transaction found.
#[derive(Debug)]
struct Found {
    header: Header,
    incarnation: Option<Incarnation>,
    /// Of the record that holds the incarnation, of whatever cluster.
    incarnation_at: Revision,
    record: Option<Record>,
}

impl Etcd {
    /// The records of that cluster of PostgreSQL in that etcd. Nothing is connected yet.
    #[must_use]
    pub fn new(settings: &config::Etcd, cluster: &NodeName) -> Self {
        let member = |at: &config::Endpoint| {
            Member::new(at.clone(), settings.tls().cloned(), settings.timeout())
        };
        let shared = Shared {
            members: settings.endpoints().iter().map(member).collect(),
            first: AtomicUsize::new(0),
            cluster: OnceLock::new(),
            unwatched: AtomicU32::new(0),
            seen: Seen::new(settings.seen()),
            token: Mutex::default(),
            prefix: format!("/pgha/{cluster}/"),
            settings: settings.clone(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sees that the store would take a write, for which it needs space and this user permission, and has this node
    /// remember how far it has come. Nothing is written there.
    ///
    /// # Errors
    /// When it would not, or that cannot be remembered.
    pub async fn tend(&self) -> Result<(), StoreError> {
        self.shared.read_by(&self.shared.tend_request()).await?;
        let shared = Arc::clone(&self.shared);
        Ok(blocking(move || shared.seen.write()).await.map_err(StoreError::from)??)
    }
}

impl Store for Etcd {
    async fn get(&self, key: &Key) -> Result<Reading, StoreError> {
        Ok(self.shared.read(key).await?.0)
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        if value.len() > MAX_VALUE {
            return Err(CasError::Failed(EtcdError::TooLong(value.len()).into()));
        }
        self.shared.cas(key, expected, &value).await
    }

    async fn watch(&self, key: &Key, seen: Mark) -> Result<Reading, StoreError> {
        loop {
            let (reading, revision) = self.shared.read(key).await?;
            if reading.mark != seen {
                return Ok(reading);
            }
            self.shared.wait(key, revision + 1).await;
        }
    }
}

impl Shared {
    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// No key can be this one.
    fn incarnation_path(&self) -> String {
        format!("{}.incarnation", self.prefix)
    }

    /// For a key that no record can have.
    fn tend_request(&self) -> Bytes {
        wire::could_replace(&self.incarnation_path(), &format!("{}.tend", self.prefix))
    }

    /// Reads a record, and how many changes the whole store had seen.
    async fn read(&self, key: &Key) -> Result<(Reading, Revision), EtcdError> {
        self.read_by(&wire::read(&self.incarnation_path(), &self.path(key))).await
    }

    /// The same, by a request that reads the incarnation and a record.
    async fn read_by(&self, request: &Bytes) -> Result<(Reading, Revision), EtcdError> {
        for _ in 0..ATTEMPTS {
            let floor = self.seen.highest()?;
            let believe = |answer: &Answer<'_>| {
                let told = answer.read().and_then(|told| self.found(answer, told, floor));
                told.map_err(Failure::Unsent)
            };
            let found = self.ask(Intent::Read, wire::TXN, request, believe).await;
            let found = found.map_err(Failure::error)?;
            if let Some(incarnation) = found.incarnation {
                let revision = found.header.revision;
                return Ok((reading(incarnation, found.record), revision));
            }
            // It may be of a wrong endpoint, which is passed over from here on.
            if self.settled().await? == found.header.cluster_id {
                self.incarnate(found.header.cluster_id, found.incarnation_at).await?;
            }
        }
        Err(EtcdError::Contested)
    }

    async fn cas(&self, key: &Key, expected: Mark, value: &[u8]) -> Result<Mark, CasError> {
        let failed = |error: EtcdError| CasError::Failed(error.into());
        let unknown = |error: EtcdError| CasError::Unknown(error.into());
        // More than etcd ever counts to: something else is there for certain.
        if i64::try_from(expected.revision).is_err() {
            return Err(CasError::Conflict(self.read(key).await.map_err(failed)?.0.mark));
        }
        let floor = self.seen.highest().map_err(failed)?;
        let incarnation = self.incarnation_path();
        let request = wire::replace(
            (&incarnation, expected.incarnation.bytes()),
            (&self.path(key), expected.revision),
            value,
        );
        let believe = |answer: &Answer<'_>| {
            let told: TxnAnswer = answer.read().map_err(Failure::Sent)?;
            if told.succeeded {
                let header = told.header;
                self.judge(answer, header, expected.incarnation, floor).map_err(Failure::Sent)?;
                return Ok(Ok(Mark { revision: header.revision, ..expected }));
            }
            // It put nothing.
            self.found(answer, told, floor).map(Err).map_err(Failure::Unsent)
        };
        let found = match self.ask(Intent::Write, wire::TXN, &request, believe).await {
            Ok(Ok(mark)) => return Ok(mark),
            Ok(Err(found)) => found,
            Err(Failure::Unsent(error)) => return Err(failed(error)),
            Err(Failure::Sent(error)) => return Err(unknown(error)),
        };
        let mark = match found.incarnation {
            Some(incarnation) => reading(incarnation, found.record).mark,
            None => self.read(key).await.map_err(failed)?.0.mark,
        };
        Err(CasError::Conflict(mark))
    }

    /// Returns when a key may have changed since that revision. That is a hint: whoever waits reads then.
    async fn wait(&self, key: &Key, from: Revision) {
        let request = wire::follow(&self.path(key), from);
        let first = self.first.load(Ordering::Relaxed);
        let member = &self.members[first];
        let waited = async {
            let token = self.token(member, self.turn()).await.map_err(Failure::error)?;
            member.follow(&request, token.as_ref(), QUIET).await
        };
        let Err(error) = waited.await else {
            self.unwatched.store(0, Ordering::Relaxed);
            return;
        };
        let before = self.unwatched.fetch_add(1, Ordering::Relaxed);
        // One that goes is no news; that no other can be watched is.
        if usize::try_from(before).is_ok_and(|before| before == self.members.len()) {
            tracing::warn!(
                "no member of etcd can be watched, so changes of others are seen late: {error}"
            );
        } else {
            tracing::debug!("watching {key}: {error}");
        }
        self.leave(first);
        sleep(PAUSE.saturating_mul(1 << before.min(16)).min(QUIET)).await;
    }

    /// Which cluster of etcd is the one, where no answer has held a store yet: the one of most endpoints.
    async fn settled(&self) -> Result<u64, EtcdError> {
        if let Some(known) = self.cluster.get() {
            return Ok(*known);
        }
        let look = wire::look(&self.incarnation_path());
        let ask = |member| self.asked::<HeaderAnswer>(member, wire::RANGE, &look);
        let mut votes = BTreeMap::new();
        for answer in join_all(self.members.iter().map(ask)).await.into_iter().flatten() {
            *votes.entry(answer.header.cluster_id).or_insert(0_usize) += 1;
        }
        let of = self.members.len();
        let most = votes.iter().max_by_key(|(_, votes)| **votes);
        let agree = most.map_or(0, |(_, votes)| *votes);
        match most {
            Some((cluster, _)) if agree * 2 > of => Ok(*self.cluster.get_or_init(|| *cluster)),
            _ => Err(EtcdError::NotMost { agree, of }),
        }
    }

    /// Makes the store one of this cluster of etcd: an empty one, or one that was restored in another.
    async fn incarnate(&self, cluster: u64, at: Revision) -> Result<(), EtcdError> {
        let mut bytes = [0; 16];
        let (id, drawn) = bytes.split_at_mut(8);
        id.copy_from_slice(&cluster.to_be_bytes());
        SystemRandom::new().fill(drawn).map_err(|_| EtcdError::Random)?;
        let request = wire::put_over(&self.incarnation_path(), at, &bytes);
        let believe = |answer: &Answer<'_>| {
            let HeaderAnswer { header } = answer.read().map_err(Failure::Sent)?;
            self.same_cluster(answer, header).map_err(Failure::Sent)
        };
        match self.ask(Intent::Write, wire::TXN, &request, believe).await {
            // Whether by this or by another process: it is read next.
            Ok(()) | Err(Failure::Sent(_)) => Ok(()),
            Err(Failure::Unsent(error)) => Err(error),
        }
    }

    /// What a transaction that reads both found, if it can be believed.
    fn found(
        &self,
        answer: &Answer<'_>,
        told: TxnAnswer,
        floor: Option<Mark>,
    ) -> Result<Found, EtcdError> {
        let header = told.header;
        let [incarnation, record] =
            told.both().ok_or_else(|| answer.unreadable(&"it lacks what was asked for"))?;
        let incarnation_at = incarnation.as_ref().map_or(0, |record| record.mod_revision);
        let bytes = incarnation.and_then(|record| record.value.try_into().ok());
        // What was restored in another cluster of etcd goes on apart from the one it was taken of.
        let incarnation = bytes
            .filter(|bytes: &[u8; 16]| bytes.starts_with(&header.cluster_id.to_be_bytes()))
            .map(Incarnation::from_bytes);
        match incarnation {
            Some(incarnation) => self.judge(answer, header, incarnation, floor)?,
            None => self.same_cluster(answer, header)?,
        }
        Ok(Found { header, incarnation, incarnation_at, record })
    }

    /// Whether an answer is of the store of before, and not of its past.
    fn judge(
        &self,
        answer: &Answer<'_>,
        header: Header,
        incarnation: Incarnation,
        floor: Option<Mark>,
    ) -> Result<(), EtcdError> {
        // Where a store is, this process stays.
        self.cluster.get_or_init(|| header.cluster_id);
        self.same_cluster(answer, header)?;
        let found = Mark { incarnation, revision: header.revision };
        if let Some(known) = floor
            && known.incarnation == incarnation
            && known.is_after(found)
        {
            return Err(EtcdError::WentBack {
                at: answer.member.at().clone(),
                found: found.revision,
                known: known.revision,
                seen: self.seen.path().to_owned(),
            });
        }
        self.seen.note(found);
        Ok(())
    }

    fn same_cluster(&self, answer: &Answer<'_>, header: Header) -> Result<(), EtcdError> {
        match (self.cluster.get(), header.cluster_id) {
            (Some(&known), found) if known != found => {
                Err(EtcdError::OtherCluster { at: answer.member.at().clone(), found, known })
            }
            _ => Ok(()),
        }
    }

    /// Asks one member after the other until the answer of one is believed, for as long as that may help.
    async fn ask<T>(
        &self,
        intent: Intent,
        path: &'static str,
        request: &Bytes,
        believe: impl Fn(&Answer<'_>) -> Result<T, Failure<EtcdError>>,
    ) -> Result<T, Failure<EtcdError>> {
        let until = Instant::now() + PATIENCE;
        let mut wrong = None;
        loop {
            let first = self.first.load(Ordering::Relaxed);
            let mut last = None;
            for turn in 0..self.members.len() {
                let index = (first + turn) % self.members.len();
                let answer = self.ask_one(&self.members[index], path, request, until).await;
                let failure = match answer.and_then(|answer| believe(&answer)) {
                    Ok(told) => return Ok(told),
                    Err(failure) => failure,
                };
                self.leave(index);
                match failure {
                    Failure::Unsent(error) if error.is_refusal() => {
                        return Err(Failure::Unsent(error));
                    }
                    Failure::Sent(_) if intent == Intent::Write => return Err(failure),
                    Failure::Unsent(error) | Failure::Sent(error) => {
                        let kind = if error.is_of_another_store() { &mut wrong } else { &mut last };
                        *kind = Some(error);
                    }
                }
                if Instant::now() >= until {
                    break;
                }
            }
            // Who is of another store stays so; who is silent may speak yet.
            let over = last.is_none() || Instant::now() + PAUSE >= until;
            // A wrong member says more than a silent one.
            match wrong.take().or(last) {
                Some(error) if over => return Err(Failure::Unsent(error)),
                error => wrong = error.filter(EtcdError::is_of_another_store),
            }
            sleep(PAUSE).await;
        }
    }

    /// When the turn of a member that is asked now is over.
    fn turn(&self) -> Instant {
        Instant::now() + self.settings.timeout()
    }

    /// Asks one member, with a new login where the former one is no longer good. All of that is one turn, and over
    /// by `until`.
    async fn ask_one<'s>(
        &'s self,
        member: &'s Member,
        path: &'static str,
        request: &Bytes,
        until: Instant,
    ) -> Result<Answer<'s>, Failure<EtcdError>> {
        let until = until.min(self.turn());
        let left = || until.saturating_duration_since(Instant::now());
        let answer = |body| Answer { member, body };
        let token = self.token(member, until).await?;
        match member.ask(path, request, token.as_ref(), left()).await {
            Err(Failure::Unsent(EtcdError::Refused { code, .. }))
                if token.is_some() && code.may_be_stale() =>
            {
                *self.token.lock().await = None;
                let token = self.token(member, until).await?;
                member.ask(path, request, token.as_ref(), left()).await.map(answer)
            }
            answered => answered.map(answer),
        }
    }

    /// What proves to members who is asking; `None` where nobody is to log in.
    async fn token(
        &self,
        member: &Member,
        until: Instant,
    ) -> Result<Option<HeaderValue>, Failure<EtcdError>> {
        let Some(login) = self.settings.login() else { return Ok(None) };
        let late =
            || EtcdError::Late { at: member.at().clone(), patience: self.settings.timeout() };
        let token = timeout_at(until, self.logged_in(member, login)).await;
        token.unwrap_or_else(|_| Err(late())).map(Some).map_err(Failure::Unsent)
    }

    async fn logged_in(
        &self,
        member: &Member,
        login: &config::EtcdLogin,
    ) -> Result<HeaderValue, EtcdError> {
        let mut kept = self.token.lock().await;
        if let Some(token) = &*kept {
            return Ok(token.clone());
        }
        let password = login.password()?;
        let request = wire::login(&login.user, &String::from_utf8_lossy(password.expose()));
        // A login changes nothing, so what became of one without an answer does not matter.
        let patience = self.settings.timeout();
        let body = member.ask(wire::AUTHENTICATE, &request, None, patience).await;
        let answer = Answer { member, body: body.map_err(Failure::error)? };
        let Token { token } = answer.read()?;
        let mut token = HeaderValue::from_str(&token).map_err(|error| answer.unreadable(&error))?;
        token.set_sensitive(true);
        Ok(kept.insert(token).clone())
    }

    /// Another member is asked first from here on.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        // Somebody else may have left it already.
        let _ = self.first.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Answer<'_> {
    fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, EtcdError> {
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, what: &impl ToString) -> EtcdError {
        EtcdError::Unreadable { at: self.member.at().clone(), what: what.to_string() }
    }
}

fn reading(incarnation: Incarnation, record: Option<Record>) -> Reading {
    let revision = record.as_ref().map_or(0, |record| record.mod_revision);
    Reading { mark: Mark { incarnation, revision }, value: record.map(|record| record.value) }
}
