//! The lease: renewing it, giving up in time, and going on without the store (S8).
//!
//! Time is counted from before a renewal was sent. Whatever became of it, who observes the record cannot
//! have seen it earlier.

use std::collections::{BTreeSet, VecDeque};

use super::crash::Crash;
use super::{Agent, Effect, FAILURES, Role, Standing};
use crate::failover::message::Message;
use crate::failover::order::Refusal;
use crate::failover::pace::Pace;
use crate::failover::record::{Lease, Record};
use crate::failover::rules::Rule;
use crate::failover::timing::Timings;
use crate::{Epoch, Moment, NodeName};

/// The right to accept writes, as this node counts it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    /// The last renewal that is confirmed was sent then; `None`: none since the agent began.
    renewed: Option<Moment>,
    /// When PostgreSQL is ended.
    surrender: Moment,
    /// Until when the gate was armed last. It is never armed for less.
    armed: Moment,
    /// A renewal that was sent and is not confirmed.
    attempt: Option<Attempt>,
    /// What the members were asked, because the store is gone, the last question last. Each may be answered
    /// after the next was asked.
    open: VecDeque<Question>,
    questions: u64,
    /// It goes on by what the members granted.
    granted: bool,
    /// It has given up, and renews only to begin anew.
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    epoch: Epoch,
    renewal: u64,
    sent: Moment,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    number: u64,
    sent: Moment,
    waiting: BTreeSet<NodeName>,
}

impl Holding {
    fn new() -> Self {
        Self {
            renewed: None,
            surrender: Moment::new(0),
            armed: Moment::new(0),
            attempt: None,
            open: VecDeque::new(),
            questions: 0,
            granted: false,
            over: true,
        }
    }

    /// A server was found whose gate is open until then: a lease after its last renewal was sent.
    pub(super) fn found(until: Moment, lease: Option<Timings>) -> Self {
        let rest = lease.map(|lease| lease.duration() - lease.drop_after());
        let surrender = until - rest.unwrap_or_default();
        Self { surrender, armed: until, over: false, ..Self::new() }
    }

    /// PostgreSQL is ended.
    pub(super) fn given_up(self) -> Self {
        Self { over: true, open: VecDeque::new(), granted: false, ..self }
    }

    /// Whether a renewal was confirmed that was sent since.
    pub(super) fn renewed_since(&self, moment: Moment) -> bool {
        !self.over && self.renewed.is_some_and(|renewed| renewed > moment)
    }

    /// Whether it is a right.
    pub(super) const fn lasts(&self) -> bool {
        !self.over
    }

    /// When something is due.
    pub(super) fn due(&self, now: Moment, pace: Option<&Pace>) -> Option<Moment> {
        let surrender = (!self.over).then_some(self.surrender);
        let renewal = pace.map(|pace| self.renewed.map_or(now, |at| at + pace.lease.renew_every()));
        let ask = pace.zip(self.open.back()).map(|(pace, question)| question.sent + pace.heartbeat);
        [surrender, renewal, ask].into_iter().flatten().filter(|due| *due > now).min()
    }

    fn confirm(&mut self, sent: Moment, pace: &Pace) {
        if self.renewed.is_none_or(|renewed| renewed < sent) {
            self.renewed = Some(sent);
        }
        self.attempt = None;
        self.open.clear();
        self.granted = false;
        self.over = false;
        self.surrender = self.surrender.max(sent + pace.lease.drop_after());
    }
}

impl Agent {
    /// Ends PostgreSQL when the lease is about to end; asks the members when the store is gone.
    pub(super) fn keep_lease(&mut self, now: Moment) {
        self.find_attempt(now);
        let standing = Standing::of(&self.name, self.desk.record());
        let Some(holding) = &self.holding else { return };
        let writes = self.writes();
        if holding.over {
            return;
        }
        if now >= holding.surrender {
            if writes {
                self.kill();
            } else {
                self.holding = self.holding.take().map(Holding::given_up);
            }
            return;
        }
        if writes && standing == Standing::Holder && self.desk.reachable() == Some(false) {
            self.ask(now);
        }
    }

    /// Whether PostgreSQL is out of recovery, or on its way.
    pub(super) fn writes(&self) -> bool {
        use super::Command::{Promote, Restart};
        let promoting = matches!(self.busy, Some((_, Promote { .. } | Restart { .. })));
        promoting || matches!(self.role, Role::Restarted { .. } | Role::Primary)
    }

    /// The record shows a renewal whose answer was lost.
    fn find_attempt(&mut self, now: Moment) {
        let Some(record) = self.desk.record() else { return };
        let Lease::Held { by, run, renewal, .. } = &record.lease else { return };
        let Some(attempt) = self.holding.as_ref().and_then(|holding| holding.attempt) else {
            return;
        };
        let (epoch, pace) = (record.epoch, record.pace);
        if (by, *run) == (&self.name, self.run)
            && (epoch, *renewal) == (attempt.epoch, attempt.renewal)
        {
            self.renewed(now, attempt.sent, &pace);
        }
    }

