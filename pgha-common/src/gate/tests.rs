use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// A gate of one CPU.
struct Alone {
    word: Cell<u64>,
    now: Cell<u64>,
}

impl Alone {
    fn new(word: u64, now: u64) -> Self {
        Self { word: Cell::new(word), now: Cell::new(now) }
    }
}

impl Gate for Alone {
    fn word(&self) -> u64 {
        self.word.get()
    }

    fn replace(&self, before: u64, after: u64) -> bool {
        let same = self.word.get() == before;
        if same {
            self.word.set(after);
        }
        same
    }

    fn now(&self) -> u64 {
        self.now.get()
    }
}

#[test]
fn a_standbys_gate_is_open_at_any_time() {
    for now in [0, 1, u64::MAX - 1] {
        let gate = Alone::new(STANDBY, now);
        assert!(admits(&gate));
        assert_eq!(gate.word(), STANDBY);
    }
}

#[test]
fn packets_pass_until_the_moment_and_never_again() {
    let gate = Alone::new(STANDBY, 1000);
    assert!(order(&gate, 2000));
    gate.now.set(1999);
    assert!(admits(&gate));
    gate.now.set(2000);
    assert!(!admits(&gate));
    assert_eq!(gate.word(), CLOSED);
    // Not even if a clock went back.
    gate.now.set(0);
    assert!(order(&gate, 5000) && !admits(&gate));
    assert_eq!(gate.word(), CLOSED);
}

#[test]
fn what_becomes_of_an_order() {
    const NOW: u64 = 1000;
    for (word, wanted, after) in [
        (STANDBY, 2000, 2000),
        (STANDBY, NOW + 1, NOW + 1),
        (STANDBY, NOW, CLOSED),
        (STANDBY, STANDBY, CLOSED),
        (STANDBY, CLOSED, CLOSED),
        (3000, 2000, 2000),
        (2000, 3000, 3000),
        (2000, STANDBY, CLOSED),
        (2000, 999, CLOSED),
        (2000, CLOSED, CLOSED),
        // The former moment has passed, although no packet came to close it.
        (NOW, 2000, CLOSED),
        (1, 2000, CLOSED),
        (CLOSED, 2000, CLOSED),
        (CLOSED, STANDBY, CLOSED),
        (CLOSED, CLOSED, CLOSED),
    ] {
        let gate = Alone::new(word, NOW);
        assert!(order(&gate, wanted));
        assert_eq!(gate.word(), after, "{word} told {wanted}");
    }
}

#[test]
fn only_what_is_certainly_not_tcp_is_let_alone() {
    for protocol in 0..=u8::MAX {
        assert_eq!(concerns(0x45, protocol), ![1, 17].contains(&protocol), "IPv4 {protocol}");
        assert_eq!(concerns(0x60, protocol), ![17, 58].contains(&protocol), "IPv6 {protocol}");
        assert!(concerns(0x00, protocol) && concerns(0xff, protocol));
    }
}

/// What a CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Packet,
    Order(u64),
    /// None: time passes.
    Tick,
}

/// The answer to one question of a CPU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Said {
    Word(u64),
    Now(u64),
    Replaced(bool),
}

/// One CPU of several, driven one question at a time: what it was told before is told again, its next question is
/// put to the machine, and what it does after that does not count.
struct Step<'a> {
    machine: &'a RefCell<Machine>,
    known: &'a [Said],
    asked: Cell<usize>,
    new: Cell<Option<Said>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Machine {
    word: u64,
    now: u64,
}

impl Step<'_> {
    fn ask(&self, beyond: Said, question: impl FnOnce(&mut Machine) -> Said) -> Said {
        let number = self.asked.replace(self.asked.get() + 1);
        if let Some(said) = self.known.get(number) {
            return *said;
        }
        if number > self.known.len() {
            return beyond;
        }
        let said = question(&mut self.machine.borrow_mut());
        self.new.set(Some(said));
        said
    }
}

impl Gate for Step<'_> {
    fn word(&self) -> u64 {
        let said = self.ask(Said::Word(CLOSED), |machine| Said::Word(machine.word));
        let Said::Word(word) = said else { panic!("{said:?}") };
        word
    }

    fn replace(&self, before: u64, after: u64) -> bool {
        let said = self.ask(Said::Replaced(true), |machine| {
            let same = machine.word == before;
            if same {
                machine.word = after;
            }
            Said::Replaced(same)
        });
        let Said::Replaced(same) = said else { panic!("{said:?}") };
        same
    }

    fn now(&self) -> u64 {
        let said = self.ask(Said::Now(u64::MAX), |machine| Said::Now(machine.now));
        let Said::Now(now) = said else { panic!("{said:?}") };
        now
    }
}

