//! What the commands of an agent do to PostgreSQL, and what is reported of them.

use pgha_machine::failover::agent::{Command, Outcome};
use pgha_machine::{Epoch, Moment};

use crate::postgres::{Log, Postgres, State};

impl Postgres {
    /// Carries out what concerns this server alone, from the beginning to the end; whether it worked. What needs
    /// another node, or the disk of the agent, changes nothing here.
    pub(crate) fn obey(&mut self, command: &Command, epoch: Epoch, armed: Moment) -> bool {
        self.begin(command, None, armed);
        self.finish(command, epoch, armed)
    }

    /// What is done first: what stands in the files, and what is ended. From here on PostgreSQL may do the rest
    /// of it by itself ([`Self::goes_on`]).
    pub(crate) fn begin(&mut self, command: &Command, source: Option<usize>, armed: Moment) {
        match command {
            Command::Start => {
                self.kill();
                self.files.conninfo = None;
                self.files.admits = true;
            }
            Command::Restart { voters } => {
                self.kill();
                self.files.voters.clone_from(voters);
                self.files.admits = false;
            }
            Command::StopStreaming => self.files.conninfo = None,
            Command::CatchUp { .. } | Command::Follow { .. } => self.files.conninfo = source,
            Command::Rewind { .. } => {
                self.kill();
                self.torn = true;
            }
            Command::Exchange { .. } => {
                self.kill();
                self.files.conninfo = None;
                self.files.admits = true;
                self.exchanging = self.copy.is_some();
            }
            Command::Promote { voters, .. } => {
                if self.state == State::Standby {
                    self.files.voters.clone_from(voters);
                    self.arm(armed);
                }
            }
            Command::UseVoters(voters) => {
                self.files.voters.clone_from(voters);
                self.reloading = matches!(self.state, State::Primary { .. });
            }
            Command::Admit => self.files.admits = true,
            Command::Kill => self.shut(),
            Command::Keep(_) => {}
        }
    }

    /// Whether what has begun may come to its end though nobody waits for it any more.
    pub(crate) const fn goes_on(command: &Command) -> bool {
        match command {
            Command::Start
            | Command::Restart { .. }
            | Command::Exchange { .. }
            | Command::StopStreaming
            | Command::Follow { .. }
            | Command::Promote { .. }
            | Command::UseVoters(_)
            | Command::Admit
            | Command::Kill => true,
            Command::Keep(_) | Command::CatchUp { .. } | Command::Rewind { .. } => false,
        }
    }

    /// The rest of what has begun; whether it worked.
    pub(crate) fn finish(&mut self, command: &Command, epoch: Epoch, armed: Moment) -> bool {
        match command {
            Command::Start | Command::Restart { .. } if self.torn => return false,
            Command::Exchange { .. } if !self.exchanging => return false,
            // Where an exchange was interrupted the next start goes on with it.
            Command::Start | Command::Exchange { .. } => {
                self.exchange();
                self.start(State::Standby, None);
            }
            Command::Restart { .. } => {
                self.start(State::Primary { admits: false }, Some(armed));
                self.recovered = Some(self.log.len());
                self.voters.clone_from(&self.files.voters);
                self.epoch = epoch;
            }
            Command::Promote { timeline, .. } => {
                if self.state != State::Standby {
                    return false;
                }
                self.unflushed = 0;
                let fork = self.log.fork(*timeline);
                debug_assert_eq!(fork.lsn, self.log.end());
                self.files.conninfo = None;
                self.epoch = epoch;
                self.state = State::Primary { admits: true };
                self.reload();
            }
            Command::StopStreaming
            | Command::Follow { .. }
            | Command::UseVoters(_)
            | Command::Admit => self.reload(),
            Command::Kill => self.kill(),
            Command::Keep(_) | Command::CatchUp { .. } | Command::Rewind { .. } => {}
        }
        true
    }

    /// Reads its files.
    pub(crate) fn reload(&mut self) {
        match self.state {
            State::Down => {}
            State::Standby => {
                self.upstream = self.files.conninfo;
                if self.upstream.is_none() {
                    // A receiver flushes what it has before it ends.
                    self.unflushed = 0;
                }
            }
            State::Primary { .. } => {
                self.upstream = None;
                self.voters.clone_from(&self.files.voters);
                self.reloading = false;
                self.state = State::Primary { admits: self.files.admits };
            }
        }
    }

    /// Streams all that another has, where it can.
    pub(crate) fn catch_up_with(&mut self, source: &Log) {
        if self.log.begins(source) {
            self.log.follow(source, usize::MAX / 2);
            self.unflushed = 0;
        }
    }

    /// The copy takes the place of its data directory, if that has begun.
    fn exchange(&mut self) {
        if std::mem::take(&mut self.exchanging)
            && let Some((log, begins)) = self.copy.take()
        {
            self.log = log;
            self.begins = begins;
        }
    }

    /// Takes back what the other has not, and starts as a standby.
    pub(crate) fn rewind_to(&mut self, source: &Log) {
        self.log.rewind(source);
        self.begins = 0;
        self.torn = false;
        self.unflushed = 0;
        self.files.conninfo = None;
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
            Command::Keep(_) | Command::Follow { .. } | Command::Admit => Outcome::Done,
            Command::Start
            | Command::StopStreaming
            | Command::CatchUp { .. }
            | Command::Exchange { .. }
            | Command::Rewind { .. } => Outcome::Stopped(known.then(|| self.log.wal())),
            Command::Promote { .. } => match self.log.wal().left.last() {
                Some(fork) => Outcome::Promoted(*fork),
                None => Outcome::Failed,
            },
            Command::Restart { .. } | Command::UseVoters(_) => {
                Outcome::Flushed(self.durable().end.lsn)
            }
            Command::Kill => Outcome::Killed,
        }
    }
}
