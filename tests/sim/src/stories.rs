//! Stories in which nothing is left to chance but how long things take, and one process that ends in them after a
//! certain effect: all its effects, one after the other, are the moments in which a process can end.

use pgha_machine::failover::Request;
use pgha_machine::failover::agent::{self, Command};
use pgha_machine::failover::coordinator;
use pgha_machine::failover::message::Message;
use pgha_machine::failover::record::Record;

use crate::agents::Node;
use crate::clock::Time;
use crate::coverage::write_name;
use crate::faults::Fault;
use crate::postgres::State;
use crate::world::{Occurrence, Process, World};

/// When a story begins, and when its effects are counted no more.
pub(crate) const BEGINS: Time = 600;
const LASTS: Time = 3_000;

/// What happens to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Story {
    /// Its machine is gone for a while.
    Lost,
    /// The same, and there is a fence device.
    TurnedOff,
    /// PostgreSQL crashes, and is not restarted.
    Crashed,
    /// PostgreSQL crashes, and is restarted.
    Restarted,
    /// Nobody reaches it.
    CutOff,
    /// The store does not reach it.
    WithoutStore,
    /// The store reaches nobody.
    StoreDown,
    /// Its disk does not write.
    Faulty,
    /// Its agent stands still for less than a lease.
    Silent,
    /// Its machine is gone, and so is the next one's as soon as it is nominated.
    BothLost,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Lost,
        Self::TurnedOff,
        Self::Crashed,
        Self::Restarted,
        Self::CutOff,
        Self::WithoutStore,
        Self::StoreDown,
        Self::Faulty,
        Self::Silent,
        Self::BothLost,
    ];

    /// When it is over.
    pub(crate) const fn over(self) -> Time {
        BEGINS + LASTS
    }
}

/// A process that ends, and begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Which: the agents first, then the controllers.
    pub process: usize,
    /// After so many effects that it carried out since the story began, the first is 1.
    pub after: u64,
    /// How long it is gone, in milliseconds.
    pub gone: Time,
}

/// The effects that were carried out in a story.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    counts: Vec<u64>,
    last: Option<(Process, Time, &'static str)>,
    pub(crate) ended: Option<&'static str>,
    /// The nominee is gone, as the story has it.
    nominee: bool,
}

impl Steps {
    pub(crate) fn counts(&self, processes: usize) -> Vec<u64> {
        (0..processes).map(|of| self.counts.get(of).copied().unwrap_or(0)).collect()
    }
}

impl World {
    /// The story begins.
    pub(crate) fn tell(&mut self) {
        let Some(story) = self.plan.story else { return };
        self.say(|| format!("STORY {story:?}"));
        let store = self.store_process();
        let fault = match story {
            Story::Lost | Story::TurnedOff | Story::BothLost => {
                self.power_off(0);
                Fault::Node(0)
            }
            Story::Crashed | Story::Restarted => return self.crash_postgres(0),
            Story::CutOff => self.cut_off(&[0]),
            Story::WithoutStore => self.cut_pairs(vec![(0, store)]),
            Story::StoreDown => {
                self.store.down = true;
                Fault::Store
            }
            Story::Faulty => {
                self.faulty(0, true);
                Fault::Faulty(0)
            }
            Story::Silent => {
                self.nodes[0].paused = self.now + 500;
                return;
            }
        };
        self.after(LASTS / 2, Occurrence::End(fault));
    }

    /// The record was changed: the story may go on by that.
    pub(crate) fn goes_on_by(&mut self, record: &Record) {
        let nominee = record.nomination.as_ref().and_then(|it| self.process_of(&it.node));
        let told = self.plan.story == Some(Story::BothLost) && !self.steps.nominee;
        if let Some(node) = nominee.filter(|_| told) {
            self.steps.nominee = true;
            self.power_off(node);
            self.after(LASTS / 2, Occurrence::End(Fault::Node(node)));
        }
    }

    /// Counts an effect that was carried out; whether that process ends with it.
    pub(crate) fn ends_after(&mut self, process: Process, step: &'static str) -> bool {
        let told = self.plan.story.is_some_and(|story| (BEGINS..story.over()).contains(&self.now));
        // What is told to several is one effect: who ends between two of these has lost a message.
        let again =
            self.steps.last.replace((process, self.now, step)) == Some((process, self.now, step));
        if !told || again {
            return false;
        }
        if self.steps.counts.len() <= process {
            self.steps.counts.resize(process + 1, 0);
        }
        self.steps.counts[process] += 1;
        let Some(ending) = self.plan.ending else { return false };
        if (ending.process, ending.after) != (process, self.steps.counts[process]) {
            return false;
        }
        self.say(|| format!("ENDING process {process} after {step}"));
        self.steps.ended = Some(step);
        let fault = match process.checked_sub(self.plan.nodes) {
            None => Fault::Agent(process),
            Some(of) => Fault::Controller(of),
        };
        self.after(ending.gone, Occurrence::End(fault));
        true
    }

    /// An effect of a controller, in a word.
    pub(crate) fn step_of_controller(&self, effect: &coordinator::Effect) -> &'static str {
        match effect {
            coordinator::Effect::Store(request) => self.step_of_request(request),
            coordinator::Effect::Send { message, .. } => step_of_message(message),
            coordinator::Effect::TurnOff { .. } => "turn off",
            coordinator::Effect::Answered { .. } => "answer an order",
        }
    }

    /// An effect of an agent, in a word.
    pub(crate) fn step_of_agent(&self, effect: &agent::Effect) -> &'static str {
        match effect {
            agent::Effect::Store(request) => self.step_of_request(request),
            agent::Effect::Send { message, .. } => step_of_message(message),
            agent::Effect::Do { command, .. } => step_of_command(command),
            agent::Effect::Arm(_) => "arm",
            agent::Effect::Copy { .. } => "copy",
            agent::Effect::Claim(_) => "claim",
        }
    }

    fn step_of_request(&self, request: &Request) -> &'static str {
        match request {
            Request::Read => "read",
            Request::Put { record, .. } => write_name(self.store.record(), record),
        }
    }

    /// Of how many nodes clients can have something acknowledged.
    pub(crate) fn primaries(&mut self) -> usize {
        let now = self.now;
        let writes = |of: &mut Node| {
            let admits = matches!(of.postgres.state, State::Primary { admits: true });
            admits && of.postgres.passes(of.clock.at(now))
        };
        self.nodes.iter_mut().map(writes).filter(|writes| *writes).count()
    }
}

const fn step_of_message(message: &Message) -> &'static str {
    match message {
        Message::Report(_) => "report",
        Message::Ask { .. } => "ask",
        Message::Grant { .. } => "grant",
        Message::CatchUp { .. } => "have it catch up",
        Message::Clear => "have it count anew",
    }
}

const fn step_of_command(command: &Command) -> &'static str {
    match command {
        Command::Keep(_) => "keep",
        Command::Start => "start",
        Command::Restart { .. } => "restart",
        Command::StopStreaming => "stop streaming",
        Command::CatchUp { .. } => "catch up",
        Command::Follow { .. } => "follow",
        Command::Exchange { .. } => "exchange",
        Command::Rewind { .. } => "rewind",
        Command::Promote { .. } => "promote",
        Command::UseVoters(_) => "use voters",
        Command::Admit => "admit",
        Command::Kill => "kill",
    }
}
