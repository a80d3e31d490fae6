//! Which path is probed when, and whose answer came in. Without a clock or a socket: the caller tells the
//! time, sends the letters, and tells on what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pgha_machine::Mac;
use pgha_machine::balancer::{Path, ProbeFinding, Via};

use super::Probed;
use super::exchange::{Exchange, Reaction, SPAN, stray};
use super::segment::{Ends, Heard, Segment};
use crate::beat::Beats;

#[cfg(test)]
mod tests;

/// The first of all addresses.
const LOWEST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// How often, and how long an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the beginning of one probe of a path to the next. They begin together with others, at one of [`Beats`].
    pub interval: Duration,
    /// Halfway through it the probe is sent once more.
    pub timeout: Duration,
}

/// A segment, and where it is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) via: Via,
    pub(super) ends: Ends,
    pub(super) segment: Segment,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Begin a probe: [`Rounds::begin`].
    Begin(Path, Via),
    /// Do these.
    Do(Outcome),
}

/// What follows from something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) letter: Option<Letter>,
    pub(super) found: Option<Probed>,
}

/// A probe under way.
#[derive(Debug)]
struct Running {
    ends: Ends,
    sequence: u32,
    exchange: Exchange,
    deadline: Instant,
    sent_again: bool,
    /// Why something of it was not sent: silence shows nothing then.
    unsent: Option<String>,
}

#[derive(Debug)]
struct Slot {
    via: Via,
    /// Paths that are added together spread over the interval.
    turn: u32,
    /// When something is to be done; stands in [`Rounds::due`] too.
    due: Instant,
    /// When its last probe began.
    began: Instant,
    running: Option<Running>,
}

/// All paths. A probe never overlaps the next of the same path, and no path waits for another.
#[derive(Debug)]
pub(super) struct Rounds {
    pace: Pace,
    paths: BTreeMap<Path, Slot>,
    due: BTreeSet<(Instant, Path)>,
    /// The probes under way, by the VIP and the number of their SYN.
    by_number: BTreeMap<(SocketAddr, u32), Path>,
    dice: Dice,
    /// How many paths were.
    added: u32,
}

