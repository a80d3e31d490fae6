//! The writer VIP on one node: whether it is to be here, who else has it, and whether its link carries it.
//!
//! | wanted | while the lease lasts | else |
//! |---|---|---|
//! | here | put on again, announced, defended | taken off |
//! | undecided: a former agent's | left as it is | taken off |
//! | soon: a promotion is under way | taken off; asked whether anybody has it | the same |
//! | off | taken off | taken off |
//!
//! That nobody else may have it is proven before it is wanted here (a fence proof), so somebody else who has it
//! changes nothing but what is told: it is announced again, at a bounded rate.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{Epoch, Mac, Moment};

/// When it is announced after it was put on: a lost announcement is followed by another.
const TOLD_AFTER: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(750),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// How long until what the kernel was asked for is asked for again.
const AGAIN: Duration = Duration::from_millis(100);
/// It is defended once in so long. RFC 5227 (2.4, c) has 10 s, for hosts of which neither gives way; here one of
/// the two is fenced, and every client of the primary waits.
const DEFENDED: Duration = Duration::from_secs(1);
const DEFENCES: u8 = 2;
/// How often it is asked who answers for it besides.
const ASKED: Duration = Duration::from_secs(5);
/// Somebody else who has it is told of as often as this, and forgotten when it was not heard for so long.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
const FORGOTTEN: Duration = Duration::from_secs(15);
/// A link that is back within this was never gone. Shorter than the silence that others take notice of.
const FLAP: Duration = Duration::from_millis(100);

/// What is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// It may be here: a former agent of a primary that runs left it.
    Undecided,
    /// Not here.
    Off,
    /// Not here yet: this node is about to be the primary.
    Soon,
    /// Here, in that epoch.
    Here(Epoch),
}

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Orders {
    /// What is wanted.
    pub wanted: Wanted,
    /// From when on it must not be here, whatever is wanted: PostgreSQL is ended then.
    pub until: Moment,
}

impl Orders {
    /// Nothing but that it is not here.
    pub const OFF: Self = Self { wanted: Wanted::Off, until: Moment::new(0) };

    /// Whether it may be put on and spoken of.
    #[must_use]
    pub fn allow(&self, now: Moment) -> bool {
        matches!(self.wanted, Wanted::Here(_)) && now < self.until
    }

    /// Whether what is here may stay.
    fn bear(&self, now: Moment) -> bool {
        matches!(self.wanted, Wanted::Here(_) | Wanted::Undecided) && now < self.until
    }
}

/// The interface that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Switched on, with a carrier.
    Up,
    /// Switched off, or without a carrier.
    Down,
    /// There is none of that name.
    Absent,
}

/// How it is, by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    /// The VIP is on the interface.
    pub here: bool,
    /// The interface.
    pub link: Link,
    /// Its hardware address.
    pub mac: Option<Mac>,
}

/// How somebody else has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// It tells everybody.
    Announces,
    /// It answers who asks.
    Answers,
    /// It wants to know whether anybody has it, and is about to use it.
    Probes,
}

impl Way {
    /// What it does with a VIP, in words before its name.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Announces => "announces",
            Self::Answers => "answers for",
            Self::Probes => "is about to use",
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// This is ordered from now on.
    Ordered(Orders),
    /// The kernel was asked.
    Seen(Sight),
    /// What the kernel was told to do it has refused.
    Refused,
    /// Somebody else.
    Heard {
        /// Who.
        by: Mac,
        /// How.
        way: Way,
    },
    /// [`Keeper::poll_timeout`] has come.
    Tick,
}

/// What is to be done. [`Event::Seen`] or [`Event::Refused`] follows the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Put it on.
    PutOn,
    /// Take it off.
    TakeOff,
    /// Tell everybody that it is here.
    Announce,
    /// Find out whether anybody has it, before it is here (RFC 5227, 2.1.1; RFC 4862, 5.4).
    Probe,
    /// Find out who else answers for it.
    Ask,
    /// The link does not carry it; `None`: it does again.
    Fault(Option<Link>),
    /// Tell people.
    Tell(News),
}

/// What people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// It is here.
    Here(Epoch),
    /// It was here, and somebody else took it off; it is put on again.
    Removed,
    /// It was off, and somebody put it here; it is taken off again.
    Stray,
    /// It is off.
    Gone,
    /// Somebody else has it.
    Rival {
        /// Who.
        mac: Mac,
        /// How.
        way: Way,
    },
    /// It was not heard any more.
    Quiet {
        /// Who.
        mac: Mac,
    },
}

