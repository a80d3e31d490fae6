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

/// A PostgreSQL server and the gate of its cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Postgres {
    pub(crate) state: State,
    pub(crate) log: Log,
    /// Which node it streams from.
    pub(crate) upstream: Option<usize>,
    /// The value of `synchronous_standby_names` that its backends go by.
    pub(crate) voters: VoterSet,
    /// What it knows to be flushed elsewhere.
    pub(crate) flushed: BTreeMap<NodeName, Lsn>,
    /// When each of them was last heard of.
    pub(crate) heard: BTreeMap<NodeName, u64>,
    pub(crate) waiting: Vec<Waiting>,
    /// The epoch it was promoted or restarted for.
    pub(crate) epoch: Epoch,
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
            upstream,
            voters: VoterSet::empty(),
            flushed: BTreeMap::new(),
            heard: BTreeMap::new(),
            waiting: Vec::new(),
            epoch: Epoch::new(0),
            life: 0,
            gate: None,
            latched: false,
        }
    }

    /// Begins in a new cgroup.
    pub(crate) fn start(&mut self, state: State, gate: Option<Moment>) {
        self.life += 1;
        self.state = state;
        self.upstream = None;
        self.flushed.clear();
        self.heard.clear();
        self.waiting.clear();
        self.gate = gate;
        self.latched = false;
    }

    pub(crate) fn kill(&mut self) {
        self.life += 1;
        self.state = State::Down;
        self.upstream = None;
        self.waiting.clear();
        self.latched = true;
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

    /// The commits that clients are told of now, by the voters that it goes by.
    pub(crate) fn acknowledged(&mut self, now: Moment) -> Vec<Waiting> {
        if self.state != (State::Primary { admits: true }) || !self.passes(now) {
            return Vec::new();
        }
        let done = |waiting: &Waiting| {
            let after = Lsn::new(waiting.place as u64 + 1);
            let has = |name: &NodeName| self.flushed.get(name).is_some_and(|lsn| *lsn >= after);
            self.voters.acknowledged_by(has)
        };
        let count = self.waiting.iter().take_while(|waiting| done(waiting)).count();
        self.waiting.drain(..count).collect()
    }
}
