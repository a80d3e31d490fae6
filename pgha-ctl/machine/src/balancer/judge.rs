//! Who gets new connections, and how many: the judgement that follows every event.

use std::net::IpAddr;

use super::cluster::{self, Placed};
use super::config::Discovery;
use super::event::{Effect, News, PrimaryAnswer};
use super::member::{Finding, Member};
use super::plan::{RealPlan, ServicePlan};
use super::primary::Claim;
use super::probe::Path;
use super::reasons::WeightReason;
use super::weighing::{Weighing, next_step};
use super::withheld::Withheld;
use super::{Balancer, Concerned, Pool, key};
use crate::{EffectiveWeight, Moment};

/// What the judgement of one server needs to know beyond the server.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    pub(super) now: Moment,
    /// The last answer of the primary, however old.
    pub(super) primary: Option<&'a PrimaryAnswer>,
    /// The primary answers.
    pub(super) answers: bool,
    /// Several hosts say that they are the primary.
    pub(super) several: bool,
    /// The data plane is in use.
    pub(super) begun: bool,
    /// The store has said what operators set.
    pub(super) orders_known: bool,
    /// What the record of managed nodes says.
    pub(super) cluster: Option<&'a Placed>,
}

impl Sight<'_> {
    /// Whether a server serves on because nothing new is known of it: the primary does not answer, and
    /// all that speaks against it is what the primary said.
    fn stands_still(&self, member: &Member, reasons: &[Withheld]) -> bool {
        let told = |of: &Withheld| matches!(of, Withheld::NotStreaming | Withheld::Lagging);
        !self.answers
            && self.primary.is_some()
            && member.verdict.serving == Serving::Tolerated
            && reasons.iter().all(told)
    }
}

/// The judgement of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// What speaks against it.
    pub(super) reasons: Vec<Withheld>,
    pub(super) serving: Serving,
    pub(super) weight: EffectiveWeight,
    pub(super) dead: bool,
}

/// Whether a server gets new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Serving {
    /// It does, and nothing speaks against it.
    Yes,
    /// It does, because none is left against which nothing speaks.
    Tolerated,
    /// It does as the primary, because no standby is left.
    Fallback,
    #[default]
    No,
}

impl Pool {
    /// Judges every member anew.
    ///
    /// Those serve against whom nothing speaks. Better a standby that lags or answers strangely than none:
    /// where there is no such server, those serve that have only tolerable reasons; where there is none of
    /// these either, the primary, if the service says so.
    pub(super) fn judge(&mut self, sight: &Sight<'_>) -> Vec<News> {
        if self.service.discovery == Discovery::Writer {
            return self.judge_writers(sight);
        }
        let reasons: Vec<_> =
            self.members.values().map(|m| m.reasons(&self.service, sight)).collect();
        let level = level(&reasons);
        let primary = if level == Serving::Fallback { self.primary(&reasons, sight) } else { None };
        let vouched = level != Serving::Fallback || self.is_vouched(sight);
        // A server need not begin slowly where nobody else could take its part.
        let others_serve = self.members.values().any(|m| m.verdict.serving == Serving::Yes);
        let (vip, port) = (self.service.vip, self.service.port);
        let mut news = Vec::new();
        for (member, reasons) in self.members.values_mut().zip(reasons) {
            let serving = match level {
                Serving::Yes if reasons.is_empty() => Serving::Yes,
                // That another one is no longer held back by what the primary said is no reason against
                // this one.
                Serving::Yes if sight.stands_still(member, &reasons) => Serving::Tolerated,
                Serving::Tolerated if tolerable(&reasons) => Serving::Tolerated,
                Serving::Fallback if primary == Some(member.address) => Serving::Fallback,
                // By the word of a primary from which nobody streams the last ones do not go.
                Serving::Fallback if !vouched && serves_but_for_kinship(member, &reasons) => {
                    Serving::Tolerated
                }
                Serving::Yes | Serving::Tolerated | Serving::Fallback | Serving::No => Serving::No,
            };
            if reasons.iter().any(|of| of.is_of_vip() || of.is_of_kinship()) {
                // Others have its clients meanwhile, as if it were down.
                member.fresh |= serving == Serving::No;
            }
            if serving == Serving::Yes && std::mem::take(&mut member.fresh) {
                let slowly = sight.begun && others_serve && !self.service.slow_start.is_zero();
                member.rising = slowly.then_some(sight.now);
            }
            let weighing = Weighing::of(member, &self.service, sight.now);
            member.rising = member.rising.filter(|_| weighing.is_rising());
            member.followed = weighing.followed();
            let serves = serving != Serving::No;
            let verdict = Verdict {
                weight: if serves { weighing.weight() } else { EffectiveWeight::ZERO },
                dead: member.is_dead(sight.now),
                serving,
                reasons,
            };
            let path = Path { vip, port, address: member.address };
            news.extend(told(path, &member.verdict, &verdict));
            member.verdict = verdict;
        }
        news
    }

