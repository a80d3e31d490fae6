//! Which real servers the virtual services have, and with which weight.
//!
//! Events come in by [`Balancer::handle`]; what is to be done comes out by [`Balancer::poll_effect`],
//! and what the data plane is to look like is [`Balancer::plan`]. The rules, in the order in which
//! they are applied:
//!
//! 1. Members are the listed nodes, whoever streams from the primary or a standby, or both ([`Discovery`]),
//!    and whom operators added.
//! 2. A member gets its first client only after `rise` checks in which it answered as a hot standby:
//!    that is why neither `pg_receivewal` nor `pg_basebackup` ever gets one.
//! 3. A vanished walsender drains: it says nothing about the server's sessions. Only direct evidence
//!    makes a server dead ([`Down`]).
//! 4. Fail static: while the primary cannot be asked, or several say that they are it, what it said last
//!    stands.
//! 5. A member's reasons against it, who serves by them, and the weight that follows are judged after each
//!    event, in one pass over its service; services in which that would change nothing are left out.

mod cluster;
mod config;
mod event;
mod ids;
mod judge;
mod kinship;
mod lag;
mod member;
mod membership;
mod orders;
mod paths;
mod plan;
mod primary;
mod probe;
mod reasons;
mod streaming;
mod view;
mod weighing;
mod withheld;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

pub use cluster::Cluster;
pub use config::{
    AutoWeight, Config, Discovery, LagLimits, Limit, Node, Scheduler, Service, SynLimit, Unplaced,
};
pub use event::{Effect, Event, News, PrimaryAnswer, SyncState, Target, Walsender};
pub use member::{Connections, Down, Finding, Health, Member, Standby, Steering, Streaming};
pub use orders::{Drain, OrderChange, Ordered, Orders, ReaderOrder, ServerOrder};
pub use plan::{Inherited, InheritedReal, Plan, RealPlan, ServicePlan};
pub use primary::{Choice, Claim, choose};
pub use probe::{Path, Probe, ProbeFinding, Via, VipStanding};
pub use reasons::{Stamp, WeightReason};
pub use view::{ServerRole, ServerView, ServiceView, Standing};
pub use withheld::Withheld;

use ids::Ids;
use lag::Written;
use orders::InForce;
use probe::Passage;

use crate::{Mac, Moment, Neighbour};

/// One service and its members.
#[derive(Debug)]
struct Pool {
    index: u16,
    service: Service,
    members: BTreeMap<IpAddr, Member>,
    /// What the data plane was last to look like; `None` before that was asked.
    planned: Option<ServicePlan>,
    /// How many probes through the VIP were answered by other nodes.
    path_answers: u64,
    /// Something may have changed the judgement of its members since they were judged last.
    touched: bool,
    /// When a member's judgement changes without an event, as it was when they were judged last.
    due: Option<Moment>,
}

/// Whom an event concerns, so that nobody else need be judged anew.
#[derive(Clone, Copy, Debug)]
enum Concerned {
    /// All members of all services.
    All,
    /// One server, in the services with this port.
    Server(Target),
    /// One server in one service.
    One(Path),
    /// Those whose services were touched.
    Touched,
}

impl Pool {
    /// Without members.
    const fn new(index: u16, service: Service) -> Self {
        let members = BTreeMap::new();
        let planned = None;
        Self { index, service, members, planned, path_answers: 0, touched: true, due: None }
    }

    const fn target(&self, address: IpAddr) -> Target {
        Target { address, port: self.service.port }
    }

