//! A small case: what there is, what may go wrong, and how far it is followed.

use std::time::Duration;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::Mode;
use pgha_machine::failover::rules::Rules;
use pgha_machine::failover::timing::{Profile, Wanted};

/// A fault that may happen, once and at any moment that a case allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The agent's process ends, until it is started again. PostgreSQL goes on.
    Agent(usize),
    /// The agent's process stands still. PostgreSQL goes on.
    Paused(usize),
    /// PostgreSQL ends by itself.
    Crash(usize),
    /// The machine is off, until it is on again.
    Off(usize),
    /// The store answers nobody.
    Store,
    /// The store does not answer the agent of this node.
    StoreOf(usize),
    /// Nobody else reaches this node.
    Alone(usize),
    /// Another controller suspects the primary, rightly or not, and writes so. Nothing is ever to be mended.
    Suspicion,
}

/// A small case. All of it begins at rest: everybody has read the record, and who is a voter streams.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Nodes with PostgreSQL; the first one is the primary.
    pub nodes: usize,
    /// What a commit waits for.
    pub mode: Mode,
    /// How many of the nodes are voters from the beginning: the second one, the third one.
    pub voters: usize,
    /// A quorum of frozen voters proves nothing: only the end of the lease does.
    pub by_lease_only: bool,
    /// How often PostgreSQL is restarted in a term.
    pub restarts: u32,
    /// The rules that hold.
    pub rules: Rules,
    /// What may go wrong: any of these in any order, each at most once.
    pub faults: Vec<Fault>,
    /// From when on and until when faults begin, in milliseconds.
    pub when: (u64, u64),
    /// From when on and until when they may be mended, each by itself; `None`: only at the horizon.
    pub mended: Option<(u64, u64)>,
    /// How many commits clients write, at any time.
    pub writes: u32,
    /// How many messages, answers of the store and commands may be under way while time goes on. All others
    /// come before that, in any order.
    pub late: u8,
    /// How many requests to the store go without an answer. They may be carried out, at any time after that.
    pub lost: u8,
    /// How far every order of events is followed, in milliseconds.
    pub horizon: u64,
}

impl Case {
    /// A lease of 1 s that is renewed every 300 ms and dropped after 600 ms.
    pub(super) fn pace() -> Pace {
        let wanted =
            Wanted { renew_every: Some(Duration::from_millis(300)), ..Wanted::from(Profile::Fast) };
        Pace {
            lease: wanted.judge().expect("two renewals come before it is dropped"),
            heartbeat: Duration::from_millis(300),
            silence: Duration::from_millis(400),
        }
    }

    /// The same with other rules.
    #[must_use]
    pub fn with(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }
}