    /// A write of this node is in the record.
    pub(super) fn confirmed(&mut self, now: Moment, sent: Moment, record: &Record) {
        if record.holder() == Some(&self.name) && record.nomination.is_none() {
            self.renewed(now, sent, &record.pace);
        }
    }

    /// This node held the lease at a moment after `sent`. The gate is open for a lease from then on.
    fn renewed(&mut self, now: Moment, sent: Moment, pace: &Pace) {
        let holding = self.holding.get_or_insert_with(Holding::new);
        // It came too late to be of use.
        if now >= sent + pace.lease.drop_after() {
            holding.attempt = None;
            return;
        }
        holding.confirm(sent, pace);
        self.arm(sent + pace.lease.duration());
    }

    /// The renewal that is due.
    pub(super) fn to_renew(&self, now: Moment, record: &Record) -> Option<Record> {
        let renewed = self.holding.as_ref().and_then(|holding| holding.renewed);
        let fresh = renewed.is_some_and(|renewed| now < renewed + record.pace.lease.renew_every());
        // After PostgreSQL has ended only a renewal from after that counts (S7).
        let counts = self.role != Role::Down || renewed.is_some_and(|renewed| renewed > self.ended);
        if (fresh && counts) || self.gives_back(record) {
            return None;
        }
        (record.holder() == Some(&self.name)).then(|| record.clone())
    }

    /// Puts a record, and remembers when, where it renews the lease.
    pub(super) fn put(&mut self, now: Moment, record: Record) {
        if let Lease::Held { by, renewal, .. } = &record.lease
            && *by == self.name
        {
            let (epoch, renewal) = (record.epoch, *renewal);
            let holding = self.holding.get_or_insert_with(Holding::new);
            // What is found in the record later may be the first of several that look the same.
            let same = |attempt: &Attempt| (attempt.epoch, attempt.renewal) == (epoch, renewal);
            let sent = holding.attempt.filter(same).map_or(now, |attempt| attempt.sent);
            holding.attempt = Some(Attempt { epoch, renewal, sent });
        }
        if let Some(request) = self.desk.put(now, record) {
            self.effects.push_back(Effect::Store(request));
        }
    }

    /// The lease is given back: this node cannot go on, and has ended itself.
    pub(super) fn to_release(&self, record: &Record) -> Option<Record> {
        let ended = self.role == Role::Down && self.busy.is_none();
        (ended && self.gives_back(record)).then(|| record.release(&self.name).ok()).flatten()
    }

    /// Whether this node held the lease and another had better hold it.
    pub(super) fn cannot_go_on(&self, record: &Record) -> bool {
        let spent = match self.crash {
            Crash::None => false,
            Crash::InPlace => self.restarts.0 >= self.restarts.1,
            Crash::HandOver => true,
        };
        let cannot = self.faulty || self.kept.rewinding || self.failures >= FAILURES;
        record.holder() == Some(&self.name) && (cannot || (spent && record.term().promoted))
    }

    /// Whether it ends PostgreSQL and gives the lease back: it cannot go on, or an operator wants another primary.
    pub(super) fn gives_back(&self, record: &Record) -> bool {
        self.cannot_go_on(record) || self.is_relieved(record)
    }

    /// Whether an operator wants another primary than this node. That is no fault of it.
    pub(super) fn is_relieved(&self, record: &Record) -> bool {
        record.ordered().is_some() && record.holder() == Some(&self.name)
    }

    /// Nobody was nominated for two leases: the freeze was wrong.
    pub(super) fn to_thaw(&self, now: Moment, record: &Record) -> Option<Record> {
        let long = self
            .suspected
            .is_some_and(|(_, since)| now.since(since) >= record.pace.lease.patience());
        (long && self.has_voters() && record.holder() == Some(&self.name))
            .then(|| record.thaw().ok())
            .flatten()
    }

    /// Asks every member of the last record whether this node may go on (S8). Also those whom it only tried
    /// to confirm: that may have been written.
    fn ask(&mut self, now: Moment) {
        let Some(record) = self.desk.record() else { return };
        let (epoch, pace, run) = (record.epoch, record.pace, self.run);
        let members = record
            .members
            .keys()
            .chain(self.desk.writing().into_iter().flat_map(|record| record.members.keys()));
        let others: BTreeSet<_> = members.filter(|name| **name != self.name).cloned().collect();
        let Some(holding) = &mut self.holding else { return };
        if holding.open.back().is_some_and(|last| now.since(last.sent) < pace.heartbeat) {
            return;
        }
        // An answer to an older one would come too late.
        holding.open.retain(|question| now < question.sent + pace.lease.drop_after());
        holding.questions += 1;
        let number = holding.questions;
        holding.open.push_back(Question { number, sent: now, waiting: others.clone() });
        for to in others {
            self.effects
                .push_back(Effect::Send { to, message: Message::Ask { epoch, run, number } });
        }
        self.count_grants();
    }

