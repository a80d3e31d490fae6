//! Which combinations of state and event the schedules have gone through.

use std::collections::BTreeMap;
use std::fmt;

use pgha_machine::failover::Answer;
use pgha_machine::failover::agent::{self, Role, Standing};
use pgha_machine::failover::coordinator::{self, Accepted, Declined, Stage};
use pgha_machine::failover::order::Refusal;
use pgha_machine::failover::record::{Proof, Record, Suspicion, Takeover};

/// How often an agent was in a role and a standing when something happened, and a coordinator in a stage.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    agents: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    coordinators: BTreeMap<(&'static str, &'static str), u64>,
    /// What was written to the record, and why.
    steps: BTreeMap<(&'static str, &'static str), u64>,
}

/// The names of roles, of standings, and of what happens to an agent.
const AGENT: ([&str; 5], [&str; 5], [&str; 16]) = (
    ["down", "standby", "frozen", "restarted", "primary"],
    ["unknown", "holder", "nominee", "suspended", "follower"],
    [
        "read",
        "changed",
        "written",
        "heard",
        "ended",
        "gone",
        "recovered",
        "shut",
        "faulty",
        "restores",
        "log",
        "standbys",
        "doubts",
        "tick",
        "begins",
        "copied",
    ],
);
/// The writes to the record that there are, why a primary is suspected, and what proves its end.
const STEPS: [(&str, &[&str]); 5] = [
    (
        "write",
        &[
            "join", "leave", "tag", "mode", "renew", "freeze", "thaw", "release", "nominate",
            "withdraw", "take", "promoted", "announce", "settle", "doubt",
        ],
    ),
    ("suspicion", &["reported", "silent", "cut off", "expired", "released", "ordered"]),
    ("proof", &["released", "quorum", "power", "lease"]),
    ("order", &["take over", "take over to", "force"]),
    ("term by order", &["the best", "the named", "another", "forced"]),
];
/// The names of stages, and of what happens to a coordinator.
const COORDINATOR: ([&str; 4], [&str; 7]) = (
    ["unknown", "watching", "frozen", "nominated"],
    ["read", "changed", "written", "heard", "off", "ordered", "tick"],
);

impl Coverage {
    /// Returns the number of the event among all that there are.
    pub(crate) fn agent(
        &mut self,
        role: &Role,
        standing: &Standing,
        event: &agent::Event,
    ) -> usize {
        let role = match role {
            Role::Down => AGENT.0[0],
            Role::Standby { .. } => AGENT.0[1],
            Role::Frozen { .. } => AGENT.0[2],
            Role::Restarted { .. } => AGENT.0[3],
            Role::Primary => AGENT.0[4],
        };
        let standing = match standing {
            Standing::Unknown => AGENT.1[0],
            Standing::Holder => AGENT.1[1],
            Standing::Nominee { .. } => AGENT.1[2],
            Standing::Suspended { .. } => AGENT.1[3],
            Standing::Follower { .. } => AGENT.1[4],
        };
        let number = match event {
            agent::Event::Store(Answer::Read(_)) => 0,
            agent::Event::Store(Answer::Changed(_)) => 1,
            agent::Event::Store(Answer::Written(_)) => 2,
            agent::Event::Heard { .. } => 3,
            agent::Event::Ended { .. } => 4,
            agent::Event::Gone => 5,
            agent::Event::OutOfRecovery => 6,
            agent::Event::GateClosed => 7,
            agent::Event::Faulty(_) => 8,
            agent::Event::Restores(_) => 9,
            agent::Event::Log(_) => 10,
            agent::Event::Standbys(_) => 11,
            agent::Event::Doubts(_) => 12,
            agent::Event::Tick => 13,
            agent::Event::Begins(_) => 14,
            agent::Event::Copied { .. } => 15,
        };
        *self.agents.entry((role, standing, AGENT.2[number])).or_default() += 1;
        number
    }

    pub(crate) fn coordinator(&mut self, stage: Stage, event: &coordinator::Event) {
        let stage = COORDINATOR.0[match stage {
            Stage::Unknown => 0,
            Stage::Watching => 1,
            Stage::Frozen => 2,
            Stage::Nominated => 3,
        }];
        let event = COORDINATOR.1[match event {
            coordinator::Event::Store(Answer::Read(_)) => 0,
            coordinator::Event::Store(Answer::Changed(_)) => 1,
            coordinator::Event::Store(Answer::Written(_)) => 2,
            coordinator::Event::Heard { .. } => 3,
            coordinator::Event::TurnedOff { .. } => 4,
            coordinator::Event::Ordered { .. } => 5,
            coordinator::Event::Tick => 6,
        }];
        *self.coordinators.entry((stage, event)).or_default() += 1;
    }