    /// Whether nothing follows from what is known of this member now: it stays, is probed as it is, and has
    /// the same reasons against it and the same weight. Then nothing follows for the others either, since of
    /// a member they depend on its reasons alone, and on its descent, which touches them where it changes.
    fn stands(&self, member: &Member, sight: &Sight<'_>, orders_known: bool) -> bool {
        let verdict = &member.verdict;
        let weighing = Weighing::of(member, &self.service, sight.now);
        let weight = || match verdict.serving {
            Serving::No => EffectiveWeight::ZERO,
            Serving::Yes | Serving::Tolerated | Serving::Fallback => weighing.weight(),
        };
        !self.is_over(member, orders_known)
            && member.probed == member.probing(self.service.probe)
            && member.reasons(&self.service, sight) == verdict.reasons
            && self.is_dead(member, sight) == verdict.dead
            && weighing.followed() == member.followed
            && weight() == verdict.weight
    }

    /// The judgement of a service that only the primary serves. Nobody can take its part: whatever does not make it
    /// impossible that it serves is told, and no more.
    fn judge_writers(&mut self, sight: &Sight<'_>) -> Vec<News> {
        let reasons: Vec<_> =
            self.members.values().map(|m| m.reasons(&self.service, sight)).collect();
        let dead: Vec<_> = self.members.values().map(|m| self.is_dead(m, sight)).collect();
        let (vip, port) = (self.service.vip, self.service.port);
        let epoch = sight.cluster.map(|placed| placed.epoch);
        let mut news = Vec::new();
        for (member, (reasons, dead)) in
            self.members.values_mut().zip(reasons.into_iter().zip(dead))
        {
            let serves = reasons.iter().all(|of| of.is_tolerable() || of.is_of_vip());
            let serving = match (serves, &reasons[..]) {
                (false, _) => Serving::No,
                (true, []) => Serving::Yes,
                (true, _) => Serving::Tolerated,
            };
            let weight = if serves {
                Weighing::of(member, &self.service, sight.now).weight()
            } else {
                EffectiveWeight::ZERO
            };
            let verdict = Verdict { reasons, serving, weight, dead };
            let path = Path { vip, port, address: member.address };
            news.extend(cluster::moved(path, epoch, member.verdict.serves(), serves));
            member.wrote |= serves;
            member.verdict = verdict;
        }
        news
    }

    /// Whether a member's sessions are gone, or are to go. Those of writers go with the term of the primary.
    fn is_dead(&self, member: &Member, sight: &Sight<'_>) -> bool {
        let written_to = || sight.cluster.is_none_or(|of| of.is_written_to(member.address));
        if self.service.discovery == Discovery::Writer {
            return member.health.is_dead() || (member.wrote && !written_to());
        }
        member.is_dead(sight.now)
    }

    /// The primary to fall back to: of those that only are no standbys, the one that the balancer asks;
    /// where it asks an address that is no member, or none, the only one, unless it is of another cluster or
    /// on an older timeline than anybody known. While several say that they are the primary, nothing changes.
    fn primary(&self, reasons: &[Vec<Withheld>], sight: &Sight<'_>) -> Option<IpAddr> {
        if !self.service.fallback_to_primary {
            return None;
        }
        let fit = self.members.values().zip(reasons);
        let fit = fit.filter(|(_, reasons)| **reasons == [Withheld::NotInRecovery]);
        let fit: Vec<_> = fit.map(|(member, _)| member).collect();
        if sight.several {
            let serves = |member: &&&Member| member.verdict.serving == Serving::Fallback;
            return fit.iter().find(serves).map(|member| member.address);
        }
        let asked = sight.primary.map(|primary| primary.host);
        if let Some(asked) = asked.filter(|asked| self.members.contains_key(asked)) {
            return fit.iter().map(|member| member.address).find(|address| *address == asked);
        }
        match &fit[..] {
            [only] if self.is_newest(only, sight.primary) => Some(only.address),
            _ => None,
        }
    }

