//! From the weight that is written down to the weight in force.

use std::time::Duration;

use super::config::Service;
use super::lag::{FULL, LEAST};
use super::member::{Connections, Member};
use super::reasons::{Stamp, WeightReason};
use crate::{EffectiveWeight, Moment, Weight};

/// How much the automatic part must change to be followed, in thousandths of the weight.
const STEP: u32 = 100;
/// In how many steps a server that joins comes to its weight.
const STEPS: u32 = 10;

/// The weight of one server and how it came about.
///
/// In this order: the operator's weight, else the one it was added as a reader with, else the node table's, else
/// the service's; of that, what slow start leaves; of that, what lag and connections leave. Nothing automatic
/// takes more than nine tenths in all: a server is only ever withheld for a reason of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighing {
    pub(super) wanted: Weight,
    /// Percent, and for how long.
    slow_start: Option<(u8, Duration)>,
    lag: Option<u32>,
    connections: Option<(u32, Connections)>,
    /// What lag and connections leave together, as it is followed.
    followed: u32,
}

impl Weighing {
    pub(super) fn of(member: &Member, service: &Service, now: Moment) -> Self {
        let auto = service.auto_weight;
        let lag = member.lag.filter(|_| auto.lag).map(|lag| service.lag.part(lag));
        let connections = member.connections.filter(|_| auto.connections);
        let connections = connections.map(|connections| (free(connections), connections));
        let (by_lag, by_use) = (lag.unwrap_or(FULL), connections.map_or(FULL, |(part, _)| part));
        let target = (by_lag * by_use / FULL).max(LEAST);
        Self {
            wanted: member.wanted_weight(),
            slow_start: member.rising.and_then(|since| rising(since, service.slow_start, now)),
            lag: lag.filter(|part| *part < FULL),
            connections: connections.filter(|(part, _)| *part < FULL),
            followed: follow(member.followed, target),
        }
    }

    /// What lag and connections leave, in thousandths, so that the next weighing can tell whether much has
    /// changed since.
    pub(super) const fn followed(&self) -> u32 {
        self.followed
    }

    /// Whether it begins slowly still.
    pub(super) const fn is_rising(&self) -> bool {
        self.slow_start.is_some()
    }

    /// The weight.
    pub(super) fn weight(&self) -> EffectiveWeight {
        let slow = self.slow_start.map_or(FULL, |(percent, _)| u32::from(percent) * FULL / 100);
        EffectiveWeight::from(self.wanted).part((slow * self.followed / FULL).max(LEAST))
    }

    /// How it came about.
    pub(super) fn reasons(&self, member: &Member) -> Vec<WeightReason> {
        let percent = |part: u32| u8::try_from(part * 100 / FULL).unwrap_or(100);
        let mut reasons = vec![written(member)];
        if let Some((percent, left)) = self.slow_start {
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            reasons.push(WeightReason::SlowStart { percent, left_ms });
        }
        if let Some(part) = self.lag {
            reasons.push(WeightReason::Lag { percent: percent(part) });
        }
        if let Some((part, connections)) = self.connections {
            reasons.push(WeightReason::Connections { connections, percent: percent(part) });
        }
        let parts =
            self.lag.unwrap_or(FULL) * self.connections.map_or(FULL, |(part, _)| part) / FULL;
        if parts.max(LEAST) != self.followed {
            reasons.push(WeightReason::Steady { weight: self.weight() });
        }
        reasons
    }
}

/// Who wrote the weight down.
fn written(member: &Member) -> WeightReason {
    let ordered = &member.ordered;
    if let Some(weight) = ordered.steering.weight {
        let stamp = ordered.weight_set.clone().unwrap_or_else(Stamp::unknown);
        return WeightReason::Set { weight, stamp };
    }
    if let Some((reader, weight)) = member.reader.as_ref().and_then(|r| r.weight.map(|w| (r, w))) {
        return WeightReason::Reader { weight, stamp: reader.stamp() };
    }
    match member.node_weight {
        Some(weight) => WeightReason::Node { weight },
        None => WeightReason::Default { weight: member.default_weight },
    }
}

/// What free connections leave of a weight, in thousandths.
fn free(Connections { used, most }: Connections) -> u32 {
    let free = u64::from(most.saturating_sub(used)) * u64::from(FULL) / u64::from(most.max(1));
    u32::try_from(free).unwrap_or(FULL).max(LEAST)
}

/// The automatic part that is in force: it follows what is measured in whole steps, and only once that
/// has moved by one, so that tables do not change with every check.
fn follow(followed: u32, target: u32) -> u32 {
    if target.abs_diff(followed) < STEP {
        return followed;
    }
    ((target + STEP / 2) / STEP * STEP).clamp(LEAST, FULL)
}

/// Percent of the weight at this moment of a slow start, and how long it goes on; `None` once it is over.
fn rising(since: Moment, whole: Duration, now: Moment) -> Option<(u8, Duration)> {
    let left = whole.checked_sub(now.since(since)).filter(|left| !left.is_zero())?;
    let percent = 10 + 90 / STEPS * steps(since, whole, now);
    Some((u8::try_from(percent).unwrap_or(100), left))
}

/// How many steps of a slow start are done.
fn steps(since: Moment, whole: Duration, now: Moment) -> u32 {
    let done = now.since(since).as_millis() * u128::from(STEPS) / whole.as_millis().max(1);
    u32::try_from(done).unwrap_or(STEPS).min(STEPS)
}

/// When the next step of a slow start is due.
pub(super) fn next_step(since: Moment, whole: Duration, now: Moment) -> Option<Moment> {
    let next = steps(since, whole, now) + 1;
    // Rounded up: a step that is asked for too early would have to be asked for again.
    let after = (whole.as_millis() * u128::from(next)).div_ceil(u128::from(STEPS));
    let after = Duration::from_millis(u64::try_from(after).unwrap_or(u64::MAX));
    (next <= STEPS).then_some(since + after)
}

#[cfg(test)]
mod tests;
