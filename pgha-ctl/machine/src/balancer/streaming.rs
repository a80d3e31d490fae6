//! What the primary and the standbys say of who streams from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::event::{News, PrimaryAnswer, SyncState, Walsender};
use super::lag::Written;
use super::member::{Down, Finding, Health, Member, Streaming};
use super::primary::Claim;
use super::{Balancer, Pool};

impl Balancer {
    pub(super) fn primary_answered(&mut self, answer: PrimaryAnswer) {
        if self.is_contradicted(&answer) {
            self.disbelieve(answer);
            return;
        }
        self.disbelieved = None;
        if self.primary_lost {
            self.tell(News::PrimaryAnswers(answer.walsenders.len()));
        }
        self.primary_lost = false;
        self.several.clear();
        self.heard_primary(answer.host);
        self.rounds += 1;
        let another = self.primary.as_ref().is_some_and(|before| {
            (before.timeline, before.system) != (answer.timeline, answer.system)
        });
        if another {
            self.written = Written::default();
        }
        if let Some(end) = answer.lsn {
            self.written.note(self.now, end);
        }
        self.welcome(&answer);
        self.welcome_primary(answer.host);
        let (fall, answers) = (self.config.fall, self.rounds);
        self.pools.iter_mut().for_each(Pool::doubt_upstreams);
        let counts: Vec<_> =
            self.pools.iter().map(|of| self.counts_walsenders(of.service.discovery)).collect();
        let members = self.pools.iter_mut().zip(counts);
        let members = members
            .flat_map(|(pool, counts)| pool.members.values_mut().map(move |one| (one, counts)));
        for (member, counts) in members {
            if another {
                member.kinship.forget();
            }
            member.kinship.compare(&answer, answers);
            if member.upstream.is_some() {
                // Whether it streams is its upstream's to say.
                continue;
            }
            let named = answer.walsenders.iter().any(|w| w.address == member.address);
            member.missed = if named { 0 } else { member.missed.saturating_add(u8::from(counts)) };
            // Standbys need a while to come back to a primary that was restarted.
            if member.missed >= fall {
                member.streaming = Some(Streaming::No);
            }
        }
        self.primary = Some(answer);
    }

    /// Makes members of whoever streams from the primary, and notes that they do.
    pub(super) fn welcome(&mut self, answer: &PrimaryAnswer) {
        for (address, state) in best(&answer.walsenders) {
            for index in 0..self.pools.len() {
                if self.pools[index].service.discovery.welcomes() {
                    self.join(index, address, false);
                }
                if let Some(member) = self.pools[index].members.get_mut(&address) {
                    member.streaming = Some(Streaming::Yes(state));
                    (member.upstream, member.missed) = (None, 0);
                }
            }
        }
    }

    /// Makes a member of the primary where a service falls back to it, and of no former primary.
    pub(super) fn welcome_primary(&mut self, host: IpAddr) {
        for index in 0..self.pools.len() {
            // By a loopback address nobody else reaches it.
            let wanted = self.pools[index].service.fallback_to_primary && !host.is_loopback();
            if wanted {
                self.join(index, host, false);
            }
            for member in self.pools[index].members.values_mut() {
                member.fallback = wanted && member.address == host;
            }
        }
    }

    /// Takes in the walsenders of a standby: those that are cascaded behind it. Whoever streams from the
    /// primary too is the primary's to speak of.
    pub(super) fn cascaded(&mut self, upstream: IpAddr, port: u16, walsenders: &[Walsender]) {
        let named = best(walsenders);
        let of_primary = |address: &IpAddr| {
            let mut told = self.primary.iter().flat_map(|primary| &primary.walsenders);
            told.any(|walsender| walsender.address == *address)
        };
        let named: BTreeMap<_, _> = named
            .into_iter()
            .filter(|(address, _)| *address != upstream && !of_primary(address))
            .collect();
        if !named.is_empty() {
            self.upstreams.insert(upstream);
        } else if !self.upstreams.contains(&upstream) {
            return;
        }
        let fall = self.config.fall;
        for index in 0..self.pools.len() {
            let pool = &self.pools[index];
            if pool.service.port != port || !pool.members.contains_key(&upstream) {
                continue;
            }
            if pool.service.discovery.welcomes() {
                named.keys().for_each(|address| self.join(index, *address, false));
            }
            // They are few, and others than the one that was checked.
            self.pools[index].touched = true;
            for member in self.pools[index].members.values_mut() {
                if let Some(state) = named.get(&member.address) {
                    member.streaming = Some(Streaming::Yes(*state));
                    (member.upstream, member.missed) = (Some(upstream), 0);
                } else if member.upstream == Some(upstream) {
                    member.missed = member.missed.saturating_add(1);
                    if member.missed >= fall {
                        member.streaming = Some(Streaming::No);
                    }
                }
            }
        }
    }