    /// The record was changed.
    pub(crate) fn write(&mut self, before: &Record, after: &Record) {
        let mut met = |kind, step| *self.steps.entry((kind, step)).or_default() += 1;
        for (write, made) in writes(before, after) {
            if made {
                met("write", write);
            }
        }
        if let Some(freeze) = after.freeze.as_ref().filter(|_| after.freezes > before.freezes) {
            met(
                "suspicion",
                match freeze.reason {
                    Suspicion::Reported => "reported",
                    Suspicion::Silent => "silent",
                    Suspicion::CutOff => "cut off",
                    Suspicion::Expired => "expired",
                    Suspicion::Released => "released",
                    Suspicion::Ordered => "ordered",
                },
            );
        }
        if let Some(ordered) = after.ordered().filter(|_| before.ordered() != after.ordered()) {
            met(
                "order",
                match ordered.takeover {
                    Takeover::Best => "take over",
                    Takeover::To(_) => "take over to",
                    Takeover::Force(_) => "force",
                },
            );
        }
        let taken = after.term().cause.as_ref().filter(|_| after.epoch != before.epoch);
        if let Some((cause, ordered)) = taken.and_then(|it| Some((it, it.ordered.as_ref()?))) {
            met(
                "term by order",
                match ordered.takeover.node() {
                    _ if cause.forced => "forced",
                    None => "the best",
                    Some(node) if *node == after.term().node => "the named",
                    Some(_) => "another",
                },
            );
        }
        if let Some(nomination) = after.nomination.as_ref().filter(|_| before.nomination.is_none())
        {
            met(
                "proof",
                match nomination.proof {
                    Proof::Released => "released",
                    Proof::Quorum => "quorum",
                    Proof::Power => "power",
                    Proof::Lease => "lease",
                },
            );
        }
    }

    /// An operator's order to a controller was answered.
    pub(crate) fn answered(&mut self, result: &Result<Accepted, Declined>) {
        match result {
            Ok(_) => {}
            Err(Declined::Refused(refusal)) => self.refused(refusal),
            Err(declined) => {
                let why = match declined {
                    Declined::Unread => "unread",
                    Declined::GoesOn(_) => "goes on",
                    Declined::Unfit { .. } => "unfit",
                    Declined::NobodyFit(_) => "nobody fit",
                    Declined::TooFewVoters { .. } => "too few voters",
                    Declined::Impersonated(_) => "impersonated",
                    Declined::Refused(_) => "refused",
                };
                *self.steps.entry(("refusal of an order", why)).or_default() += 1;
            }
        }
    }

    /// Why an operator's order was not carried out.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        let why = match refusal {
            Refusal::Nothing => "nothing to write",
            Refusal::Frozen(_) => "frozen",
            Refusal::InCharge(_) => "in charge",
            Refusal::Stranger(_) => "stranger",
            Refusal::MustWait => "must wait",
            Refusal::NotHolder { .. }
            | Refusal::Nominated(_)
            | Refusal::Ordered(_)
            | Refusal::NotOrdered(_)
            | Refusal::Unfrozen(_)
            | Refusal::NotFrozen(_)
            | Refusal::NotNominated(_)
            | Refusal::Unconfirmed(_)
            | Refusal::Diverged(_)
            | Refusal::Shorter(_)
            | Refusal::BelowFloor { .. }
            | Refusal::Changing
            | Refusal::NotChanging => "of a machine",
        };
        *self.steps.entry(("refusal of an order", why)).or_default() += 1;
    }

    /// Adds what other schedules went through.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.agents {
            *self.agents.entry(*key).or_default() += count;
        }
        for (key, count) in &other.steps {
            *self.steps.entry(*key).or_default() += count;
        }
        for (key, count) in &other.coordinators {
            *self.coordinators.entry(*key).or_default() += count;
        }
    }

    /// What never happened to an agent in a role and a standing in which it ever was.
    #[must_use]
    pub fn missing_events(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let met = |role, standing| self.agents.keys().any(|(r, s, _)| (*r, *s) == (role, standing));
        let pairs =
            AGENT.0.iter().flat_map(|role| AGENT.1.iter().map(move |standing| (*role, *standing)));
        let met = pairs.filter(|(role, standing)| met(*role, *standing));
        let all = met.flat_map(|(role, standing)| AGENT.2.map(|event| (role, standing, event)));
        all.filter(|it| !self.agents.contains_key(it)).collect()
    }

    /// The roles and standings of an agent that never met.
    #[must_use]
    pub fn missing_standings(&self) -> Vec<(&'static str, &'static str)> {
        let met = |role: &str, standing: &str| {
            self.agents.keys().any(|(r, s, _)| *r == role && *s == standing)
        };
        let all =
            AGENT.0.iter().flat_map(|role| AGENT.1.iter().map(move |standing| (*role, *standing)));
        all.filter(|(role, standing)| !met(role, standing)).collect()
    }

    /// The writes, suspicions and proofs that there never were.
    #[must_use]
    pub fn missing_steps(&self) -> Vec<(&'static str, &'static str)> {
        let all = STEPS.iter().flat_map(|(kind, steps)| steps.iter().map(|step| (*kind, *step)));
        all.filter(|step| !self.steps.contains_key(step)).collect()
    }
}

