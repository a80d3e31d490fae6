//! Which real servers the virtual services have, and with which weight.
//!
//! Events come in by [`Balancer::handle`]; what is to be done comes out by [`Balancer::poll_effect`],
//! and what the data plane is to look like is [`Balancer::plan`]. The rules, in the order in which
//! they are applied:
//!
//! 1. Members are the listed nodes, whoever streams from the primary, or both ([`Discovery`]).
//! 2. A member gets its first client only after `rise` checks in which it answered as a hot standby:
//!    that is why neither `pg_receivewal` nor `pg_basebackup` ever gets one.
//! 3. A vanished walsender drains: it says nothing about the server's sessions. Only direct evidence
//!    makes a server dead ([`Down`]).
//! 4. Fail static: while the primary cannot be asked, what it said last stands.

mod config;
mod event;
mod ids;
mod member;
mod membership;
mod orders;
mod plan;
mod probe;
mod reasons;
mod view;
mod withheld;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

pub use config::{
    AutoWeight, Config, Discovery, LagLimits, Limit, Node, Scheduler, Service, SynLimit,
};
pub use event::{Effect, Event, News, PrimaryAnswer, SyncState, Target, Walsender};
pub use member::{Connections, Down, Finding, Health, Member, Standby, Steering, Streaming};
pub use orders::{Drain, OrderChange, Ordered, Orders, ReaderOrder, ServerOrder};
pub use plan::{Inherited, InheritedReal, Plan, RealPlan, ServicePlan};
pub use probe::{Path, Probe, ProbeFinding, Via, VipStanding};
pub use reasons::{Stamp, WeightReason};
pub use view::{ServerRole, ServerView, ServiceView, Standing};
pub use withheld::Withheld;

use ids::Ids;

use crate::{EffectiveWeight, Moment, Neighbour};

/// One service and its members.
#[derive(Debug)]
struct Pool {
    index: u16,
    service: Service,
    members: BTreeMap<IpAddr, Member>,
}

impl Pool {
    /// The share of new connections a member has.
    fn weight(&self, member: &Member, primary_answers: bool) -> EffectiveWeight {
        if self.withheld(member, primary_answers).is_empty() {
            member.wanted_weight().into()
        } else {
            EffectiveWeight::ZERO
        }
    }

    /// Every reason for which a member gets no new connections. Better a standby that lags or answers
    /// strangely than none: where no member is without a reason, those count that have only such.
    fn withheld(&self, member: &Member, primary_answers: bool) -> Vec<Withheld> {
        let of = |member: &Member| member.withheld(self.service.discovery, primary_answers);
        let reasons = of(member);
        let tolerable = reasons.iter().all(|reason| reason.is_tolerable());
        if tolerable && !self.members.values().any(|other| of(other).is_empty()) {
            return Vec::new();
        }
        reasons
    }

    const fn target(&self, address: IpAddr) -> Target {
        Target { address, port: self.service.port }
    }
}

/// The balancer's decisions.
#[derive(Debug)]
pub struct Balancer {
    config: Config,
    pools: Vec<Pool>,
    ids: Ids,
    /// The last answer of the primary; stays when it is lost.
    primary: Option<PrimaryAnswer>,
    primary_lost: bool,
    /// When the last event came.
    now: Moment,
    /// The hosts that say they are the primary, where that is more than one.
    several: Vec<IpAddr>,
    /// What operators set; `None` until the store has said so.
    orders: Option<Orders>,
    /// The primary was asked, with whatever result.
    asked: bool,
    /// How many answers came in, from whomever.
    answers: u64,
    /// The kernel's neighbour table, as far as it has an address for somebody.
    neighbours: BTreeMap<IpAddr, Neighbour>,
    effects: VecDeque<Effect>,
}