/// Somebody else who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rival {
    way: Way,
    heard: Moment,
    told: Moment,
}

/// Who keeps it.
#[derive(Clone, Debug)]
pub struct Keeper {
    orders: Orders,
    seen: Option<Sight>,
    /// What the kernel was told last, and when.
    tried: Option<(Effect, Moment)>,
    /// The answer to that is awaited.
    trying: bool,
    /// It was announced first then, and so often since.
    telling: Option<(Moment, usize)>,
    rivals: BTreeMap<Mac, Rival>,
    defended: Option<Moment>,
    /// So often it is to be defended yet: more than once, for kernels take no notice of what comes too soon after
    /// something else (`locktime` in arp(7)).
    defences: u8,
    asked: Option<Moment>,
    /// The link does not carry it since then, and whether that was told.
    down: Option<(Moment, bool)>,
    effects: VecDeque<Effect>,
}

impl Keeper {
    /// One that knows nothing yet.
    #[must_use]
    pub const fn new(orders: Orders) -> Self {
        Self {
            orders,
            seen: None,
            tried: None,
            trying: false,
            telling: None,
            rivals: BTreeMap::new(),
            defended: None,
            defences: 0,
            asked: None,
            down: None,
            effects: VecDeque::new(),
        }
    }

    /// Takes in what happened at `now`, by the clock that the lease goes by.
    pub fn handle(&mut self, now: Moment, event: Event) {
        match event {
            Event::Ordered(orders) => self.ordered(orders),
            Event::Seen(sight) => self.look(now, sight),
            Event::Refused => self.trying = false,
            Event::Heard { by, way } => self.heard(now, by, way),
            Event::Tick => {}
        }
        self.judge_link(now);
        self.set_right(now);
        self.speak(now);
    }