impl Rounds {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            paths: BTreeMap::new(),
            due: BTreeSet::new(),
            by_number: BTreeMap::new(),
            dice: Dice::default(),
            added: 0,
        }
    }

    /// From the next probe of each path on.
    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Probes a path from now on, at first at once. What is under way another way is forgotten.
    pub(super) fn add(&mut self, now: Instant, path: Path, via: Via) {
        if self.paths.get(&path).is_some_and(|slot| slot.via == via) {
            return;
        }
        self.remove(&path);
        let turn = self.added;
        self.added = self.added.wrapping_add(1);
        self.paths.insert(path, Slot { via, turn, due: now, began: now, running: None });
        self.due.insert((now, path));
    }

    /// Probes it no more.
    pub(super) fn remove(&mut self, path: &Path) {
        if let Some(slot) = self.paths.remove(path) {
            self.due.remove(&(slot.due, *path));
            if let Some(running) = slot.running {
                self.by_number.remove(&(running.ends.vip, running.sequence));
            }
        }
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// One thing that is due now.
    pub(super) fn step(&mut self, now: Instant) -> Option<Step> {
        let (_, path) = *self.due.first().filter(|(due, _)| *due <= now)?;
        let beats = Beats::of(self.pace.interval);
        let held_up = self.pace.timeout / 2;
        let slot = self.paths.get_mut(&path)?;
        let late = now.saturating_duration_since(slot.due);
        let Some(running) = &mut slot.running else {
            let (via, next) = (slot.via, beats.next(slot.turn, now));
            slot.began = now;
            // Stands if nothing comes of it.
            self.wait(path, next);
            return Some(Step::Begin(path, via));
        };
        if !running.sent_again && now < running.deadline {
            running.sent_again = true;
            let letter = running.exchange.due().map(|segment| running.letter(slot.via, segment));
            let deadline = running.deadline;
            self.wait(path, deadline);
            return Some(Step::Do(Outcome { letter, found: None }));
        }
        let mut reaction = running.exchange.give_up();
        let excuse = running.unsent.take().or_else(|| {
            (late >= held_up).then(|| {
                format!("this node was held up for {} ms during the probe", late.as_millis())
            })
        });
        if let (Some(found), Some(why)) = (&mut reaction.found, excuse) {
            *found = ProbeFinding::Undecided(why);
        }
        Some(Step::Do(self.react(path, reaction, None)))
    }

    /// A segment could not be sent, because of `why`: what its probe does not hear shows nothing.
    pub(super) fn unsent(&mut self, letter: &Letter, why: String) {
        let Some(path) = self.probe_of(&letter.ends, letter.segment.sequence) else { return };
        let running = self.paths.get_mut(&path).and_then(|slot| slot.running.as_mut());
        if let Some(running) = running {
            running.unsent = Some(why);
        }
    }

    /// Answers cannot be heard any more, because of `why`: all probes under way end.
    pub(super) fn deaf(&mut self, why: &str) -> Vec<Probed> {
        let running = self.paths.iter().filter(|(_, slot)| slot.running.is_some());
        let paths: Vec<_> = running.map(|(path, _)| *path).collect();
        let undecided = |path| {
            self.abandon(&path);
            Probed { path, finding: ProbeFinding::Undecided(why.to_owned()), because: None }
        };
        paths.into_iter().map(undecided).collect()
    }

    /// Begins a probe from an own address that asks `question`, which is empty where a SYN is enough. `None`
    /// when the path is probed no more.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        path: Path,
        own: SocketAddr,
        question: Vec<u8>,
    ) -> Option<Letter> {
        let vip = SocketAddr::new(path.vip, path.port);
        let sequence = self.dice.sequence();
        let slot = self.paths.get_mut(&path).filter(|slot| slot.running.is_none())?;
        let exchange = Exchange::new(sequence, question);
        let segment = exchange.due()?;
        let deadline = now + self.pace.timeout;
        let ends = Ends { own, vip };
        let running =
            Running { ends, sequence, exchange, deadline, sent_again: false, unsent: None };
        let letter = running.letter(slot.via, segment);
        slot.running = Some(running);
        self.by_number.insert((vip, sequence), path);
        self.wait(path, now + self.pace.timeout / 2);
        Some(letter)
    }

    /// The probe that was begun could not be sent: it is over, and another follows in its time.
    pub(super) fn abandon(&mut self, path: &Path) {
        let Some(slot) = self.paths.get_mut(path) else { return };
        let due = Beats::of(self.pace.interval).next(slot.turn, slot.began);
        if let Some(running) = slot.running.take() {
            self.by_number.remove(&(running.ends.vip, running.sequence));
        }
        self.wait(*path, due);
    }

    /// Takes in what was heard, in a frame from `from`. What is about no probe under way changes nothing.
    pub(super) fn hear(&mut self, from: Option<Mac>, heard: &Heard) -> Outcome {
        match heard {
            Heard::Segment(ends, segment) => {
                let last = segment.acknowledgement.wrapping_sub(1);
                let Some(path) = self.probe_of(ends, last) else {
                    return Outcome { letter: self.stray(from, *ends, segment), found: None };
                };
                let running = self.paths.get_mut(&path).and_then(|slot| slot.running.as_mut());
                let Some(running) = running else { return Outcome::default() };
                let reaction = running.exchange.handle(segment);
                self.react(path, reaction, None)
            }
            Heard::Undelivered { ends, sequence, by, why } => {
                let Some(path) = self.probe_of(ends, *sequence) else { return Outcome::default() };
                let running = self.paths.get_mut(&path).and_then(|slot| slot.running.as_mut());
                let Some(running) = running else { return Outcome::default() };
                let reaction = running.exchange.give_up();
                self.react(path, reaction, Some(format!("{by} says: {why}")))
            }
        }
    }

    /// The path whose probe uses that number.
    fn probe_of(&self, ends: &Ends, number: u32) -> Option<Path> {
        let (vip, below) = (ends.vip, (ends.vip, 0)..=(ends.vip, number));
        let ((_, sequence), path) = self.by_number.range(below).next_back()?;
        let running = self.paths.get(path)?.running.as_ref()?;
        let fits = running.ends == Ends { vip, ..*ends } && number - sequence < SPAN;
        fits.then_some(*path)
    }

    fn stray(&self, from: Option<Mac>, ends: Ends, segment: &Segment) -> Option<Letter> {
        let first = Path { vip: ends.vip.ip(), port: ends.vip.port(), address: LOWEST };
        let of_vip = self
            .paths
            .range(first..)
            .take_while(|(path, _)| (path.vip, path.port) == (first.vip, first.port));
        let mut vias = of_vip.map(|(_, slot)| slot.via);
        let via = vias.find(|via| match via {
            Via::Neighbour(neighbour) => Some(neighbour.mac) == from,
            Via::Local => false,
        })?;
        Some(Letter { via, ends, segment: stray(segment)? })
    }

    fn react(&mut self, path: Path, reaction: Reaction, because: Option<String>) -> Outcome {
        let Some(slot) = self.paths.get_mut(&path) else { return Outcome::default() };
        let via = slot.via;
        let Some(running) = &slot.running else { return Outcome::default() };
        let letter = reaction.send.map(|segment| running.letter(via, segment));
        let found = reaction.found.map(|finding| Probed { path, finding, because });
        if running.exchange.is_over() {
            self.abandon(&path);
        }
        Outcome { letter, found }
    }

    fn wait(&mut self, path: Path, due: Instant) {
        if let Some(slot) = self.paths.get_mut(&path) {
            self.due.remove(&(slot.due, path));
            slot.due = due;
            self.due.insert((due, path));
        }
    }
}

impl Running {
    fn letter(&self, via: Via, segment: Segment) -> Letter {
        Letter { via, ends: self.ends, segment }
    }
}

/// Numbers that nobody else can foresee: whoever does not see a probe cannot answer it (RFC 6528).
#[derive(Debug, Default)]
struct Dice {
    key: RandomState,
    thrown: u64,
}

impl Dice {
    fn throw(&mut self) -> u64 {
        self.thrown += 1;
        self.key.hash_one(self.thrown)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.throw() % u64::from(limit)).unwrap_or_default()
    }

    /// The number of a SYN, with room for what follows it.
    fn sequence(&mut self) -> u32 {
        self.below(u32::MAX - SPAN)
    }
}
