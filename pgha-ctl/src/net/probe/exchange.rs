//! One probe: as much of TCP as it takes (RFC 9293), without a clock or a socket.
//!
//! ```text
//!              SYN-ACK, nothing to ask: RST
//!   opening ------------------------------------> over
//!      | SYN-ACK: the question       RST: refused   ^
//!      v                                            |
//!    asked -----------------------------------------+
//!      | an answer: FIN              RST, FIN       |
//!      v                                            |
//!   ending -----------------------------------------+
//!                          FIN: RST
//! ```
//!
//! A connection that was made is ended by a FIN, because PostgreSQL complains in its log of one that is
//! reset under its hands, and by a RST when the server has ended it too, so that nobody waits on.

use pgha_machine::balancer::ProbeFinding;

use super::segment::{Flags, Segment};
use super::startup;

#[cfg(test)]
mod tests;

/// Numbers behind the first one that an exchange may use: the question and a FIN have to fit.
pub(super) const SPAN: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A SYN was sent.
    Opening,
    /// The question was sent; the next number of the server's.
    Asked(u32),
    /// A FIN was sent; the next number of the server's.
    Ending(u32),
    /// Nothing is expected any more.
    Over,
}

/// A probe that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    /// The number of its SYN.
    sequence: u32,
    /// What it asks; empty where the handshake says enough.
    question: Vec<u8>,
    state: State,
}

/// What follows from a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reaction {
    pub(super) send: Option<Segment>,
    pub(super) found: Option<ProbeFinding>,
}

impl Reaction {
    fn send(segment: Segment) -> Self {
        Self { send: Some(segment), found: None }
    }

    fn found(self, finding: ProbeFinding) -> Self {
        Self { found: Some(finding), ..self }
    }
}

impl Exchange {
    /// A probe whose SYN has that number, at most `u32::MAX - SPAN`, and which asks that.
    pub(super) fn new(sequence: u32, question: Vec<u8>) -> Self {
        Self { sequence, question, state: State::Opening }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// What is sent at first, and again while nothing comes back.
    pub(super) fn due(&self) -> Option<Segment> {
        match self.state {
            State::Opening => {
                let flags = Flags { syn: true, ..Flags::default() };
                Some(Segment { flags, sequence: self.sequence, ..Segment::default() })
            }
            State::Asked(next) => {
                Some(Segment { payload: self.question.clone(), ..self.segment(self.first(), next) })
            }
            State::Ending(next) => Some(self.fin(next)),
            State::Over => None,
        }
    }

    /// Takes in a segment of the server's. What does not belong here changes nothing.
    pub(super) fn handle(&mut self, segment: &Segment) -> Reaction {
        let Flags { syn, ack, fin, rst } = segment.flags;
        let acknowledges = |number: u32| ack && segment.acknowledgement == number;
        match self.state {
            State::Opening if !acknowledges(self.first()) => Reaction::default(),
            State::Opening if rst => self.end().found(ProbeFinding::Refused),
            State::Opening if syn && self.question.is_empty() => {
                self.reset().found(ProbeFinding::Open)
            }
            State::Opening if syn => {
                self.state = State::Asked(segment.sequence.wrapping_add(1));
                self.due().map_or_else(Reaction::default, Reaction::send)
            }
            // The server has not heard the end of the handshake.
            State::Asked(next) if syn && segment.sequence.wrapping_add(1) == next => {
                self.due().map_or_else(Reaction::default, Reaction::send)
            }
            State::Asked(next) | State::Ending(next) if segment.sequence != next => {
                Reaction::default()
            }
            State::Asked(_) if rst => self.end().found(hung_up()),
            State::Asked(_) if segment.payload.is_empty() && fin => self.reset().found(hung_up()),
            State::Asked(_) if segment.payload.is_empty() => Reaction::default(),
            State::Asked(next) => {
                let found = startup::answer(&segment.payload);
                self.state = State::Ending(behind(next, &segment.payload));
                let reaction = if fin {
                    self.reset()
                } else {
                    self.due().map_or_else(Reaction::default, Reaction::send)
                };
                reaction.found(found)
            }
            State::Ending(_) if rst => self.end(),
            State::Ending(_) if fin => self.reset(),
            State::Ending(next) if !segment.payload.is_empty() => {
                let next = behind(next, &segment.payload);
                self.state = State::Ending(next);
                Reaction::send(self.segment(self.last().wrapping_add(1), next))
            }
            State::Opening | State::Ending(_) | State::Over => Reaction::default(),
        }
    }

    /// Time is up: what is known then, and a RST, so that the server keeps nothing of it.
    pub(super) fn give_up(&mut self) -> Reaction {
        let found = match self.state {
            State::Opening => Some(ProbeFinding::Silent),
            State::Asked(_) => Some(ProbeFinding::Failing(
                "the VIP takes the connection, but PostgreSQL does not answer in time".to_owned(),
            )),
            State::Ending(_) | State::Over => None,
        };
        Reaction { found, ..self.reset() }
    }

    /// The number behind the SYN.
    const fn first(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// The number behind the question.
    fn last(&self) -> u32 {
        behind(self.first(), &self.question)
    }

    fn segment(&self, sequence: u32, acknowledgement: u32) -> Segment {
        let flags = Flags { ack: true, ..Flags::default() };
        Segment { flags, sequence, acknowledgement, payload: Vec::new() }
    }

    fn fin(&self, next: u32) -> Segment {
        let segment = self.segment(self.last(), next);
        Segment { flags: Flags { fin: true, ..segment.flags }, ..segment }
    }

    fn end(&mut self) -> Reaction {
        self.state = State::Over;
        Reaction::default()
    }

    /// Ends it with the number that the server expects.
    fn reset(&mut self) -> Reaction {
        let sequence = match self.state {
            State::Opening => self.first(),
            State::Asked(_) => self.last(),
            State::Ending(_) => self.last().wrapping_add(1),
            State::Over => return Reaction::default(),
        };
        self.state = State::Over;
        Reaction::send(rst(sequence))
    }
}

/// Answers what belongs to no probe, as a host answers for a port that it does not have (RFC 9293, section
/// 3.10.7.1): an earlier probe whose end was lost leaves nothing on the server by that.
pub(super) fn stray(segment: &Segment) -> Option<Segment> {
    let answers = segment.flags.ack && !segment.flags.rst;
    answers.then(|| rst(segment.acknowledgement))
}

fn rst(sequence: u32) -> Segment {
    Segment { flags: Flags { rst: true, ..Flags::default() }, sequence, ..Segment::default() }
}

fn behind(number: u32, bytes: &[u8]) -> u32 {
    number.wrapping_add(u32::try_from(bytes.len()).unwrap_or_default())
}

fn hung_up() -> ProbeFinding {
    ProbeFinding::Failing("the VIP takes the connection and ends it without a word".to_owned())
}
