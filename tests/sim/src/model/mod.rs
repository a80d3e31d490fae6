//! Small clusters of which every order of events is followed, within bounds.
//!
//! The machines are those that ship, and so are the model of PostgreSQL, the store and the oracle those of the
//! random schedules. A [`Case`] says what there is, what may go wrong, and how much: [`explore`] goes through
//! all states that can be reached (`stateright`), and says how many there were.
//!
//! What is bounded in all cases, and so not covered here but by the random schedules:
//!
//! - There are two or three nodes, and one timing.
//! - All clocks go alike, and time moves only from one deadline to the next. Whatever is under way comes
//!   before time goes on, in any order; only [`Case::late`] of it may come later.
//! - Who has a deadline looks before anything else happens, an agent sees at once how far the logs are, and
//!   what was read from the store comes back at once. A process writes to the store three times in a
//!   millisecond at most. An agent that is told to keep something, to start, to follow or to rewind has done
//!   it when that is done.
//! - The store tells nobody that the record has changed: it is read when a machine asks for it. What it may
//!   tell late is only how the record was at the very beginning ([`Case::stale`]).
//! - What the processes tell an *agent* of how they are comes at once, and so does what controllers tell each
//!   other and what says nothing new; of what an agent tells a controller, only the last word is under way.
//! - Controllers have no fence device.
//! - A command of an agent works if it can. A standby that stops knows the end of its log.
//! - In coarse cases ([`Case::coarse`]) a read while nobody has sent a write, the answer to a write and the
//!   end of a command come before anything else of that moment, but faults. That leaves out orders in which
//!   another one comes in between.
//! - Of a dead agent's command nothing is done any more that was not done before.
//! - Faults begin when [`Case::faults`] say, and every order is followed up to [`Case::horizon`]. From each state
//!   at the end of that, everything is mended and *one* order is followed until a new commit is acknowledged.

mod actions;
mod case;
mod drive;
mod faults;
mod shared;
mod state;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

pub use self::actions::Action;
pub use self::case::{Begins, Case, Fault, Trouble, Window};
pub use self::state::State;
use crate::oracle::Violation;

/// After the last fault somebody writes again before this many deadlines have come.
const ROUNDS: usize = 300;

/// A case that is being explored.
struct Run {
    case: Case,
    /// States that are known to go on.
    known: Mutex<HashSet<u64>>,
}

impl Model for Run {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin(&self.case)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // One counterexample is enough.
        if state.violation.is_some() {
            return;
        }
        let pending = state.pending(&self.case);
        let first = if self.case.coarse { state.first(&pending) } else { None };
        if state.now.milliseconds() < self.case.horizon {
            if state.can_wait(&self.case, &pending) {
                actions.push(Action::Wait);
            }
            let possible = state.possible(&self.case).into_iter();
            actions.extend(possible.filter(|action| first.is_none() || action.goes_wrong()));
        }
        match first {
            Some(first) => actions.push(first),
            None => actions.extend(pending),
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.perform(&self.case, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "nothing acknowledged is lost, and no rule is broken",
                |_: &Self, state: &State| state.violation.is_none(),
            ),
            Property::always("never two that can acknowledge", |run: &Self, state: &State| {
                let can = |node: &usize| state.can_acknowledge(&run.case, *node);
                (0..run.case.nodes).filter(can).count() <= 1
            }),
            Property::always(
                "what a primary waits for stands in the record",
                |run: &Self, state: &State| {
                    (0..run.case.nodes).all(|node| state.waits_for_enough(node))
                },
            ),
            Property::always(
                "mended, it goes on and loses nothing",
                |run: &Self, state: &State| !state.is_last(&run.case) || run.goes_on(state).is_ok(),
            ),
        ]
    }
}

impl Run {
    /// Mends all and follows one order of events until a new commit is acknowledged, or to where another state
    /// came by that did.
    fn goes_on(&self, from: &State) -> Result<(), Violation> {
        let case = &self.case;
        let mut state = from.clone();
        for Trouble { fault, .. } in &case.faults {
            if state.lasts(case, *fault) {
                state.perform(case, Action::Mend(*fault));
            }
        }
        let mut passed = Vec::new();
        for _ in 0..ROUNDS {
            state.rest(case);
            let able = (0..case.nodes).find(|node| state.can_acknowledge(case, *node));
            if let Some(node) = able {
                state.write(node);
                let length = state.nodes[node].postgres.log.len();
                state.rest(case);
                if state.violation.is_none() && state.has_acknowledged(node, length) {
                    self.known().extend(passed);
                    return Ok(());
                }
            }
            if let Some(violation) = state.violation.take() {
                return Err(violation);
            }
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            let hash = hasher.finish();
            if self.known().contains(&hash) {
                self.known().extend(passed);
                return Ok(());
            }
            passed.push(hash);
            state.perform(case, Action::Wait);
        }
        if case.progress { Err(Violation::NoProgress) } else { Ok(()) }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_last(&self, case: &Case) -> bool {
        self.violation.is_none()
            && self.now.milliseconds() >= case.horizon
            && self.pending(case).is_empty()
    }

    /// Whether the commits of a node up to a place are acknowledged.
    fn has_acknowledged(&self, node: usize, length: usize) -> bool {
        let pg = &self.nodes[node].postgres;
        pg.log.len() >= length && pg.waiting.is_empty() && self.admits(node)
    }
}

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Which.
    pub name: &'static str,
    /// How far it goes.
    pub bounds: String,
    /// States that were found, each once.
    pub states: usize,
    /// Steps that were followed from one to another.
    pub steps: usize,
    /// How many steps the longest way from the beginning has.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether every state within the bounds was found.
    pub complete: bool,
    /// What does not hold, why, where that is known, and the steps to there.
    pub broken: Option<(&'static str, Option<Violation>, Vec<String>)>,
}

/// Goes through all states of a case, or to the first in which something does not hold.
#[must_use]
pub fn explore(case: Case) -> Explored {
    let (name, bounds) = (case.name, case.to_string());
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let run = Run { case, known: Mutex::default() };
    let any = HasDiscoveries::AnyFailures;
    let checker = run.checker().threads(threads).finish_when(any).spawn_bfs().join();
    let broken = checker.discoveries().into_iter().next().map(|(property, path)| {
        let last = path.last_state();
        let why = last.violation.clone().or_else(|| checker.model().goes_on(last).err());
        let steps =
            path.clone().into_actions().iter().map(|action| format!("{action:?}")).collect();
        (property, why, steps)
    });
    Explored {
        name,
        bounds,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: begun.elapsed(),
        complete: broken.is_none() && checker.is_done(),
        broken,
    }
}
