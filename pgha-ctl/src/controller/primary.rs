//! The primary: who it is, what it says, since when it says nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgha_machine::balancer::{Claim, Config, Event, Finding, PrimaryAnswer, Unplaced, Walsender};

use super::Controller;
use super::events::{Happening, Kind};
use super::status::{PrimaryClaim, PrimaryStatus, UnplacedWalsender};
use super::watch::{Hosts, Rival, Told, watch_primary};
use crate::postgres::{Checked, NamedWalsender, PrimaryReport, Server};

#[cfg(test)]
mod tests;

/// How much is taken in before the data plane follows: bounded, so that it does.
const TOLD_AT_ONCE: usize = 128;

/// What is known of the primary beyond the machine's need.
pub(super) struct PrimaryKnown {
    /// The last answer that counted, and when it came.
    answer: Option<(Server, PrimaryReport)>,
    last_answer: Instant,
    /// Those that claim to be the primary with equal right.
    pub(super) several: Vec<PrimaryClaim>,
    /// Those that are not in recovery on an older timeline.
    stale: Vec<PrimaryClaim>,
    /// What the hosts said that were asked in vain.
    pub(super) errors: Vec<String>,
}

impl PrimaryKnown {
    pub(super) const fn nothing(since: Instant) -> Self {
        Self {
            answer: None,
            last_answer: since,
            several: Vec::new(),
            stale: Vec::new(),
            errors: Vec::new(),
        }
    }
}

impl Controller {
    /// Hands on what a watcher tells, and what others have told meanwhile: many servers that come up at
    /// once change the data plane once, and not each by itself.
    pub(super) fn take_in_all(&mut self, told: Told) {
        let mut next = Some(told);
        for _ in 0..TOLD_AT_ONCE {
            let Some(told) = next.take() else { break };
            self.take_in(told);
            next = self.told.try_recv().ok();
        }
        if let Some(told) = next {
            self.take_in(told);
        }
    }

    /// Hands on what a watcher tells.
    fn take_in(&mut self, told: Told) {
        let event = match told {
            Told::Checked(target, checked) => {
                Event::Checked(target, identified(self.balancer.config(), checked))
            }
            Told::SessionEnded(target) => Event::SessionEnded(target),
            Told::Primary(hosts) => match self.hosts_told(hosts) {
                Some(event) => event,
                None => return,
            },
            Told::LoginRefused(warning) => {
                self.tell(Happening::warning(Kind::LoginRefused, warning));
                return;
            }
        };
        self.balancer.handle(self.now(), event);
    }

    /// `None` for the last word of a task that was ended when the configuration changed.
    fn hosts_told(&mut self, hosts: Hosts) -> Option<Event> {
        let asked = |server: &Server| {
            self.config.primary().is_some_and(|primary| primary.hosts().contains(server))
        };
        match hosts {
            Hosts::Primary(server, report, rivals) => {
                if !asked(&server) {
                    return None;
                }
                self.tell_stale(&rivals);
                let event = Event::Primary(self.identify(server, &report));
                let known = &mut self.primary;
                known.answer = Some((server, report));
                known.last_answer = Instant::now();
                known.several.clear();
                known.errors.clear();
                Some(event)
            }
            Hosts::Several(all, answered) => {
                if !all.iter().all(|(server, _)| asked(server)) {
                    return None;
                }
                let claims =
                    all.iter().map(|(server, report)| self.claim_of(*server, report.claim()));
                let claims: Vec<_> = claims.collect();
                self.primary.several = claims;
                self.primary.errors.clear();
                let answers = all.iter().map(|(server, report)| self.identify(*server, report));
                Some(Event::SeveralPrimaries {
                    answers: answers.collect(),
                    answered: answered.map(|server| server.ip()),
                })
            }
            Hosts::Lost(errors, rivals) => {
                self.tell_stale(&rivals);
                let errors: Vec<_> =
                    errors.into_iter().map(|(host, error)| format!("{host}: {error}")).collect();
                // The first of them are told with the news that it is lost.
                if self.primary.errors != errors && !self.balancer.primary_answers() {
                    let text = format!("the primary cannot be asked: {}", errors.join("; "));
                    self.tell(Happening::warning(Kind::PrimaryLost, text));
                }
                self.primary.errors = errors;
                self.primary.several.clear();
                Some(Event::PrimaryLost)
            }
        }
    }