    /// Whether nobody known contradicts that this server is the primary of its cluster.
    fn is_newest(&self, member: &Member, primary: Option<&PrimaryAnswer>) -> bool {
        let Some(Finding::NotInRecovery { timeline, system }) = member.finding else {
            return false;
        };
        let claim = Claim { timeline, system };
        let foreign = primary.and_then(|primary| primary.system.zip(system));
        let later = primary.and_then(|primary| primary.timeline.zip(timeline));
        foreign.is_none_or(|(its, own)| its == own)
            && later.is_none_or(|(its, own)| its <= own)
            && !self.members.values().any(|other| other.kinship.contradicts(claim))
    }

    /// Whether a member streams from the primary, which is no stranger then.
    fn is_vouched(&self, sight: &Sight<'_>) -> bool {
        let mut named = sight.primary.iter().flat_map(|primary| &primary.walsenders);
        named.any(|walsender| self.members.contains_key(&walsender.address))
    }

    /// What the data plane is to look like.
    pub(super) fn plan(&self) -> ServicePlan {
        let reals = self.members.values();
        let reals = reals.filter(|member| member.neighbour.is_some() || member.local);
        ServicePlan {
            index: self.index,
            vip: self.service.vip,
            port: self.service.port,
            scheduler: self.service.scheduler,
            allowed_clients: self.service.allowed_clients.clone(),
            syn_limit: self.service.syn_limit,
            reals: reals
                .map(|member| RealPlan {
                    real: member.real,
                    address: member.address,
                    neighbour: member.neighbour,
                    local: member.local,
                    dead: member.verdict.dead,
                    weight: member.verdict.weight,
                    steering: member.ordered.steering,
                })
                .collect(),
        }
    }

    /// When a member's judgement changes without an event.
    fn due(&self, now: Moment) -> Option<Moment> {
        let due = |member: &Member| {
            let step = member.rising.and_then(|at| next_step(at, self.service.slow_start, now));
            [member.ordered.reset_at, member.leaks_until, step]
        };
        self.members.values().flat_map(due).flatten().filter(|at| *at > now).min()
    }
}

/// Whether a server serves now, and all that speaks against it that is not tolerable is its descent.
fn serves_but_for_kinship(member: &Member, reasons: &[Withheld]) -> bool {
    let serves = matches!(member.verdict.serving, Serving::Yes | Serving::Tolerated);
    serves && reasons.iter().all(|of| of.is_tolerable() || of.is_of_kinship())
}

fn tolerable(reasons: &[Withheld]) -> bool {
    reasons.iter().all(|reason| reason.is_tolerable())
}

/// How much must be tolerated for anybody to serve.
fn level(reasons: &[Vec<Withheld>]) -> Serving {
    if reasons.iter().any(Vec::is_empty) {
        Serving::Yes
    } else if reasons.iter().any(|reasons| tolerable(reasons)) {
        Serving::Tolerated
    } else {
        Serving::Fallback
    }
}

/// What people are told of a new verdict, where its health's news do not say it.
fn told(path: Path, before: &Verdict, after: &Verdict) -> Vec<News> {
    let mut news = Vec::new();
    let of_interest = |verdict: &Verdict, of: Withheld| {
        // Nobody gives a primary the readers' VIP.
        let primary = verdict.reasons.contains(&Withheld::NotInRecovery);
        verdict.reasons.contains(&of) && of.is_news() && !(primary && of.is_of_vip())
    };
    for of in
        after.reasons.iter().filter(|of| of_interest(after, **of) && !of_interest(before, **of))
    {
        news.push(News::Withheld(path, *of));
    }
    for of in
        before.reasons.iter().filter(|of| of_interest(before, **of) && !after.reasons.contains(of))
    {
        news.push(News::Mended(path, *of));
    }
    let serves = |verdict: &Verdict| verdict.serving == Serving::Fallback;
    match (serves(before), serves(after)) {
        (false, true) => news.push(News::FallsBack(path)),
        (true, false) => news.push(News::FallsBackNoMore(path)),
        (false, false) | (true, true) => {}
    }
    news
}

