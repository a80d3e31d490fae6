//! The task that looks after the writer VIP: each second, and whenever the kernel tells of a change.
//!
//! It is alone in changing the VIP, and looks at the order anew right before each change and after it, so that
//! no order to release is overtaken. What it may lose by being stopped in between is what the guardian and
//! the gate are for.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use pgha_machine::Mac;
use pgha_machine::vip::{Effect, Event, Keeper, Link, News, Orders, Sight, Wanted, Way};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::super::faults::{Cause, Faults};
use super::super::status::RivalStatus;
use crate::clock::{self, Timer};
use crate::net::vip::{self, Claims, Placed};
use crate::net::{Changes, Interface, NetError, Netlink, local_macs};

/// How often the kernel is asked, besides whenever it tells of a change.
const LOOK: Duration = Duration::from_secs(1);
/// How long others have to answer before it is here, and while it is.
const PROBED: Duration = Duration::from_millis(300);
const ASKED: Duration = Duration::from_millis(500);

/// What is ordered, and how often it was released.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordered {
    pub(super) orders: Orders,
    pub(super) turn: u64,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The VIP, with its interface as it was seen last.
    pub(super) placed: Placed,
    /// It is here and may be.
    pub(super) here: bool,
    /// It was seen to be off since it was released for that time.
    pub(super) off: u64,
    /// What the kernel refuses.
    pub(super) trouble: Option<String>,
    /// Who else has it.
    pub(super) rivals: Vec<RivalStatus>,
}

impl Known {
    pub(super) const fn of(placed: Placed) -> Self {
        Self { placed, here: false, off: 0, trouble: None, rivals: Vec::new() }
    }
}

/// Who was heard to have it.
type Heard = Vec<(Mac, Way)>;

/// What the task has.
pub(super) struct Keeping {
    ordered: watch::Receiver<Ordered>,
    tell: watch::Sender<Known>,
    faults: Faults,
    keeper: Keeper,
    known: Known,
    netlink: Option<Netlink>,
    changes: Option<Changes>,
    claims: Option<Claims>,
    questions: JoinSet<Result<Heard, NetError>>,
    timer: Timer,
    /// The kernel has answered since it was last judged.
    looked: bool,
    /// How often it was released, and whether the kernel has answered since.
    turn: u64,
    looked_since: bool,
}

impl Keeping {
    /// # Errors
    /// The kernel has no timer.
    pub(super) fn new(
        ordered: watch::Receiver<Ordered>,
        tell: watch::Sender<Known>,
        faults: Faults,
    ) -> io::Result<Self> {
        let keeper = Keeper::new(ordered.borrow().orders);
        let known = tell.borrow().clone();
        Ok(Self {
            ordered,
            tell,
            faults,
            keeper,
            known,
            netlink: None,
            changes: None,
            claims: None,
            questions: JoinSet::new(),
            timer: Timer::new()?,
            looked: false,
            turn: 0,
            looked_since: false,
        })
    }