/// A CPU on its way: what it was told so far, and what came of it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Cpu {
    work: Work,
    known: Vec<Said>,
    ended: Option<bool>,
}

impl Cpu {
    fn is_fresh(&self) -> bool {
        self.known.is_empty() && self.ended.is_none()
    }

    fn is_ordering(&self) -> bool {
        matches!(self.work, Work::Order(_)) && !self.known.is_empty() && self.ended.is_none()
    }
}

/// All CPUs at one point of one order of events.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Point {
    machine: Machine,
    cpus: Vec<Cpu>,
    /// Its moment has passed, or it was closed.
    was_over: bool,
    /// Who had not begun when that was so for the first time with no order under way.
    late: Option<Vec<bool>>,
}

impl Point {
    fn is_over(&self) -> bool {
        is_over(self.machine.word, self.machine.now)
    }

    /// Has one CPU put its next question.
    fn step(&mut self, cpu: usize) {
        let Cpu { work, known, ended } = &mut self.cpus[cpu];
        let before = self.machine.word;
        match *work {
            Work::Tick => {
                self.machine.now += 10;
                *ended = Some(true);
            }
            Work::Packet | Work::Order(_) => {
                let machine = RefCell::new(self.machine.clone());
                let asked = Cell::new(0);
                let step = Step { machine: &machine, known, asked, new: Cell::new(None) };
                let result = match *work {
                    Work::Order(wanted) => order(&step, wanted),
                    Work::Packet | Work::Tick => admits(&step),
                };
                let (asked, new) = (step.asked.get(), step.new.get());
                match new {
                    // It had been told everything: this is its end.
                    None => *ended = Some(result),
                    Some(said) => {
                        known.push(said);
                        if asked == known.len() {
                            *ended = Some(result);
                        }
                    }
                }
                self.machine = machine.into_inner();
            }
        }
        let after = self.machine.word;
        assert!(before != CLOSED || after == CLOSED, "a closed gate opened");
        assert!(before == STANDBY || after != STANDBY, "an armed gate lost its moment");
        self.was_over |= self.is_over();
        if self.late.is_none() && self.is_over() && !self.cpus.iter().any(Cpu::is_ordering) {
            self.late = Some(self.cpus.iter().map(Cpu::is_fresh).collect());
        }
    }

    /// What must hold of an order of events that is over.
    fn judge(&self) {
        assert!(self.is_over() || !self.was_over, "it is open again: {:?}", self.machine);
        let Some(late) = &self.late else { return };
        for (Cpu { work, known, ended }, late) in self.cpus.iter().zip(late) {
            if *late && *work == Work::Packet {
                assert_eq!(*ended, Some(false), "a packet after the end: {known:?}");
            }
        }
    }
}

/// Goes on from here in every order of events, and judges where each ends. What was seen need not be seen again.
fn explore(point: Point, seen: &mut HashSet<Point>) {
    if seen.contains(&point) {
        return;
    }
    let mut going: Vec<_> =
        (0..point.cpus.len()).filter(|cpu| point.cpus[*cpu].ended.is_none()).collect();
    // Of two ticks the first comes first.
    going.dedup_by_key(|cpu| (point.cpus[*cpu].work != Work::Tick).then_some(*cpu));
    if going.is_empty() {
        point.judge();
    }
    for cpu in going {
        let mut next = point.clone();
        next.step(cpu);
        explore(next, seen);
    }
    seen.insert(point);
}

#[test]
fn in_no_order_of_events_a_gate_opens_again() {
    const WORKS: [Work; 4] = [Work::Packet, Work::Order(25), Work::Order(15), Work::Order(CLOSED)];
    let mut points = 0;
    for word in [STANDBY, 5, 15] {
        for (number, first) in WORKS.into_iter().enumerate() {
            // Which CPU does which is all the same.
            for second in WORKS.into_iter().skip(number) {
                let work = [first, second, Work::Packet, Work::Tick, Work::Tick];
                let cpus = work.map(|work| Cpu { work, known: Vec::new(), ended: None }).to_vec();
                let machine = Machine { word, now: 3 };
                let mut seen = HashSet::new();
                explore(Point { machine, cpus, was_over: false, late: None }, &mut seen);
                points += seen.len();
            }
        }
    }
    println!("{points} points of all orders of events");
    assert!(points > 10_000);
}

proptest! {
    #[test]
    fn what_passes_has_a_moment_ahead_or_none(word in 0..50_u64, now in 0..50_u64, closed: bool) {
        let word = if closed { CLOSED } else { word };
        let gate = Alone::new(word, now);
        prop_assert_eq!(admits(&gate), word == STANDBY || word != CLOSED && now < word);
    }
}
