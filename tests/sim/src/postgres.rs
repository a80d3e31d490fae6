//! PostgreSQL, as far as failover sees it: a log, a role, and who waits for whom.

use std::collections::BTreeMap;

use pgha_machine::failover::voters::VoterSet;
use pgha_machine::{Epoch, Lsn, Moment, NodeName, Position, Timeline, Wal};

/// What was written: a commit, told apart from every other.
pub(crate) type Commit = u32;

/// The log on a node's disk. An LSN is the number of commits before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    commits: Vec<Commit>,
    /// Where each timeline begins, the oldest first.
    timelines: Vec<(Timeline, usize)>,
}

impl Log {
    pub(crate) fn begun(timeline: Timeline) -> Self {
        Self { commits: Vec::new(), timelines: vec![(timeline, 0)] }
    }

    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(crate) fn end(&self) -> Lsn {
        Lsn::new(self.commits.len() as u64)
    }

    /// Whether it has that commit at that place.
    pub(crate) fn has(&self, place: usize, commit: Commit) -> bool {
        self.commits.get(place) == Some(&commit)
    }

    pub(crate) fn write(&mut self, commit: Commit) -> usize {
        self.commits.push(commit);
        self.commits.len() - 1
    }

    pub(crate) fn fork(&mut self, timeline: Timeline) -> Position {
        let left = self.position();
        self.timelines.push((timeline, self.commits.len()));
        left
    }

    fn position(&self) -> Position {
        let timeline = self.timelines.last().map_or(Timeline::new(1), |(timeline, _)| *timeline);
        Position { timeline, lsn: self.end() }
    }

    /// What it was when it was that long.
    fn before(&self, length: usize) -> Self {
        let commits = self.commits[..length.min(self.len())].to_vec();
        let begun = |(_, begins): &&(Timeline, usize)| *begins <= commits.len();
        let timelines = self.timelines.iter().filter(begun).copied().collect();
        Self { commits, timelines }
    }

    pub(crate) fn wal(&self) -> Wal {
        let ends = self.timelines.iter().skip(1).map(|(_, begins)| *begins);
        let left = self.timelines.iter().zip(ends).map(|((timeline, _), end)| Position {
            timeline: *timeline,
            lsn: Lsn::new(end as u64),
        });
        Wal { end: self.position(), left: left.collect() }
    }

    /// Whether it is a beginning of the other: nothing in it that the other has not, in the same place.
    pub(crate) fn begins(&self, other: &Self) -> bool {
        let within = |place: usize| self.commits.get(place) == other.commits.get(place);
        let own = self.timelines.last();
        let timeline = other.timelines.iter().rev().find(|(_, begins)| *begins <= self.len());
        // Within one timeline nothing is written twice, so that the last commit tells.
        self.len() <= other.len()
            && (self.len() == 0 || within(self.len() - 1))
            && own.zip(timeline).is_some_and(|(own, other)| own.0 <= other.0)
    }

    /// Whether the other has the same up to that place. Nothing is written twice, so that the last commit tells.
    pub(crate) fn shares(&self, other: &Self, length: usize) -> bool {
        let last = |log: &Self| length.checked_sub(1).map(|place| log.commits.get(place).copied());
        last(self) == last(other)
    }

    /// Takes up to `count` more from a log of which it is a beginning.
    pub(crate) fn follow(&mut self, other: &Self, count: usize) {
        let from = self.len();
        let to = other.len().min(from + count);
        self.commits.extend_from_slice(&other.commits[from..to]);
        self.timelines.clear();
        self.timelines.extend(other.timelines.iter().filter(|(_, begins)| *begins <= to));
    }

    /// Takes back what the other has not.
    pub(crate) fn rewind(&mut self, other: &Self) {
        let common = self.commits.iter().zip(&other.commits).take_while(|(a, b)| a == b).count();
        self.commits.truncate(common);
        self.timelines = other.timelines.iter().filter(|(_, at)| *at <= common).copied().collect();
    }
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Down,
    Standby,
    /// Out of recovery; it admits clients, or not (S7).
    Primary {
        admits: bool,
    },
}

/// A client's commit that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waiting {
    pub(crate) place: usize,
    pub(crate) commit: Commit,
}

/// What its files say. It goes by them when it has read them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Files {
    /// `primary_conninfo`: which node.
    pub(crate) conninfo: Option<usize>,
    /// `synchronous_standby_names`.
    pub(crate) voters: VoterSet,
    /// The hba file admits clients.
    pub(crate) admits: bool,
}

/// A PostgreSQL server and the gate of its cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Postgres {
    pub(crate) state: State,
    pub(crate) log: Log,
    pub(crate) files: Files,
    /// The data directory is neither what it was nor what it shall be.
    pub(crate) torn: bool,
    /// What came before that place of its log is removed.
    pub(crate) begins: usize,
    /// A copy of another node's data directory beside its own: the log, and where that begins.
    pub(crate) copy: Option<(Log, usize)>,
    /// The copy is taking the place of its own.
    pub(crate) exchanging: bool,
    /// So many commits at the end of the log are written and not flushed.
    pub(crate) unflushed: usize,
    /// The postmaster was killed, and its backends live on until the cgroup is ended.
    pub(crate) orphans: bool,
    /// Some of its processes have read the file with `synchronous_standby_names`, and others have not.
    pub(crate) reloading: bool,
    /// Which node its receiver streams from.
    pub(crate) upstream: Option<usize>,
    /// The value of `synchronous_standby_names` that its backends go by.
    pub(crate) voters: VoterSet,
    /// What it knows to be flushed elsewhere.
    pub(crate) replies: BTreeMap<NodeName, Lsn>,
    /// When each of them was last heard of.
    pub(crate) heard: BTreeMap<NodeName, u64>,
    pub(crate) waiting: Vec<Waiting>,
    /// The epoch it was promoted or restarted for.
    pub(crate) epoch: Epoch,
    /// Where its log ended when it came up after a crash: what lies before that is seen by its first client.
    pub(crate) recovered: Option<usize>,
    /// Of which start it is; replies to a former one are lost.
    pub(crate) life: u64,
    /// Until when the gate is open, by the node's clock; `None`: open.
    gate: Option<Moment>,
    /// The gate was found closed, and stays so.
    latched: bool,
}