    /// Looks after it until the agent ends.
    pub(super) async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = self.ordered.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.take_order().await;
                }
                elapsed = self.timer.elapsed() => {
                    if let Err(error) = elapsed {
                        tracing::error!("the kernel's timer: {error}");
                    }
                    self.handle(Event::Tick).await;
                }
                () = next_change(&mut self.changes) => self.look().await,
                heard = next_heard(&mut self.claims, &mut self.questions) => {
                    for (by, way) in heard {
                        self.hear(by, way).await;
                    }
                }
                _ = looks.tick() => {
                    self.subscribe();
                    self.look().await;
                }
            }
        }
    }

    async fn take_order(&mut self) {
        let Ordered { orders, turn } = *self.ordered.borrow_and_update();
        let released = self.turn != turn;
        // What was seen before says nothing of now.
        (self.turn, self.looked_since) = (turn, self.looked_since && !released);
        self.handle(Event::Ordered(orders)).await;
        if released {
            self.look().await;
        }
    }

    /// Opens what is not open, as at the beginning, or after an error.
    fn subscribe(&mut self) {
        if self.changes.is_none() {
            self.changes = Changes::new()
                .inspect_err(|error| tracing::debug!("changes of addresses are not heard: {error}"))
                .ok();
        }
        if self.claims.is_none() {
            let (interface, vip) = (self.known.placed.interface(), self.known.placed.address());
            self.claims = Claims::open(interface, [vip])
                .inspect_err(|error| tracing::debug!("claims of {vip} are not heard: {error}"))
                .ok();
        }
    }

    async fn hear(&mut self, by: Mac, way: Way) {
        // Another interface of this node, on the same link.
        if !local_macs().contains(&by) {
            self.handle(Event::Heard { by, way }).await;
        }
    }

    /// Asks the kernel how it is.
    async fn look(&mut self) {
        match self.sight().await {
            Ok(sight) => self.handle(Event::Seen(sight)).await,
            Err(error) => self.fail(&error),
        }
    }

    async fn sight(&mut self) -> Result<Sight, NetError> {
        let known = self.known.placed.clone();
        let Some((placed, here)) = known.look(self.netlink()?.handle()).await? else {
            self.claims = None;
            (self.looked, self.looked_since) = (true, true);
            return Ok(Sight { here: false, link: Link::Absent, mac: None });
        };
        let interface = placed.interface();
        let same = |before: &Placed| {
            let before = before.interface();
            (before.index(), before.mac()) == (interface.index(), interface.mac())
        };
        if !same(&self.known.placed) {
            self.claims = None;
        }
        let link = if interface.is_up() { Link::Up } else { Link::Down };
        let sight = Sight { here, link, mac: Some(interface.mac()) };
        self.known.placed = placed;
        (self.looked, self.looked_since) = (true, true);
        Ok(sight)
    }

    fn netlink(&mut self) -> Result<&Netlink, NetError> {
        match &mut self.netlink {
            Some(netlink) => Ok(netlink),
            none => Ok(none.insert(Netlink::connect()?)),
        }
    }

    /// Takes in what happened, and does what follows.
    async fn handle(&mut self, event: Event) {
        self.keeper.handle(clock::now(), event);
        while let Some(effect) = self.keeper.poll_effect() {
            let Some(event) = self.carry_out(effect).await else { continue };
            self.keeper.handle(clock::now(), event);
        }
        let now = clock::now();
        if let Err(error) = self.timer.set(self.keeper.poll_timeout(now)) {
            tracing::error!("the kernel's timer: {error}");
        }
        if std::mem::take(&mut self.looked) && self.keeper.is_settled(now) {
            self.known.trouble = None;
        }
        if self.looked_since && self.keeper.is_off() {
            self.known.off = self.turn;
        }
        self.known.here = self.keeper.is_here(now);
        self.publish();
    }

    async fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::PutOn | Effect::TakeOff => return Some(self.change(effect).await),
            Effect::Announce => self.announce(),
            Effect::Probe => self.probe(),
            Effect::Ask => self.ask(),
            Effect::Fault(link) => self.fault(link),
            Effect::Tell(news) => self.report(news),
        }
        None
    }

    /// Puts it on or takes it off, and looks.
    async fn change(&mut self, effect: Effect) -> Event {
        match self.try_change(effect).await {
            Ok(sight) => Event::Seen(sight),
            Err(error) => {
                self.fail(&error);
                Event::Refused
            }
        }
    }

    async fn try_change(&mut self, effect: Effect) -> Result<Sight, NetError> {
        let (placed, may) = (self.known.placed.clone(), self.may());
        let netlink = self.netlink()?.handle();
        if effect == Effect::TakeOff {
            placed.remove(netlink).await?;
        } else if may {
            placed.add(netlink).await?;
        }
        self.sight().await
    }

    /// Whether the last order is one to have it here.
    fn may(&self) -> bool {
        self.ordered.borrow().orders.allow(clock::now())
    }

    fn announce(&self) {
        let placed = &self.known.placed;
        if !self.may() {
            return;
        }
        if let Err(error) = vip::announce(placed.interface(), placed.address()) {
            tracing::warn!("the writer VIP {} cannot be announced: {error}", placed.address());
        }
    }

    fn probe(&mut self) {
        let (interface, vip) = self.own();
        self.questions.spawn(async move {
            let user = vip::probe(&interface, vip, PROBED).await?;
            let way = |user: vip::User| if user.asks { Way::Probes } else { Way::Answers };
            Ok(user.map(|user| (user.mac, way(user))).into_iter().collect())
        });
    }

    fn ask(&mut self) {
        let (interface, vip) = self.own();
        // Without an address of that family nobody could answer.
        let Some(from) = interface.asks(vip, &BTreeSet::from([vip])) else { return };
        self.questions.spawn(async move {
            let heard = vip::answerers(&interface, from, vip, ASKED).await?;
            Ok(heard.into_iter().map(|mac| (mac, Way::Answers)).collect())
        });
    }

    fn own(&self) -> (Interface, IpAddr) {
        (self.known.placed.interface().clone(), self.known.placed.address())
    }

    fn fault(&self, link: Option<Link>) {
        let (interface, vip) = (self.known.placed.interface().name(), self.known.placed.address());
        let reason = link.map(|link| match link {
            Link::Absent => format!("there is no interface {interface}, which the writer VIP {vip} belongs to"),
            Link::Up | Link::Down => {
                format!("interface {interface}, which the writer VIP {vip} belongs to, is down or has no carrier")
            }
        });
        match &reason {
            Some(reason) => tracing::warn!("{reason}"),
            None => tracing::info!("interface {interface} carries the writer VIP {vip} again"),
        }
        self.faults.set(Cause::Link, reason);
    }

    fn report(&self, news: News) {
        let (interface, vip) = (self.known.placed.interface().name(), self.known.placed.address());
        let epoch = match self.ordered.borrow().orders.wanted {
            Wanted::Here(epoch) => epoch.get(),
            Wanted::Undecided | Wanted::Off | Wanted::Soon => 0,
        };
        match news {
            News::Here(epoch) => {
                tracing::info!(epoch = epoch.get(), "the writer VIP {vip} is on {interface}");
            }
            News::Removed => {
                tracing::warn!(
                    epoch,
                    "somebody took the writer VIP {vip} off {interface}; it is put on again"
                );
            }
            News::Stray => tracing::warn!(
                "the writer VIP {vip} is on {interface} and this node is not the primary; it is taken off"
            ),
            News::Gone => tracing::info!("the writer VIP {vip} is off {interface}"),
            News::Rival { mac, way } => tracing::warn!(
                epoch,
                "{mac} {} the writer VIP {vip}, which is this node's; it is announced again. A former primary \
                 acknowledges nothing there, but clients may be led astray: take the address off that host",
                way.words()
            ),
            News::Quiet { mac } => {
                tracing::info!(epoch, "nothing is heard of the writer VIP {vip} at {mac} any more");
            }
        }
    }

    fn fail(&mut self, error: &NetError) {
        // A new connection does not wait for an answer that was lost.
        self.netlink = None;
        let text = error.to_string();
        if self.known.trouble.as_ref() != Some(&text) {
            tracing::warn!("the writer VIP {}: {text}", self.known.placed.address());
        }
        self.known.trouble = Some(text);
        self.publish();
    }

    fn publish(&mut self) {
        let rival = |(mac, way): (Mac, Way)| RivalStatus {
            mac: mac.to_string(),
            does: way.words().to_owned(),
        };
        self.known.rivals = self.keeper.rivals().map(rival).collect();
        let known = &self.known;
        self.tell.send_if_modified(|told| {
            let changed = told != known;
            if changed {
                told.clone_from(known);
            }
            changed
        });
    }
}

/// Waits for a change; for ever where none is told.
async fn next_change(changes: &mut Option<Changes>) {
    let Some(open) = changes else { return std::future::pending().await };
    if let Err(error) = open.next().await {
        tracing::debug!("{error}");
        *changes = None;
    }
}

/// Waits for whoever claims it, or answers a question.
async fn next_heard(
    claims: &mut Option<Claims>,
    questions: &mut JoinSet<Result<Heard, NetError>>,
) -> Heard {
    let claimed = async {
        let Some(open) = claims else { return std::future::pending().await };
        open.next().await.map(|claim| vec![(claim.mac, Way::Announces)])
    };
    let heard = tokio::select! {
        claimed = claimed => claimed.inspect_err(|_| *claims = None),
        Some(answered) = questions.join_next() => answered.unwrap_or_else(|_| Ok(Heard::new())),
    };
    heard.unwrap_or_else(|error| {
        tracing::debug!("who else has the writer VIP is not heard: {error}");
        Heard::new()
    })
}
