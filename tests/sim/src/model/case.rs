//! A small case: what there is, what may go wrong, and how far it is followed.

use std::fmt;
use std::time::Duration;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::Mode;
use pgha_machine::failover::rules::Rules;
use pgha_machine::failover::timing::{Profile, Wanted};

/// From when on and until when, in milliseconds since the beginning.
pub type Window = (u64, u64);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The agent's process ends, until it is started again. PostgreSQL goes on.
    Agent(usize),
    /// The agent's process stands still. PostgreSQL goes on.
    Paused(usize),
    /// PostgreSQL ends by itself. Nothing is ever to be mended.
    Crash(usize),
    /// The machine is off, until it is on again.
    Off(usize),
    /// The controller's process ends, and another one that knows nothing begins at once.
    Controller(usize),
    /// The store answers nobody.
    Store,
    /// The store does not answer the agent of this node.
    StoreOf(usize),
    /// Nobody else reaches this node.
    Alone(usize),
    /// Another controller, of which nothing else is there, suspects the primary, rightly or not, and writes
    /// so. Nothing is ever to be mended.
    Suspicion,
    /// An operator has another controller, of which nothing else is there, order that another node be the primary,
    /// as an order is that was found good. Nothing is ever to be mended.
    Ordered,
    /// The same, whatever that node lacks; an order as it would be refused while the primary is well.
    Forced(usize),
}

/// A fault that may happen, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub(super) fault: Fault,
    pub(super) begins: Window,
    pub(super) ends: Option<Window>,
}

impl Fault {
    /// It may begin at any step within that time, and is mended at the horizon.
    #[must_use]
    pub const fn within(self, from: u64, until: u64) -> Trouble {
        Trouble { fault: self, begins: (from, until), ends: None }
    }

    /// Whether it is over as soon as it has happened.
    pub(super) const fn is_short(self) -> bool {
        matches!(
            self,
            Self::Crash(_)
                | Self::Controller(_)
                | Self::Suspicion
                | Self::Ordered
                | Self::Forced(_)
        )
    }
}

impl Trouble {
    /// It may be mended at any step within that time, each by itself.
    #[must_use]
    pub const fn mended(self, from: u64, until: u64) -> Self {
        Self { ends: Some((from, until)), ..self }
    }
}

/// How a case begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// At rest: everybody has read the record, the first node is the primary, and who is a voter streams.
    AtRest,
    /// All agents were started a moment ago. The first node has just taken epoch 2 and is not promoted yet;
    /// the others are frozen.
    Taken,
}

/// A small case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// How it begins.
    pub begins: Begins,
    /// Nodes with PostgreSQL; the first one is the primary.
    pub nodes: usize,
    /// Controllers.
    pub controllers: usize,
    /// What a commit waits for.
    pub mode: Mode,
    /// How many of the nodes are voters from the beginning: the second one, the third one.
    pub voters: usize,
    /// A quorum of frozen voters proves nothing: only the end of the lease does.
    pub by_lease_only: bool,
    /// How often PostgreSQL is restarted in a term.
    pub restarts: u32,
    /// Whether another node takes over after a crash, where one can at once.
    pub hand_over: bool,
    /// The rules that hold.
    pub rules: Rules,
    /// What may go wrong: any of these in any order, each at most once.
    pub faults: Vec<Trouble>,
    /// How many commits clients write, at any time.
    pub writes: u32,
    /// How many messages, answers of the store and commands may be under way while time goes on. All others
    /// come before that, in any order.
    pub late: u8,
    /// How many requests to the store go without an answer. They may be carried out, at any time after that.
    pub lost: u8,
    /// How often a process is told, at any time, of the state that the record had at the very beginning.
    pub stale: u8,
    /// Some of what happens comes before everything else but faults: a request to read, while nobody has sent a
    /// write; the answer to a write, once it is written; the end of a command, once it is done.
    pub coarse: bool,
    /// Whether it must go on, and not only lose nothing, once everything is mended.
    pub progress: bool,
    /// How far every order of events is followed, in milliseconds.
    pub horizon: u64,
}

impl Case {
    /// A primary and a standby that it waits for, one controller, and nothing that goes wrong.
    #[must_use]
    pub fn small(name: &'static str) -> Self {
        Self {
            name,
            begins: Begins::AtRest,
            nodes: 2,
            controllers: 1,
            mode: Mode::Strict { quorum: 1 },
            voters: 1,
            by_lease_only: false,
            restarts: 1,
            hand_over: false,
            rules: Rules::default(),
            faults: Vec::new(),
            writes: 0,
            late: 0,
            lost: 0,
            stale: 0,
            coarse: false,
            progress: true,
            horizon: 1_500,
        }
    }

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

    /// How many processes there are: the agents, then the controllers.
    pub(super) const fn processes(&self) -> usize {
        self.nodes + self.controllers
    }
}

/// Its bounds.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, controllers, mode, voters, restarts, writes, .. } = self;
        let Self { late, lost, stale, horizon, .. } = self;
        write!(f, "{nodes} nodes, {controllers} controllers, {mode:?}, {voters} voters, ")?;
        if self.by_lease_only {
            write!(f, "no proof by quorum, ")?;
        }
        for Trouble { fault, begins, ends } in &self.faults {
            write!(f, "{fault:?} in {begins:?} ms")?;
            if let Some(ends) = ends {
                write!(f, " and mended in {ends:?} ms")?;
            }
            write!(f, ", ")?;
        }
        write!(
            f,
            "{restarts} restarts, {writes} writes, {late} late, {lost} lost, {stale} stale, "
        )?;
        write!(f, "{}, up to {horizon} ms", if self.coarse { "coarse" } else { "fine" })
    }
}
