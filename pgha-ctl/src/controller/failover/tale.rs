//! What has happened, from how the record was to how it is.

#[cfg(test)]
mod tests;

use pgha_machine::failover::coordinator::Declined;
use pgha_machine::failover::record::{Freeze, Nomination, Proof, Record, Suspicion, Takeover};
use pgha_machine::{Epoch, Moment, NodeName};

use super::chronicle::{Incident, IncidentKind, Noted, Witnessed};

/// What one controller has seen, to tell what is new.
#[derive(Debug, Default)]
pub(in crate::controller) struct Tale {
    before: Option<Record>,
    /// When the last renewal was seen, in the present epoch and in the one before.
    renewed: Option<(Epoch, Moment)>,
    ended: Option<(Epoch, Moment)>,
    why_not: Option<String>,
}

/// The clocks: of what is decided, and on the wall, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(in crate::controller) struct Now {
    pub(in crate::controller) moment: Moment,
    pub(in crate::controller) wall: u64,
}

impl Tale {
    /// Takes in how it is; says what is new for the history. Of what several controllers see, only the one that did
    /// it tells; each tells the terms, which are written once.
    pub(in crate::controller) fn tell(
        &mut self,
        name: &NodeName,
        record: &Record,
        renewed: Option<(Epoch, Moment)>,
        now: Now,
    ) -> Vec<Noted> {
        let mut noted = Vec::new();
        let before = self.before.take();
        if before.as_ref() != Some(record) {
            let changed = |before: &Record| before.terms != record.terms;
            if before.as_ref().is_none_or(changed) && record.term().promoted {
                let witnessed =
                    before.as_ref().and_then(|before| self.witnessed(before, record, now));
                noted.push(Noted::Terms(record.terms.clone(), witnessed, now.wall));
            }
            if let Some(before) = &before {
                let told = steps(name, before, record);
                noted.extend(told.into_iter().map(|(kind, text)| {
                    Noted::Incident(incident(name, Some(record.epoch), kind, text, now.wall))
                }));
            }
        }
        self.before = Some(record.clone());
        if let Some((epoch, at)) = renewed.filter(|renewed| Some(*renewed) != self.renewed) {
            if let Some(last) = self.renewed.filter(|(of, _)| *of < epoch) {
                self.ended = Some(last);
            }
            self.renewed = Some((epoch, at));
        }
        noted
    }

    /// What was seen of the promotion that has just been written.
    fn witnessed(&self, before: &Record, record: &Record, now: Now) -> Option<Witnessed> {
        let epoch = record.epoch;
        let new = before.epoch < epoch || !before.term().promoted;
        let last = self.ended.into_iter().chain(self.renewed);
        let last = last.filter(|(of, _)| *of < epoch).max_by_key(|(_, at)| *at);
        new.then(|| Witnessed { epoch, gap: last.map(|(_, at)| now.moment.since(at)) })
    }

    /// That nobody can become the primary, where that is new.
    pub(in crate::controller) fn nobody(
        &mut self,
        name: &NodeName,
        why_not: Option<String>,
        now: Now,
    ) -> Option<Noted> {
        if why_not == self.why_not {
            return None;
        }
        self.why_not.clone_from(&why_not);
        let record = self.before.as_ref()?;
        let mine = record.freeze.as_ref().is_some_and(|freeze| freeze.by == *name);
        let text = format!("nobody becomes the primary yet: {}", why_not?);
        let kind = IncidentKind::Nobody;
        mine.then(|| Noted::Incident(incident(name, Some(record.epoch), kind, text, now.wall)))
    }
}

pub(in crate::controller) fn incident(
    name: &NodeName,
    epoch: Option<Epoch>,
    kind: IncidentKind,
    text: String,
    at: u64,
) -> Incident {
    Incident { at, seen_by: name.clone(), kind, epoch, text }
}

/// That an order was declined.
pub(in crate::controller) fn declined(takeover: &Takeover, by: &str, why: &Declined) -> String {
    format!("{by} ordered {}, which was declined: {why}", ordered(takeover))
}

/// What this controller has done from one record to the next.
fn steps(name: &NodeName, before: &Record, after: &Record) -> Vec<(IncidentKind, String)> {
    let mut told = Vec::new();
    let primary = before.lease.node();
    let frozen = |record: &Record| record.freeze.clone();
    match (frozen(before), frozen(after)) {
        (was, Some(is)) if was.as_ref() != Some(&is) && is.by == *name => {
            let order = is.ordered.as_ref().filter(|_| before.ordered() != is.ordered.as_ref());
            told.push(match order {
                Some(order) => {
                    let text = format!("{} ordered {}", order.by, ordered(&order.takeover));
                    (IncidentKind::Ordered, text)
                }
                None => (IncidentKind::Frozen, suspected(primary, &is)),
            });
        }
        // Another controller's freeze, and an order to this one.
        (Some(was), Some(Freeze { ordered: Some(order), .. })) if was.ordered.is_none() => {
            let text = format!("{} ordered {}", order.by, ordered(&order.takeover));
            told.push((IncidentKind::Ordered, text));
        }
        (Some(was), None) if before.epoch == after.epoch && was.by == *name => {
            told.push((
                IncidentKind::Thawed,
                format!("{primary} is the primary still: it was suspected wrongly"),
            ));
        }
        (_, _) => {}
    }
    let mine = |nomination: &&Nomination| nomination.by == *name;
    if before.nomination.is_none()
        && let Some(nomination) = after.nomination.as_ref().filter(mine)
    {
        told.push((IncidentKind::Nominated, nominated(primary, nomination)));
    }
    let term = after.term();
    let promoted = term.promoted && (before.epoch != after.epoch || !before.term().promoted);
    if promoted {
        let text = format!(
            "{} is the primary of epoch {}, timeline {}",
            term.node, term.epoch, term.timeline
        );
        told.push((IncidentKind::Promoted, text));
    }
    told
}

fn nominated(primary: &NodeName, nomination: &Nomination) -> String {
    let forced = if nomination.forced { ", forced by an operator whatever it lacks" } else { "" };
    format!(
        "{} may take the next epoch{forced}; {primary} can acknowledge nothing more: {}",
        nomination.node,
        proof(nomination.proof)
    )
}

fn suspected(primary: &NodeName, freeze: &Freeze) -> String {
    format!("{primary} is suspected ({}): its voters stop", reason(freeze.reason))
}

/// An order, in words that follow `ordered`.
fn ordered(takeover: &Takeover) -> String {
    match takeover {
        Takeover::Best => "that another node be the primary".to_owned(),
        Takeover::To(node) => format!("that {node} be the primary"),
        Takeover::Force(node) => {
            format!(
                "that {node} be the primary, and accepted that acknowledged commits may be lost"
            )
        }
    }
}

/// Why a primary was suspected, in words.
#[must_use]
pub fn reason(reason: Suspicion) -> &'static str {
    match reason {
        Suspicion::Reported => "it said that it cannot go on",
        Suspicion::Silent => "two others heard nothing of it, and it renewed no more",
        Suspicion::CutOff => "it renewed, and nobody heard it",
        Suspicion::Expired => "it has not renewed for longer than its lease",
        Suspicion::Released => "it gave the lease back",
        Suspicion::Ordered => "an operator ordered it",
    }
}

/// Why it could acknowledge nothing more, in words.
#[must_use]
pub fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::Released => "it ended PostgreSQL and gave the lease back",
        Proof::Quorum => "enough of its voters have stopped",
        Proof::Power => "a fence device has turned it off",
        Proof::Lease => "its lease is over",
    }
}