impl Balancer {
    /// Begins with what a former controller left: its servers serve on until something is known.
    #[must_use]
    pub fn new(config: Config, inherited: &Inherited) -> Self {
        let ours = |service: u16| {
            inherited.services.iter().any(|(index, vip, port)| {
                *index == service
                    && config.services.iter().any(|s| (s.vip, s.port) == (*vip, *port))
            })
        };
        let ids = Ids::inherit(&inherited.ids, |real| {
            inherited.reals.iter().any(|left| left.real == real && ours(left.service))
        });
        let mut balancer = Self {
            config: config.clone(),
            pools: Vec::new(),
            ids,
            primary: None,
            primary_lost: true,
            now: Moment::default(),
            several: Vec::new(),
            orders: None,
            asked: false,
            answers: 0,
            neighbours: BTreeMap::new(),
            effects: VecDeque::new(),
        };
        for (index, vip, port) in &inherited.services {
            if let Some(service) = config.services.iter().find(|s| (s.vip, s.port) == (*vip, *port))
            {
                balancer.pools.push(Pool {
                    index: *index,
                    service: service.clone(),
                    members: BTreeMap::new(),
                });
            }
        }
        for left in &inherited.reals {
            balancer.adopt(left);
        }
        balancer.configure(config);
        balancer
    }

    /// Takes in what happened. What follows from it waits in [`Self::poll_effect`].
    pub fn handle(&mut self, now: Moment, event: Event) {
        let before = self.plan();
        self.now = now;
        match event {
            Event::Primary(answer) => {
                self.asked = true;
                self.primary_answered(answer);
            }
            Event::PrimaryLost => {
                self.asked = true;
                self.several.clear();
                self.primary_lost();
            }
            Event::Checked(target, finding) => self.checked(target, &finding),
            Event::SessionEnded(target) => self.effects.push_back(Effect::CheckNow(target)),
            Event::Neighbour(address, neighbour) => self.neighbour(address, neighbour),
            Event::Configured(config) => self.configure(config),
            Event::SeveralPrimaries(answers) => {
                self.asked = true;
                self.several_primaries(&answers);
            }
            Event::Ordered { orders, wall } => self.ordered(orders, wall),
            Event::Probed(..) | Event::VipAnswered { .. } | Event::Tick => {}
        }
        self.forget_those_over();
        if self.plan() != before {
            self.effects.push_back(Effect::Program);
        }
    }