    /// Notes those on an older timeline; new ones are told.
    fn tell_stale(&mut self, rivals: &[Rival]) {
        let claims: Vec<_> =
            rivals.iter().map(|rival| self.claim_of(rival.server, rival.claim)).collect();
        for claim in &claims {
            if !self.primary.stale.contains(claim) {
                let text = format!(
                    "{claim} is not in recovery, on an older timeline than the primary's: it is a \
                     former primary, and whatever is written to it will be lost; stop it, then rewind \
                     it; if it was restored on purpose and is to be the primary, restart this \
                     controller"
                );
                self.tell(Happening::warning(Kind::FormerPrimary, text).of(claim.host));
            }
        }
        self.primary.stale = claims;
    }

    fn claim_of(&self, server: Server, Claim { timeline, system }: Claim) -> PrimaryClaim {
        let named = self.balancer.config().node_at(server.ip());
        PrimaryClaim {
            name: named.map(|node| node.name.clone()),
            host: server.ip(),
            port: server.port(),
            timeline,
            system: system.map(|system| system.to_string()),
        }
    }

    /// Whose walsenders they are.
    fn identify(&self, server: Server, report: &PrimaryReport) -> PrimaryAnswer {
        PrimaryAnswer {
            host: server.ip(),
            timeline: report.timeline,
            system: report.system,
            lsn: report.lsn,
            walsenders: walsenders(self.balancer.config(), &report.walsenders),
        }
    }

    /// Begins to ask the primary of the configuration, and nobody else any more.
    pub(super) fn ask_primary(&mut self) {
        if let Some(task) = self.primary_task.take() {
            task.abort();
        }
        if let Some(primary) = self.config.primary() {
            let task = watch_primary(primary.clone(), self.manner.subscribe(), self.tell.clone());
            self.primary_task = Some(tokio::spawn(task));
        }
    }

    pub(super) fn primary_status(&self) -> PrimaryStatus {
        let answers = self.balancer.primary_answers();
        let known = &self.primary;
        let age = known.last_answer.elapsed();
        let claim =
            known.answer.as_ref().map(|(server, report)| self.claim_of(*server, report.claim()));
        let lsn = known.answer.as_ref().and_then(|(_, report)| report.lsn);
        let stale_since = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        let stale_since = stale_since.duration_since(UNIX_EPOCH).unwrap_or_default();
        PrimaryStatus {
            answers,
            host: claim.as_ref().map(|claim| claim.host),
            port: claim.as_ref().map(|claim| claim.port),
            name: claim.as_ref().and_then(|claim| claim.name.clone()),
            timeline: claim.as_ref().and_then(|claim| claim.timeline),
            system: claim.and_then(|claim| claim.system),
            lsn: lsn.map(|lsn| lsn.to_string()),
            stale_ms: (!answers).then(|| milliseconds(age)),
            stale_since: (!answers).then_some(stale_since.as_secs()),
            several: known.several.clone(),
            stale: known.stale.clone(),
            unplaced: known.answer.as_ref().map_or_else(Vec::new, |(_, report)| {
                unplaced(self.balancer.config(), &report.walsenders)
            }),
            errors: known.errors.clone(),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a check found out, with the standbys behind a standby.
fn identified(config: &Config, checked: Checked) -> Finding {
    let mut finding = checked.finding;
    if let Finding::Standby(standby) = &mut finding {
        standby.walsenders = walsenders(config, &checked.walsenders);
    }
    finding
}

fn walsenders(config: &Config, named: &[NamedWalsender]) -> Vec<Walsender> {
    let identified = named.iter().filter_map(|walsender| {
        Some(Walsender {
            address: config.address_of(&walsender.application_name, walsender.client).ok()?,
            sync_state: walsender.sync_state,
            replay_lag: walsender.replay_lag,
            replayed: walsender.replayed,
        })
    });
    identified.collect()
}

/// The walsenders that lead to no server, or to another's: of several under one name those that do not come
/// from the address that it stands for, where one does.
fn unplaced(config: &Config, walsenders: &[NamedWalsender]) -> Vec<UnplacedWalsender> {
    let address = |of: &NamedWalsender| config.address_of(&of.application_name, of.client);
    let is_at_home = |of: &NamedWalsender| {
        let client = of.client.map(|client| client.to_canonical());
        client.is_some() && client == address(of).ok()
    };
    let reason = |of: &NamedWalsender| match address(of) {
        Err(unplaced) => Some(unplaced),
        Ok(_) if is_at_home(of) => None,
        Ok(_) => {
            let shares = |other: &NamedWalsender| other.application_name == of.application_name;
            let mut others = walsenders.iter().filter(|other| shares(other));
            others.any(is_at_home).then_some(Unplaced::SharedName)
        }
    };
    let of = |walsender: &NamedWalsender| {
        let NamedWalsender { application_name, client, .. } = walsender.clone();
        Some(UnplacedWalsender { application_name, client, reason: reason(walsender)? })
    };
    walsenders.iter().filter_map(of).collect()
}
