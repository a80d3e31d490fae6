//! Small clusters of which every order of events is followed, within bounds.
//!
//! The machines are those that ship, and so are the model of PostgreSQL, the store and the oracle those of the
//! random schedules. A [`Case`] says what there is, what may go wrong, and how much: [`explore`] goes through
//! all states that can be reached (`stateright`), and says how many there were.
//!
//! What is bounded in all cases, and so not covered here but by the random schedules:
//!
//! - All clocks go alike, and time moves only from one deadline to the next. Whatever is under way comes
//!   before time goes on, in any order; only [`Case::late`] of it may come later.
//! - Who has a deadline looks before anything else happens, an agent sees at once how far the logs are, and
//!   what was read from the store comes back at once. A process writes to the store three times in a
//!   millisecond at most. An agent that is told to keep something, to start, to follow or to rewind has done
//!   it when that is done.
//! - The store tells nobody that the record has changed: it is read when a machine asks for it.
//! - What the processes tell an *agent* of how they are comes at once, and so does what says nothing new;
//!   of what one of them tells the controller, only the last word is under way.
//! - One controller, which has no fence device. Another one is only suspicious ([`Fault::Suspicion`]).
//! - A command of an agent works if it can. A standby that stops knows the end of its log.
//! - Faults begin within [`Case::when`], and every order is followed up to [`Case::horizon`]. From each state
//!   at the end of that, everything is mended and *one* order is followed until a new commit is acknowledged.

mod actions;
mod case;
mod drive;
mod state;

use std::time::{Duration, Instant};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

pub use self::actions::Action;
pub use self::case::{Case, Fault};
pub use self::state::State;
use crate::oracle::Violation;

/// After the last fault somebody writes again before this many deadlines have come.
const ROUNDS: usize = 300;

impl Model for Case {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // One counterexample is enough.
        if state.violation.is_some() {
            return;
        }
        let pending = state.pending(self);
        if state.now.milliseconds() < self.horizon {
            if state.can_wait(self, &pending) {
                actions.push(Action::Wait);
            }
            actions.extend(state.possible(self));
        }
        actions.extend(pending);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.perform(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "nothing acknowledged is lost, and no rule is broken",
                |_: &Self, state: &State| state.violation.is_none(),
            ),
            Property::always("never two that can acknowledge", |case: &Self, state: &State| {
                let can = |node: &usize| state.can_acknowledge(case, *node);
                (0..case.nodes).filter(can).count() <= 1
            }),
            Property::always(
                "mended, it goes on and loses nothing",
                |case: &Self, state: &State| !state.is_last(case) || state.goes_on(case).is_ok(),
            ),
        ]
    }
}

impl State {
    fn is_last(&self, case: &Case) -> bool {
        self.violation.is_none()
            && self.now.milliseconds() >= case.horizon
            && self.pending(case).is_empty()
    }

    /// Mends all and follows one order of events until a new commit is acknowledged.
    fn goes_on(&self, case: &Case) -> Result<(), Violation> {
        let mut state = self.clone();
        for fault in &case.faults {
            if state.lasts(case, *fault) {
                state.perform(case, Action::Mend(*fault));
            }
        }
        for _ in 0..ROUNDS {
            state.rest(case);
            let able = (0..case.nodes).find(|node| state.can_acknowledge(case, *node));
            if let Some(node) = able {
                state.write(node);
                let length = state.nodes[node].postgres.log.len();
                state.rest(case);
                if state.violation.is_none() && state.has_acknowledged(node, length) {
                    return Ok(());
                }
            }
            if let Some(violation) = state.violation.take() {
                return Err(violation);
            }
            state.perform(case, Action::Wait);
        }
        Err(Violation::NoProgress)
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
    let name = case.name;
    let begun = Instant::now();
    let checker = case.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken = checker.discoveries().into_iter().next().map(|(property, path)| {
        let last = path.last_state();
        let why = last.violation.clone().or_else(|| last.goes_on(checker.model()).err());
        let steps =
            path.clone().into_actions().iter().map(|action| format!("{action:?}")).collect();
        (property, why, steps)
    });
    Explored {
        name,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: begun.elapsed(),
        complete: broken.is_none() && checker.is_done(),
        broken,
    }
}