impl Postgres {
    pub(crate) fn standby(upstream: Option<usize>) -> Self {
        Self {
            state: State::Standby,
            log: Log::begun(Timeline::new(1)),
            files: Files { conninfo: upstream, voters: VoterSet::empty(), admits: true },
            torn: false,
            begins: 0,
            copy: None,
            exchanging: false,
            unflushed: 0,
            orphans: false,
            reloading: false,
            upstream,
            voters: VoterSet::empty(),
            replies: BTreeMap::new(),
            heard: BTreeMap::new(),
            waiting: Vec::new(),
            epoch: Epoch::new(0),
            recovered: None,
            life: 0,
            gate: None,
            latched: false,
        }
    }

    /// Begins in a new cgroup.
    pub(crate) fn start(&mut self, state: State, gate: Option<Moment>) {
        self.life += 1;
        self.orphans = false;
        self.reloading = false;
        // It flushes what it finds before it recovers.
        self.unflushed = 0;
        self.state = state;
        self.upstream = None;
        self.replies.clear();
        self.heard.clear();
        self.waiting.clear();
        self.recovered = None;
        self.gate = gate;
        self.latched = false;
    }

    pub(crate) fn kill(&mut self) {
        self.life += 1;
        self.orphans = false;
        self.state = State::Down;
        self.upstream = None;
        self.waiting.clear();
        self.latched = true;
    }

    /// Whether the gate will close, if it is not armed again.
    pub(crate) const fn is_armed(&self) -> bool {
        self.gate.is_some()
    }

    /// Closes the gate for good.
    pub(crate) const fn shut(&mut self) {
        self.latched = true;
    }

    /// Whether a server runs whose gate was found closed.
    pub(crate) fn is_shut(&mut self, now: Moment) -> bool {
        self.state != State::Down && !self.passes(now)
    }

    pub(crate) fn arm(&mut self, until: Moment) {
        self.gate = Some(self.gate.map_or(until, |before| before.max(until)));
    }

    pub(crate) const fn deadline(&self) -> Option<Moment> {
        self.gate
    }

    /// Whether anything passes over TCP. Once it was found closed, it stays so.
    pub(crate) fn passes(&mut self, now: Moment) -> bool {
        self.latched |= self.gate.is_some_and(|until| now >= until);
        !self.latched
    }

    /// The postmaster is killed, and backends that wait go on waiting.
    pub(crate) fn orphan(&mut self) {
        self.orphans = self.state == State::Primary { admits: true };
        self.state = State::Down;
        self.upstream = None;
    }

    /// Removes its log but for the last so many commits, as a checkpoint does.
    pub(crate) fn remove(&mut self, but: usize) {
        self.begins = self.begins.max(self.flushed().saturating_sub(but));
    }

    /// The log as a copy of its data directory has it.
    pub(crate) fn copied(&self) -> (Log, usize) {
        (self.log.before(self.flushed()), self.begins)
    }

    /// What was written and not flushed is lost, but for that many commits.
    pub(crate) fn lose(&mut self, but: usize) {
        let lost = self.unflushed.saturating_sub(but);
        self.log = self.log.before(self.log.len() - lost);
        self.unflushed -= lost;
    }

    /// How much of the log is flushed.
    pub(crate) fn flushed(&self) -> usize {
        self.log.len() - self.unflushed
    }

    /// The log as far as it is flushed.
    pub(crate) fn durable(&self) -> Wal {
        if self.unflushed == 0 { self.log.wal() } else { self.log.before(self.flushed()).wal() }
    }

    /// The values of `synchronous_standby_names` that some of its processes may go by.
    pub(crate) fn used(&self) -> impl Iterator<Item = &VoterSet> {
        [&self.voters].into_iter().chain(self.reloading.then_some(&self.files.voters))
    }

    /// The commits that clients are told of now, by any of the voters that it goes by.
    pub(crate) fn acknowledged(&mut self, now: Moment) -> Vec<Waiting> {
        let answers = self.orphans || self.state == State::Primary { admits: true };
        if !answers || !self.passes(now) {
            return Vec::new();
        }
        let done = |waiting: &Waiting| {
            let after = Lsn::new(waiting.place as u64 + 1);
            let has = |name: &NodeName| self.replies.get(name).is_some_and(|lsn| *lsn >= after);
            waiting.place < self.flushed() && self.used().any(|set| set.acknowledged_by(has))
        };
        let count = self.waiting.iter().take_while(|waiting| done(waiting)).count();
        self.waiting.drain(..count).collect()
    }
}
