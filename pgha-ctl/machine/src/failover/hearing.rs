//! Who was heard of, when, and what it said.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::message::Report;
use super::pace::Pace;
use super::record::Record;
use crate::{Moment, NodeName};

/// The last word of each other process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hearing {
    /// Before that nobody can have been heard.
    began: Moment,
    heard: BTreeMap<NodeName, (Moment, Report)>,
}

impl Hearing {
    pub(super) const fn from(began: Moment) -> Self {
        Self { began, heard: BTreeMap::new() }
    }

    pub(super) fn note(&mut self, now: Moment, from: NodeName, report: Report) {
        self.heard.insert(from, (now, report));
    }

    /// What it said last.
    pub(super) fn report(&self, node: &NodeName) -> Option<&Report> {
        self.heard.get(node).map(|(_, report)| report)
    }

    /// Everybody's last word.
    pub(super) fn reports(&self) -> impl Iterator<Item = (&NodeName, &Report)> {
        self.heard.iter().map(|(node, (_, report))| (node, report))
    }

    /// The holder of the lease, where it is heard and says that it goes on by what its members granted (S8).
    pub(super) fn goes_on_alone<'a>(
        &self,
        now: Moment,
        record: &'a Record,
    ) -> Option<&'a NodeName> {
        let holder = record.holder()?;
        let says = self.report(holder).is_some_and(|report| report.failsafe);
        (says && !self.is_silent(now, holder, &record.pace)).then_some(holder)
    }

    /// Since when it has been silent.
    pub(super) fn since(&self, node: &NodeName) -> Moment {
        self.heard.get(node).map_or(self.began, |(at, _)| *at)
    }

    /// Whether it has been silent for as long as makes a suspicion.
    pub(super) fn is_silent(&self, now: Moment, node: &NodeName, pace: &Pace) -> bool {
        now.since(self.since(node)) >= pace.silence
    }

    /// Those of `nodes` who have.
    pub(super) fn silent<'a>(
        &self,
        now: Moment,
        nodes: impl Iterator<Item = &'a NodeName>,
        pace: &Pace,
    ) -> BTreeSet<NodeName> {
        nodes.filter(|node| self.is_silent(now, node, pace)).cloned().collect()
    }

    /// When the next of `nodes` will have.
    pub(super) fn due<'a>(
        &self,
        now: Moment,
        nodes: impl Iterator<Item = &'a NodeName>,
        pace: &Pace,
    ) -> Option<Moment> {
        nodes.map(|node| self.since(node) + pace.silence).filter(|due| *due > now).min()
    }
}