    /// What is to be done next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        let here = self.seen.is_some_and(|seen| seen.here);
        let speaks = here && self.orders.allow(now);
        let announced = self.telling.and_then(|(begun, told)| {
            let after = TOLD_AFTER.get(told)?;
            Some(begun + *after)
        });
        let defends = self.defended.filter(|_| self.defences > 0).map(|at| at + DEFENDED);
        let asks = self.asked.map(|at| at + ASKED);
        let forgets = self.rivals.values().map(|rival| rival.heard + FORGOTTEN).min();
        let fault = self.down.filter(|(_, told)| !told).map(|(since, _)| since + FLAP);
        let again = self.tried.filter(|_| !self.trying).map(|(_, at)| at + AGAIN);
        let spoken = [announced, defends, asks].into_iter().filter(|_| speaks);
        spoken
            .chain([forgets, fault, again, Some(self.orders.until)])
            .flatten()
            .filter(|due| *due > now)
            .min()
    }

    /// Whether it is here and may be.
    #[must_use]
    pub fn is_here(&self, now: Moment) -> bool {
        self.orders.allow(now) && self.seen.is_some_and(|seen| seen.here)
    }

    /// Whether it is seen not to be here.
    #[must_use]
    pub fn is_off(&self) -> bool {
        !self.trying && self.seen.is_some_and(|seen| !seen.here)
    }

    /// Whether it is as it is wanted, as far as was seen.
    #[must_use]
    pub fn is_settled(&self, now: Moment) -> bool {
        self.seen.is_some() && self.wrong(now).is_none()
    }

    /// Who else has it, and how.
    pub fn rivals(&self) -> impl Iterator<Item = (Mac, Way)> {
        self.rivals.iter().map(|(mac, rival)| (*mac, rival.way))
    }

    /// Whether the link does not carry it.
    #[must_use]
    pub fn is_faulty(&self) -> bool {
        self.down.is_some_and(|(_, told)| told)
    }

    fn ordered(&mut self, orders: Orders) {
        let before = std::mem::replace(&mut self.orders, orders);
        if before.wanted == orders.wanted {
            return;
        }
        match orders.wanted {
            Wanted::Soon => self.effects.push_back(Effect::Probe),
            Wanted::Here(_) => self.telling = None,
            Wanted::Undecided | Wanted::Off => {
                self.telling = None;
                self.rivals.clear();
                self.defences = 0;
            }
        }
    }

    fn look(&mut self, now: Moment, sight: Sight) {
        let before = self.seen.replace(sight);
        let asked = std::mem::take(&mut self.trying).then_some(self.tried).flatten();
        let news = match (before, asked.map(|(effect, _)| effect)) {
            (Some(Sight { here: true, .. }), Some(Effect::TakeOff)) if !sight.here => {
                Some(News::Gone)
            }
            (Some(Sight { here: true, .. }), _) if !sight.here => {
                self.orders.allow(now).then_some(News::Removed)
            }
            (Some(Sight { here: false, .. }), asked) if sight.here => {
                (asked != Some(Effect::PutOn) && !self.orders.bear(now)).then_some(News::Stray)
            }
            _ => None,
        };
        self.effects.extend(news.map(Effect::Tell));
        // The switch learns anew where it is.
        let other = |before: Sight| before.link != Link::Up || before.mac != sight.mac;
        if !sight.here || (sight.link == Link::Up && before.is_some_and(other)) {
            self.telling = None;
        }
    }

    fn heard(&mut self, now: Moment, by: Mac, way: Way) {
        let soon = matches!(self.orders.wanted, Wanted::Soon);
        if !soon && !self.orders.allow(now) {
            return;
        }
        let due = self.rivals.get(&by).is_none_or(|rival| now.since(rival.told) >= TOLD_AGAIN);
        let told = self.rivals.get(&by).map_or(now, |rival| rival.told);
        let told = if due { now } else { told };
        self.rivals.insert(by, Rival { way, heard: now, told });
        self.defences = DEFENCES;
        if due {
            self.effects.push_back(Effect::Tell(News::Rival { mac: by, way }));
        }
    }

    fn judge_link(&mut self, now: Moment) {
        let Some(sight) = self.seen else { return };
        if sight.link == Link::Up {
            if let Some((_, true)) = self.down.take() {
                self.effects.push_back(Effect::Fault(None));
            }
            return;
        }
        let (since, told) = *self.down.get_or_insert((now, false));
        // Another interface of that name would be another interface.
        let long = sight.link == Link::Absent || now.since(since) >= FLAP;
        if long && !told {
            self.down = Some((since, true));
            self.effects.push_back(Effect::Fault(Some(sight.link)));
        }
    }

    /// What the kernel has to do for it to be as it is wanted.
    fn wrong(&self, now: Moment) -> Option<Effect> {
        let sight = self.seen?;
        match (sight.here, sight.link) {
            (false, Link::Up) if self.orders.allow(now) => Some(Effect::PutOn),
            (true, _) if !self.orders.bear(now) => Some(Effect::TakeOff),
            _ => None,
        }
    }

    fn set_right(&mut self, now: Moment) {
        let Some(wrong) = self.wrong(now) else { return };
        let same = |(tried, at): (Effect, Moment)| tried == wrong && now.since(at) < AGAIN;
        if self.trying || self.tried.is_some_and(same) {
            return;
        }
        (self.tried, self.trying) = (Some((wrong, now)), true);
        self.effects.push_back(wrong);
    }

    /// Says that it is here, and finds out who says so besides.
    fn speak(&mut self, now: Moment) {
        self.forget(now);
        let (Wanted::Here(epoch), true) = (self.orders.wanted, self.is_here(now)) else { return };
        let (begun, told) = *self.telling.get_or_insert_with(|| {
            self.effects.push_back(Effect::Tell(News::Here(epoch)));
            (now, 0)
        });
        let due = TOLD_AFTER.iter().skip(told).take_while(|after| now >= begun + **after).count();
        let defended = self.defended.is_none_or(|at| now.since(at) >= DEFENDED);
        let defends = self.defences > 0 && defended;
        if due > 0 || defends {
            self.telling = Some((begun, told + due));
            self.effects.push_back(Effect::Announce);
        }
        if defends {
            (self.defended, self.defences) = (Some(now), self.defences - 1);
        }
        if self.asked.is_none_or(|at| now.since(at) >= ASKED) {
            self.asked = Some(now);
            self.effects.push_back(Effect::Ask);
        }
    }

    fn forget(&mut self, now: Moment) {
        let quiet = |rival: &Rival| now.since(rival.heard) >= FORGOTTEN;
        let gone = self.rivals.extract_if(.., |_, rival| quiet(rival));
        self.effects.extend(gone.map(|(mac, _)| Effect::Tell(News::Quiet { mac })));
    }
}

#[cfg(test)]
mod tests;