impl Verdict {
    /// Whether it gets new connections.
    pub(super) fn serves(&self) -> bool {
        self.serving != Serving::No
    }

    /// For operators: why it gets no new connections.
    pub(super) fn withheld(&self) -> Vec<Withheld> {
        if self.serving == Serving::No { self.reasons.clone() } else { Vec::new() }
    }

    /// For operators: the last steps to its weight.
    pub(super) fn weight_reasons(&self) -> Vec<WeightReason> {
        match self.serving {
            Serving::Yes => Vec::new(),
            Serving::Tolerated => {
                self.reasons.iter().map(|of| WeightReason::Tolerated { of: *of }).collect()
            }
            Serving::Fallback => vec![WeightReason::Fallback],
            Serving::No => {
                self.reasons.iter().map(|of| WeightReason::Withheld { of: *of }).collect()
            }
        }
    }
}

/// How the data plane is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    None,
    /// Servers get more, and it may wait.
    Gain,
    /// In any other way.
    Loss,
}

impl Change {
    fn between(before: Option<&ServicePlan>, after: &ServicePlan) -> Self {
        match before {
            Some(before) if before == after => Self::None,
            Some(before) if after.only_adds_to(before) => Self::Gain,
            Some(_) | None => Self::Loss,
        }
    }
}

impl Balancer {
    /// The driver has put the data plane to use: whoever comes up from now on may have to begin slowly,
    /// because others have the clients.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// When [`super::Event::Tick`] is due, if nothing else happens before; `None`: never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.pools.iter().filter_map(|pool| pool.due).min()
    }

    const fn sight(&self) -> Sight<'_> {
        Sight {
            now: self.now,
            primary: self.primary.as_ref(),
            answers: !self.primary_lost,
            several: !self.several.is_empty(),
            begun: self.begun,
            orders_known: self.orders.is_some(),
            cluster: match &self.cluster {
                Some((_, placed)) => Some(placed),
                None => None,
            },
        }
    }

    /// Draws the conclusions from an event.
    pub(super) fn settle(&mut self, concerned: Concerned) {
        self.touch(concerned);
        self.forget_those_over();
        self.join_again();
        self.probe_paths();
        match (self.judge(), std::mem::take(&mut self.left)) {
            (Change::Loss, _) | (_, true) => self.effects.push_back(Effect::Program),
            (Change::Gain, false) => self.effects.push_back(Effect::ProgramSoon),
            (Change::None, false) => {}
        }
    }

    /// Finds the services in which anything follows from an event, or from the time.
    fn touch(&mut self, concerned: Concerned) {
        let mut pools = std::mem::take(&mut self.pools);
        let (sight, orders_known) = (self.sight(), self.orders.is_some());
        for pool in &mut pools {
            let service = &pool.service;
            let address = match concerned {
                Concerned::All => {
                    pool.touched = true;
                    continue;
                }
                Concerned::Server(target) => {
                    (target.port == service.port).then_some(target.address)
                }
                Concerned::One(path) => {
                    ((path.vip, path.port) == key(service)).then_some(path.address)
                }
                Concerned::Touched => None,
            };
            let member = address.and_then(|address| pool.members.get(&address));
            pool.touched |= pool.due.is_some_and(|due| due <= self.now)
                || member.is_some_and(|member| !pool.stands(member, &sight, orders_known));
        }
        self.pools = pools;
    }

    /// Judges the services that were touched. How the data plane is to change.
    pub(super) fn judge(&mut self) -> Change {
        let mut pools = std::mem::take(&mut self.pools);
        let sight = self.sight();
        let mut change = Change::None;
        let mut effects = Vec::new();
        for pool in pools.iter_mut().filter(|pool| pool.touched) {
            effects.extend(pool.judge(&sight).into_iter().map(Effect::Tell));
            pool.touched = false;
            pool.due = pool.due(sight.now);
            let plan = pool.plan();
            change = change.max(Change::between(pool.planned.as_ref(), &plan));
            pool.planned = Some(plan);
        }
        self.pools = pools;
        self.effects.extend(effects);
        change
    }
}
