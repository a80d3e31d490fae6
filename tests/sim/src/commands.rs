//! What the commands of an agent do to PostgreSQL, and what is reported of them.

use pgha_machine::failover::agent::{Command, Outcome};
use pgha_machine::{Epoch, Moment};

use crate::postgres::{Log, Postgres, State};

impl Postgres {
    /// Carries out what concerns this server alone; whether it worked. What needs another node, or the disk
    /// of the agent, changes nothing here.
    pub(crate) fn obey(&mut self, command: &Command, epoch: Epoch, armed: Moment) -> bool {
        match command {
            Command::Start => self.start(State::Standby, None),
            Command::Restart { voters } => {
                self.start(State::Primary { admits: false }, Some(armed));
                self.voters = voters.clone();
                self.epoch = epoch;
            }
            Command::StopStreaming => self.upstream = None,
            Command::Promote { timeline, voters } => {
                if self.state != State::Standby {
                    return false;
                }
                let fork = self.log.fork(*timeline);
                debug_assert_eq!(fork.lsn, self.log.end());
                self.voters = voters.clone();
                self.upstream = None;
                self.epoch = epoch;
                self.state = State::Primary { admits: true };
                self.arm(armed);
            }
            Command::UseVoters(voters) => self.voters = voters.clone(),
            Command::Admit => self.state = State::Primary { admits: true },
            Command::Kill => self.kill(),
            Command::Keep(_)
            | Command::CatchUp { .. }
            | Command::Follow(_)
            | Command::Rewind { .. } => {}
        }
        true
    }

    /// Streams all that another has, where it can.
    pub(crate) fn catch_up_with(&mut self, source: &Log) {
        if self.log.begins(source) {
            self.log.follow(source, usize::MAX / 2);
        }
    }

    /// Takes back what the other has not, and starts as a standby.
    pub(crate) fn rewind_to(&mut self, source: &Log) {
        self.log.rewind(source);
        self.start(State::Standby, None);
    }

    /// What is reported of a command that has ended; `known`: so is the end of the log of a standby.
    pub(crate) fn outcome(&self, command: &Command, worked: bool, known: bool) -> Outcome {
        // It crashed in the meantime, and is reported as gone.
        let gone =
            self.state == State::Down && !matches!(command, Command::Kill | Command::Keep(_));
        if gone || !worked {
            return Outcome::Failed;
        }
        match command {
            Command::Keep(_) | Command::Follow(_) | Command::Admit => Outcome::Done,
            Command::Start
            | Command::StopStreaming
            | Command::CatchUp { .. }
            | Command::Rewind { .. } => Outcome::Stopped(known.then(|| self.log.wal())),
            Command::Promote { .. } => match self.log.wal().left.last() {
                Some(fork) => Outcome::Promoted(*fork),
                None => Outcome::Failed,
            },
            Command::Restart { .. } | Command::UseVoters(_) => Outcome::Flushed(self.log.end()),
            Command::Kill => Outcome::Killed,
        }
    }
}