    /// Whether most of the standbys that answer contradict this claim: of the last promotion and of the
    /// cluster they know what a controller that was restarted has forgotten.
    fn is_contradicted(&self, answer: &PrimaryAnswer) -> bool {
        let claim = Claim { timeline: answer.timeline, system: answer.system };
        let members = self.pools.iter().flat_map(|pool| pool.members.values());
        let asked = members.filter(|m| matches!(m.finding, Some(Finding::Standby(_))));
        let words: BTreeMap<_, _> =
            asked.map(|member| (member.address, member.kinship.contradicts(claim))).collect();
        let against = words.values().filter(|against| **against).count();
        2 * against > words.len()
    }

    /// Goes on as if the primary were lost. What was believed of this one before is forgotten.
    fn disbelieve(&mut self, answer: PrimaryAnswer) {
        self.heard_primary(answer.host);
        let same = |other: &PrimaryAnswer| {
            (other.host, other.timeline, other.system)
                == (answer.host, answer.timeline, answer.system)
        };
        if self.primary.as_ref().is_some_and(same) {
            self.forget_primary();
            self.asked = true;
        }
        self.primary_lost();
        if !self.disbelieved.as_ref().is_some_and(same) {
            self.tell(News::NotBelieved(answer.clone()));
        }
        self.disbelieved = Some(answer);
    }

    /// After a check of a standby: whether the primary is believed no longer.
    pub(super) fn reconsider_primary(&mut self, address: IpAddr) -> bool {
        let Some(answer) = self.primary.as_ref().filter(|_| !self.primary_lost) else {
            return false;
        };
        let claim = Claim { timeline: answer.timeline, system: answer.system };
        let members = self.pools.iter().filter_map(|pool| pool.members.get(&address));
        let contradicted = members.into_iter().any(|member| member.kinship.contradicts(claim));
        if !contradicted || !self.is_contradicted(answer) {
            return false;
        }
        let answer = answer.clone();
        self.disbelieve(answer);
        true
    }

    /// Another primary is asked, or none: nothing that the one before said holds any longer.
    pub(super) fn forget_primary(&mut self) {
        (self.primary, self.primary_lost) = (None, true);
        (self.asked, self.disbelieved) = (false, None);
        self.several.clear();
        self.written = Written::default();
        for member in self.pools.iter_mut().flat_map(|pool| pool.members.values_mut()) {
            member.kinship.forget();
            (member.lag, member.lagging, member.fallback) = (None, false, false);
            if member.upstream.is_none() {
                (member.streaming, member.missed) = (None, 0);
            }
        }
    }

    pub(super) fn several_primaries(
        &mut self,
        answers: &[PrimaryAnswer],
        answered: Option<IpAddr>,
    ) {
        let hosts: Vec<_> = answers.iter().map(|answer| answer.host).collect();
        // What the others said before was counted when they said it.
        answered.into_iter().for_each(|host| self.heard_primary(host));
        if self.several != hosts {
            self.tell(News::SeveralPrimaries(hosts.clone()));
        }
        self.several = hosts;
        self.stand_still();
    }

    pub(super) fn primary_lost(&mut self) {
        if !self.primary_lost {
            self.tell(News::PrimaryLost);
        }
        self.several.clear();
        self.stand_still();
    }

    /// Notes that a host that says it is the primary answered.
    fn heard_primary(&mut self, host: IpAddr) {
        self.count_answer(host);
        self.primary_heard = !self.config.local.contains(&host);
    }

    /// Until the primary answers again, nothing that it said is counted on.
    fn stand_still(&mut self) {
        self.primary_lost = true;
        for member in self.pools.iter_mut().flat_map(|pool| pool.members.values_mut()) {
            if member.upstream.is_none() {
                member.missed = 0;
            }
        }
    }
}

impl Pool {
    /// Who streams from a standby that is gone, or none any more, is the primary's to speak of again.
    fn doubt_upstreams(&mut self) {
        let fit = |member: &&Member| {
            !member.health.is_dead()
                && !matches!(member.health, Health::Down(Down::NotInRecovery, _))
        };
        let fit: BTreeSet<_> = self.members.values().filter(fit).map(|m| m.address).collect();
        for member in self.members.values_mut() {
            if member.upstream.is_some_and(|upstream| !fit.contains(&upstream)) {
                (member.upstream, member.missed) = (None, 0);
            }
        }
    }
}

/// Who streams: of several walsenders of one server, the better one counts.
fn best(walsenders: &[Walsender]) -> BTreeMap<IpAddr, SyncState> {
    let mut streaming = BTreeMap::new();
    for walsender in walsenders {
        let state = streaming.entry(walsender.address).or_insert(walsender.sync_state);
        *state = (*state).max(walsender.sync_state);
    }
    streaming
}
