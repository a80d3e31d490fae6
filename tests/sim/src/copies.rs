//! Copies of a node's data directory beside another's, made while everything goes on.

use pgha_machine::failover::agent::Event;
use pgha_machine::{Lsn, NodeName};

use crate::clock::Time;
use crate::postgres::State;
use crate::world::{Occurrence, World};

/// A copy that is being made.
#[derive(Clone, Debug)]
pub(crate) struct UnderCopy {
    number: u64,
    /// Of whom, and of which start of its.
    of: usize,
    life: u64,
    /// What was flushed there when it was begun.
    to: Lsn,
    /// Of which start of its own: whoever ends PostgreSQL ends what copies, too.
    own_life: u64,
}

impl World {
    /// A copy is begun.
    pub(crate) fn copy(&mut self, node: usize, run: u64, number: u64, from: &NodeName) {
        self.say(|| format!("n{node}: copy {number} of {from}"));
        let own_life = self.nodes[node].postgres.life;
        // What was left of another goes first.
        self.nodes[node].postgres.copy = None;
        let takes = self.a_while() * 4;
        let Some(of) = self.other(node, from) else {
            self.after(takes, Occurrence::Agent { node, run, event: failed(number) });
            return;
        };
        let source = &self.nodes[of].postgres;
        let (life, to) = (source.life, Lsn::new(source.flushed() as u64));
        let copy = UnderCopy { number, of, life, to, own_life };
        self.after(takes, Occurrence::Copied { node, run, copy });
    }

    /// It comes to its end, if all were there all the time.
    pub(crate) fn copied(&mut self, node: usize, run: u64, copy: UnderCopy) {
        let now: Time = self.now;
        let own = &self.nodes[node];
        if own.run != run || own.off {
            return;
        }
        if own.halted > now {
            self.at(own.halted, Occurrence::Copied { node, run, copy });
            return;
        }
        let source = &self.nodes[copy.of];
        let whole = self.reaches(node, copy.of)
            && !source.off
            && source.postgres.life == copy.life
            && source.postgres.state != State::Down
            && own.postgres.life == copy.own_life;
        let event = if whole {
            self.nodes[node].postgres.copy = Some(source.postgres.copied());
            Event::Copied { number: copy.number, to: Some(copy.to) }
        } else {
            failed(copy.number)
        };
        self.say(|| format!("n{node}: {event:?}"));
        self.agent_hears(node, run, event);
    }
}

const fn failed(number: u64) -> Event {
    Event::Copied { number, to: None }
}