    /// The next thing to be done; `None` when nothing is left.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Event::Tick`] is due, if nothing else happens before; `None`: never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let members = self.pools.iter().flat_map(|pool| pool.members.values());
        members.filter_map(|member| member.ordered.reset_at).filter(|at| *at > self.now).min()
    }

    /// What the data plane is to look like now.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let services = self.pools.iter().map(|pool| ServicePlan {
            index: pool.index,
            vip: pool.service.vip,
            port: pool.service.port,
            scheduler: pool.service.scheduler,
            allowed_clients: pool.service.allowed_clients.clone(),
            syn_limit: pool.service.syn_limit,
            reals: pool
                .members
                .values()
                .filter(|member| member.neighbour.is_some() || member.local)
                .map(|member| RealPlan {
                    real: member.real,
                    address: member.address,
                    neighbour: member.neighbour,
                    local: member.local,
                    dead: member.is_dead(self.now),
                    weight: pool.weight(member, self.primary_answers()),
                    steering: member.ordered.steering,
                })
                .collect(),
        });
        Plan { services: services.collect() }
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the kernel's neighbour table has for an address, whoever that is.
    #[must_use]
    pub fn neighbour_at(&self, address: IpAddr) -> Option<Neighbour> {
        self.neighbours.get(&address).copied()
    }

    /// Whether there is nothing more to wait for before the first client: whoever can be asked was
    /// asked as often as it takes.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let asked = |pool: &Pool| pool.service.discovery == Discovery::Direct || self.asked;
        let judged = |member: &Member| !matches!(member.health, Health::Unproven(_));
        self.pools.iter().all(|pool| asked(pool) && pool.members.values().all(judged))
    }

    /// Whether the primary answered when it was last asked.
    #[must_use]
    pub const fn primary_answers(&self) -> bool {
        !self.primary_lost
    }

    /// Whether a service has this server as a member.
    #[must_use]
    pub fn has_member(&self, service: (IpAddr, u16), address: IpAddr) -> bool {
        self.pools
            .iter()
            .any(|pool| key(&pool.service) == service && pool.members.contains_key(&address))
    }

    fn primary_answered(&mut self, answer: PrimaryAnswer) {
        if self.primary_lost {
            self.tell(News::PrimaryAnswers(answer.walsenders.len()));
        }
        self.primary_lost = false;
        self.several.clear();
        self.count_answer(answer.host);
        self.welcome(&answer);
        let fall = self.config.fall;
        for member in self.pools.iter_mut().flat_map(|pool| pool.members.values_mut()) {
            let named = answer.walsenders.iter().any(|w| w.address == member.address);
            member.missed = if named { 0 } else { member.missed.saturating_add(1) };
            // Standbys need a while to come back to a primary that was restarted.
            if member.missed >= fall {
                member.streaming = Some(Streaming::No);
            }
        }
        self.primary = Some(answer);
    }

    /// Makes members of whoever streams, and notes that they do.
    fn welcome(&mut self, answer: &PrimaryAnswer) {
        // The better of two walsenders of one server counts.
        let mut streaming = BTreeMap::new();
        for walsender in &answer.walsenders {
            let state = streaming.entry(walsender.address).or_insert(walsender.sync_state);
            *state = (*state).max(walsender.sync_state);
        }
        for (address, state) in streaming {
            for index in 0..self.pools.len() {
                if self.pools[index].service.discovery != Discovery::Direct {
                    self.join(index, address, false);
                }
                if let Some(member) = self.pools[index].members.get_mut(&address) {
                    member.streaming = Some(Streaming::Yes(state));
                }
            }
        }
    }

    fn several_primaries(&mut self, answers: &[PrimaryAnswer]) {
        let hosts: Vec<_> = answers.iter().map(|answer| answer.host).collect();
        hosts.iter().for_each(|host| self.count_answer(*host));
        if self.several != hosts {
            self.tell(News::SeveralPrimaries(hosts.clone()));
        }
        self.several = hosts;
        // That is told already, and more exactly.
        self.primary_lost = true;
        self.primary_lost();
    }

    fn primary_lost(&mut self) {
        if !self.primary_lost {
            self.tell(News::PrimaryLost);
        }
        self.primary_lost = true;
        for member in self.pools.iter_mut().flat_map(|pool| pool.members.values_mut()) {
            member.missed = 0;
        }
    }

    /// Notes that somebody answered, as evidence that this node reaches others: what answers on this
    /// very node is none.
    fn count_answer(&mut self, from: IpAddr) {
        self.answers += u64::from(!self.config.local.contains(&from));
    }

    fn checked(&mut self, target: Target, finding: &Finding) {
        let (rise, fall) = (self.config.rise, self.config.fall);
        let silent = matches!(finding, Finding::Silent(_));
        if !matches!(finding, Finding::Silent(_) | Finding::Undecided(_)) {
            self.count_answer(target.address);
        }
        let answers = self.answers;
        let mut news = Vec::new();
        for pool in self.pools.iter_mut().filter(|pool| pool.service.port == target.port) {
            let Some(member) = pool.members.get_mut(&target.address) else { continue };
            // Whoever answered since the check before, while this one was silent: it was another.
            let others_answer = answers > member.heard;
            member.heard = answers;
            member.silences =
                if silent { member.silences.saturating_add(u8::from(others_answer)) } else { 0 };
            let health = member.health.after(finding, rise, fall, member.silences >= fall);
            match (&member.health, &health) {
                (Health::Up(_), Health::Up(_)) => {}
                (_, Health::Up(_)) => news.push(News::Up(target)),
                (Health::Down(before, _), Health::Down(after, _)) if before == after => {}
                (_, Health::Down(down, _)) => news.push(News::Down(target, *down)),
                (_, Health::Unproven(_)) => {}
            }
            member.health = health;
            member.finding = Some(finding.clone());
        }
        news.into_iter().for_each(|news| self.tell(news));
    }

    fn neighbour(&mut self, address: IpAddr, neighbour: Option<Neighbour>) {
        // An entry that the kernel gave up keeps its last address in a member: a server that is
        // alive comes back with the same, and one that is not is found out by its checks.
        let Some(neighbour) = neighbour else {
            self.neighbours.remove(&address);
            return;
        };
        self.neighbours.insert(address, neighbour);
        let mut moved = false;
        for pool in &mut self.pools {
            if let Some(member) = pool.members.get_mut(&address) {
                moved |=
                    member.neighbour.replace(neighbour).is_some_and(|before| before != neighbour);
            }
        }
        if moved {
            self.tell(News::Moved(address, neighbour));
        }
    }

    fn tell(&mut self, news: News) {
        self.effects.push_back(Effect::Tell(news));
    }
}

/// What tells services apart.
const fn key(service: &Service) -> (IpAddr, u16) {
    (service.vip, service.port)
}

#[cfg(test)]
mod tests;