/// What is written, in a word: the last change of it in the order of a failover, or that the primary goes on.
pub(crate) fn write_name(before: &Record, after: &Record) -> &'static str {
    let made: Vec<_> = writes(before, after).into_iter().filter(|(_, made)| *made).collect();
    let change = made.iter().rfind(|(write, _)| *write != "renew").or_else(|| made.first());
    change.map_or("nothing", |(write, _)| write)
}

/// Which writes lead from one record to the next.
fn writes(before: &Record, after: &Record) -> [(&'static str, bool); 15] {
    let granted = after.epoch != before.epoch;
    let tags = |record: &Record| -> Vec<_> {
        let members = record.members.iter().filter(|(name, _)| {
            before.members.contains_key(*name) && after.members.contains_key(*name)
        });
        members.map(|(name, it)| (name.clone(), it.nofailover, it.priority)).collect()
    };
    let known = |of: &Record, others: &Record| {
        of.members.keys().all(|name| others.members.contains_key(name))
    };
    let held = before.holder().is_some() && after.holder().is_some();
    let (was, is) = (&before.voters.sets, &after.voters.sets);
    [
        ("join", !known(after, before)),
        ("leave", !known(before, after)),
        ("tag", tags(before) != tags(after)),
        ("mode", before.mode != after.mode),
        ("renew", held && !granted && before.lease.renewal() < after.lease.renewal()),
        ("freeze", before.freezes < after.freezes),
        ("thaw", !granted && before.freeze.is_some() && after.freeze.is_none()),
        ("release", before.holder().is_some() && after.holder().is_none()),
        ("nominate", before.nomination.is_none() && after.nomination.is_some()),
        ("withdraw", !granted && before.nomination.is_some() && after.nomination.is_none()),
        ("take", granted),
        ("promoted", !granted && !before.term().promoted && after.term().promoted),
        ("announce", !granted && is.len() > was.len()),
        ("settle", !granted && is.len() < was.len()),
        ("doubt", !granted && before.doubts != after.doubts),
    ]
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = AGENT.0.len() * AGENT.1.len() * AGENT.2.len();
        let coordinators = COORDINATOR.0.len() * COORDINATOR.1.len();
        writeln!(
            f,
            "agent: {} of {agents} combinations of role, standing and event; coordinator: {} of \
             {coordinators} of stage and event",
            self.agents.len(),
            self.coordinators.len()
        )?;
        for role in AGENT.0 {
            for standing in AGENT.1 {
                let of = |((r, s, _), count): (&(&str, &str, &str), &u64)| {
                    (*r == role && *s == standing).then_some(*count)
                };
                let met: Vec<u64> = self.agents.iter().filter_map(of).collect();
                let sum: u64 = met.iter().sum();
                writeln!(f, "  {role:<10} {standing:<10} {:>2} events {sum:>12} times", met.len())?;
            }
        }
        for (kind, _) in STEPS {
            write!(f, "  {kind}:")?;
            for ((_, step), count) in self.steps.iter().filter(|((of, _), _)| *of == kind) {
                write!(f, " {step} {count}")?;
            }
            writeln!(f)?;
        }
        write!(f, "  refusal of an order:")?;
        for ((_, why), count) in
            self.steps.iter().filter(|((of, _), _)| *of == "refusal of an order")
        {
            write!(f, " {why} {count}")?;
        }
        writeln!(f)
    }
}