    const fn path(&self, address: IpAddr) -> Path {
        Path { vip: self.service.vip, port: self.service.port, address }
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
    /// Who says that it is the primary and is not believed.
    disbelieved: Option<PrimaryAnswer>,
    /// When the last event came.
    now: Moment,
    /// The hosts that say they are the primary, where that is more than one.
    several: Vec<IpAddr>,
    /// Where its WAL ended when.
    written: Written,
    /// How many answers it gave.
    rounds: u64,
    /// The data plane is in use.
    begun: bool,
    /// What operators set; `None` until the store has said so.
    orders: Option<InForce>,
    /// The primary was asked, with whatever result.
    asked: bool,
    /// How many answers came in, from whomever.
    answers: u64,
    /// The last word about the primary was one of its own, and it is another node.
    primary_heard: bool,
    /// The kernel's neighbour table, as far as it has an address for somebody.
    neighbours: BTreeMap<IpAddr, Neighbour>,
    effects: VecDeque<Effect>,
    /// For whom there was no id.
    full: BTreeSet<Path>,
    /// The standbys that ever had others behind them.
    upstreams: BTreeSet<IpAddr>,
    /// A service or a member has left since the last event.
    left: bool,
    /// What the record of managed nodes says.
    cluster: Option<(Cluster, cluster::Placed)>,
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
            disbelieved: None,
            now: Moment::default(),
            several: Vec::new(),
            written: Written::default(),
            rounds: 0,
            begun: false,
            orders: None,
            asked: false,
            answers: 0,
            primary_heard: false,
            neighbours: BTreeMap::new(),
            effects: VecDeque::new(),
            full: BTreeSet::new(),
            upstreams: BTreeSet::new(),
            left: false,
            cluster: None,
        };
        for (index, vip, port) in &inherited.services {
            if let Some(service) = config.services.iter().find(|s| (s.vip, s.port) == (*vip, *port))
            {
                balancer.pools.push(Pool::new(*index, service.clone()));
            }
        }
        for left in &inherited.reals {
            balancer.adopt(left);
        }
        balancer.configure(config);
        balancer.probe_paths();
        balancer.judge();
        balancer
    }

    /// Takes in what happened. What follows from it waits in [`Self::poll_effect`].
    pub fn handle(&mut self, now: Moment, event: Event) {
        self.now = self.now.max(now);
        self.forget_leaks();
        let concerned = match event {
            Event::Primary(answer) => {
                self.asked = true;
                self.primary_answered(answer);
                Concerned::All
            }
            Event::PrimaryLost => {
                self.asked = true;
                self.primary_heard = false;
                self.primary_lost();
                Concerned::All
            }
            Event::PrimaryForgotten => {
                self.primary_heard = false;
                self.forget_primary();
                Concerned::All
            }
            Event::SeveralPrimaries { answers, answered } => {
                self.asked = true;
                self.several_primaries(&answers, answered);
                Concerned::All
            }
            Event::Checked(target, finding) => {
                if self.checked(target, &finding) {
                    Concerned::All
                } else {
                    Concerned::Server(target)
                }
            }
            Event::SessionEnded(target) => {
                self.effects.push_back(Effect::CheckNow(target));
                Concerned::Touched
            }
            Event::Neighbour(address, neighbour) => {
                self.neighbour(address, neighbour);
                Concerned::Touched
            }
            Event::Configured(config) => {
                self.configure(config);
                Concerned::All
            }
            Event::Probed(path, finding) => {
                self.probed(path, &finding);
                Concerned::One(path)
            }
            Event::VipAnswered { vip, mac } => {
                self.vip_answered(vip, mac);
                Concerned::All
            }
            Event::Ordered { orders, wall } => {
                self.ordered(orders, wall);
                Concerned::All
            }
            Event::Cluster(cluster) => {
                self.cluster_told(cluster);
                Concerned::All
            }
            Event::Tick => Concerned::Touched,
        };
        self.settle(concerned);
    }

    /// The next thing to be done; `None` when nothing is left.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What the data plane is to look like now.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan { services: self.pools.iter().map(Pool::plan).collect() }
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
        let asked = |pool: &Pool| !pool.service.discovery.asks_primary() || self.asked;
        let judged = |member: &Member| match member.health {
            Health::Unproven(_) => false,
            Health::Up(_) => member.probed.is_none() || !member.passage.is_unchecked(),
            Health::Down(..) => true,
        };
        self.pools.iter().all(|pool| asked(pool) && pool.members.values().all(judged))
    }

    /// Whether the primary answered when it was last asked.
    #[must_use]
    pub const fn primary_answers(&self) -> bool {
        !self.primary_lost
    }

    /// Whether no other node answers any more: neither a server, `fall` times in a row, nor the primary. Then
    /// this one is cut off, or all of them are gone; everybody stays as he was.
    #[must_use]
    pub fn hears_nobody(&self) -> bool {
        let members = self.pools.iter().flat_map(|pool| pool.members.values());
        let mut others = members.filter(|member| !member.local).peekable();
        others.peek().is_some()
            && !self.primary_heard
            && others.all(|member| member.silent >= self.config.fall)
    }

    /// Whether a service has this server as a member.
    #[must_use]
    pub fn has_member(&self, service: (IpAddr, u16), address: IpAddr) -> bool {
        self.pools
            .iter()
            .any(|pool| key(&pool.service) == service && pool.members.contains_key(&address))
    }

    /// Whether a MAC address is that of a server that is another node.
    #[must_use]
    pub fn is_server(&self, mac: Mac) -> bool {
        let mut members = self.pools.iter().flat_map(|pool| pool.members.values());
        members.any(|m| !m.local && m.neighbour.is_some_and(|neighbour| neighbour.mac == mac))
    }

    /// Notes that somebody answered, as evidence that this node reaches others: what answers on this
    /// very node is none.
    fn count_answer(&mut self, from: IpAddr) {
        self.answers += u64::from(!self.config.local.contains(&from));
    }

    /// Takes in a check. Whether it concerns other servers too.
    fn checked(&mut self, target: Target, finding: &Finding) -> bool {
        let (rise, fall) = (self.config.rise, self.config.fall);
        let silent = matches!(finding, Finding::Silent(_));
        // Who refuses the login has answered.
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
            member.take(health);
            if let Finding::Standby(Standby { timeline, .. }) = finding {
                member.newest = member.newest.max(*timeline);
            }
            let out = matches!(finding, Finding::NotInRecovery { .. });
            pool.touched |= out && member.finding.as_ref() != Some(finding);
            member.hear(finding, self.now);
            member.finding = Some(finding.clone());
        }
        // The same of all its services.
        news.dedup();
        news.into_iter().for_each(|news| self.tell(news));
        if let Finding::Standby(standby) = finding {
            self.measure(target, standby);
            self.cascaded(target.address, target.port, &standby.walsenders);
            return self.reconsider_primary(target.address);
        }
        false
    }

    /// Notes how far a standby is and how busy.
    fn measure(&mut self, target: Target, standby: &Standby) {
        let primary = self.primary.as_ref().filter(|_| !self.primary_lost);
        let walsenders = primary.iter().flat_map(|primary| &primary.walsenders);
        let walsender = walsenders.into_iter().find(|w| w.address == target.address);
        let lag = primary.map(|_| self.written.measure(self.now, standby, walsender));
        let asked = self.asked;
        for pool in self.pools.iter_mut().filter(|pool| pool.service.port == target.port) {
            let Some(member) = pool.members.get_mut(&target.address) else { continue };
            let descent = member.kinship.descent();
            member.kinship.checked(standby, self.rounds, primary);
            pool.touched |= member.kinship.descent() != descent;
            member.connections = standby.connections.or(member.connections);
            // Fail static: while the primary does not answer, what was measured last stands. Where none
            // is ever asked, a standby's own word is all there is.
            let alone = !asked && !pool.service.discovery.asks_primary();
            if let Some(lag) = lag.or_else(|| alone.then(|| lag::by_itself(standby))) {
                member.lag = Some(lag);
                member.lagging = pool.service.lag.lagging(lag, member.lagging);
            }
        }
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
            let Some(member) = pool.members.get_mut(&address) else { continue };
            let before = member.neighbour.replace(neighbour);
            pool.touched |= before != Some(neighbour);
            moved |= before.is_some_and(|before| before != neighbour);
            if before.is_some_and(|before| before.mac != neighbour.mac) {
                // Another host, or another card of it: nothing is proven of this way.
                member.passage = Passage::default();
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