    /// A member has granted.
    pub(super) fn granted(&mut self, from: &NodeName, epoch: Epoch, run: u64, number: u64) {
        let own = run == self.run && self.desk.record().is_some_and(|record| record.epoch == epoch);
        let questions = self.holding.iter_mut().flat_map(|holding| &mut holding.open);
        for question in questions.filter(|question| own && question.number == number) {
            question.waiting.remove(from);
        }
        self.count_grants();
    }

    /// With all grants, the lease lasts from before the first question was sent.
    fn count_grants(&mut self) {
        let Some(pace) = self.desk.record().map(|record| record.pace) else { return };
        let Some(holding) = &mut self.holding else { return };
        let answered = |question: &Question| question.waiting.is_empty();
        let Some(last) = holding.open.iter().rposition(answered) else { return };
        let sent = holding.open[last].sent;
        // The last question says when the next one is due.
        holding.open.drain(..last);
        let surrender = sent + pace.lease.drop_after();
        if !holding.over && surrender > holding.surrender {
            holding.granted = true;
            holding.surrender = surrender;
            self.arm(sent + pace.lease.duration());
        }
    }

    fn arm(&mut self, until: Moment) {
        if let Some(holding) = self.holding.as_mut().filter(|holding| holding.armed < until) {
            holding.armed = until;
            self.effects.push_back(Effect::Arm(until));
        }
    }

    /// The primary asks whether it may go on (S8). Who grants promises to stop no receiver, to freeze
    /// nothing and to take no epoch for as long as a proof takes.
    pub(super) fn asked(
        &mut self,
        now: Moment,
        from: NodeName,
        epoch: Epoch,
        run: u64,
        number: u64,
    ) {
        let Some(record) = self.desk.record() else { return };
        let rules = self.rules;
        let newer = record.epoch.max(self.kept.progress.epoch) > epoch;
        // After a crash a promise is known from the disk only.
        let bound = self.kept.promise() >= record.pace.lease.proven_after();
        let busy = self.kept.frozen.is_some()
            || record.freeze.is_some()
            || record.nomination.is_some()
            || matches!(self.role, Role::Frozen { .. });
        let may = self.desk.reachable() == Some(false)
            && bound
            && !busy
            && record.holder() == Some(&from)
            && (!newer || !rules.hold(Rule::S5));
        if may || (!rules.hold(Rule::S8) && !newer) {
            if rules.hold(Rule::S8) {
                self.promised = self.promised.max(now + record.pace.lease.proven_after());
            }
            let message = Message::Grant { epoch, run, number };
            self.effects.push_back(Effect::Send { to: from, message });
        } else {
            self.desk.doubt();
        }
    }

    /// Whether this node goes on by what its members granted.
    #[must_use]
    pub fn goes_on_alone(&self) -> bool {
        self.holding.as_ref().is_some_and(|holding| holding.granted)
    }

    /// Who goes on as the primary by what its members granted, this node or one that is heard.
    #[must_use]
    pub fn who_goes_on_alone(&self, now: Moment) -> Option<&NodeName> {
        if self.goes_on_alone() {
            return Some(&self.name);
        }
        self.hearing.goes_on_alone(now, self.desk.record()?)
    }

    /// Whether the store answered when it was asked last; `None` before that.
    #[must_use]
    pub fn store_answers(&self) -> Option<bool> {
        self.desk.reachable()
    }

    /// Whether the primary may be going on by a grant of this node.
    pub(super) fn has_promised(&self, now: Moment) -> bool {
        now < self.promised
    }

    /// Whether this node tries to take an epoch.
    pub(super) fn is_taking(&self) -> bool {
        self.holding.as_ref().is_some_and(|holding| holding.attempt.is_some())
    }

    /// The nominee takes the epoch: it is frozen, knows its log, and has promised nothing (S1, S2, S8).
    pub(super) fn to_take(&self, now: Moment, record: &Record) -> Option<Record> {
        let Standing::Nominee { freeze } = Standing::of(&self.name, Some(record)) else {
            return None;
        };
        let ready = self.role == Role::Frozen { freeze } && self.busy.is_none() && !self.faulty;
        if !ready || self.has_promised(now) {
            return None;
        }
        record.take(&self.name, self.run, self.wal.as_ref()?, self.rules).ok()
    }

    /// Why this node, which has stopped and was nominated, does not take the epoch: what the record has against it.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let record = self.desk.record()?;
        let Standing::Nominee { freeze } = self.standing() else { return None };
        let wal = self.wal.as_ref().filter(|_| self.role == Role::Frozen { freeze })?;
        record.take(&self.name, self.run, wal, self.rules).err()
    }
}
