//! The path through a VIP to one server: whether a client that is sent there finds PostgreSQL.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::withheld::Withheld;
use crate::Neighbour;

/// How the path through the VIP is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Not at all.
    Off,
    /// By a SYN, and a RST on its answer.
    Syn,
    /// By a connection and a startup message on it, as far as PostgreSQL's answer.
    Startup,
}

impl Probe {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Syn => "syn",
            Self::Startup => "startup",
        }
    }
}

/// One server behind one VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Where clients connect.
    pub vip: IpAddr,
    /// The port there.
    pub port: u16,
    /// The server's own address.
    pub address: IpAddr,
}

/// How a probe's frames get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// To its MAC address.
    Neighbour(Neighbour),
    /// It is this very node.
    Local,
}

/// What a probe found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFinding {
    /// Somebody listens on the VIP's port there.
    Open,
    /// RST: nobody listens on the VIP's port there.
    Refused,
    /// PostgreSQL listens there but takes no session, and says why (SQLSTATE 57P03, say).
    NotAccepting(String),
    /// Somebody listens there, but a client would get no session now, for a reason that is told: no slot
    /// is left (SQLSTATE class 53), say, or nothing comes after the handshake.
    Failing(String),
    /// No answer: the VIP is missing there, or the frames do not arrive.
    Silent,
    /// It could not be carried out for a reason that lies here, which is told. Says nothing of the server.
    Undecided(String),
}

/// What is known of a server's path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VipStanding {
    /// Its service does not probe.
    #[default]
    Off,
    /// No probe has ended yet.
    Unchecked,
    /// A probe came through, and none failed for sure since.
    Proven,
    /// So many probes in a row as `fall` says got no answer while the server itself answers.
    Silent,
    /// Nobody listens on the VIP's port.
    Refused,
    /// PostgreSQL takes no sessions on the VIP.
    NotAccepting,
    /// So many probes in a row as `fall` says ended without a session.
    Failing,
    /// Probes cannot be carried out.
    Undecided,
}

/// What probes of a server's path have said.
///
/// ```text
///   +-----------+  open    +--------+  silent x fall, while the server itself answers   +--------+
///   | Unchecked | -------> | Proven | ------------------------------------------------> | Silent |
///   +-----------+          +--------+  and others on their paths                        +--------+
///     |       |  cannot be     ^   |  failing x fall ----> Failing
///     |       |  carried out   |   |  refused, not accepting: at once -----> Refused, NotAccepting
///     |       +-> Undecided ---+   +<------- open: at once, from each of them
///     +-- silent x fall, whoever else answers; failing, refused, not accepting: as from Proven
/// ```
///
/// Who has clients keeps them while no path of its service answers: that is a fault on this side as likely
/// as on all servers at once. Who has none yet gets none by that.
#[derive(Clone, Debug, Default)]
pub(super) struct Passage {
    state: State,
    /// How many probes in a row got no answer, of those that count.
    silences: u8,
    /// How many probes in a row got no answer while no other path did either.
    unheard: u8,
    /// How many probes in a row ended without a session.
    failures: u8,
    /// What the last one said that did not come through.
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unchecked,
    Proven,
    Silent,
    Refused,
    NotAccepting,
    Failing,
    Undecided,
}

/// Told of a path whose silence does not count.
const NOBODY: &str =
    "probes get no answer, on no path of this service: the reason may lie on this director";

impl Passage {
    /// Of a server that had clients before this controller, or before probes were wanted.
    pub(super) fn proven() -> Self {
        Self { state: State::Proven, ..Self::default() }
    }

    /// The state after one more probe. `answers` says whether the server itself answered its last check: where
    /// it does not, a silence of the path says nothing more. `others` says whether another server answered
    /// on its path since the probe before.
    pub(super) fn after(
        &self,
        finding: &ProbeFinding,
        fall: u8,
        answers: bool,
        others: bool,
    ) -> Self {
        let was = self.state;
        let at_once = |state, error| Self { state, error, ..Self::default() };
        match finding {
            ProbeFinding::Open => Self::proven(),
            ProbeFinding::Refused => at_once(State::Refused, None),
            ProbeFinding::NotAccepting(error) => at_once(State::NotAccepting, Some(error.clone())),
            ProbeFinding::Failing(error) => {
                let failures = self.failures.saturating_add(1);
                let state = if failures >= fall { State::Failing } else { was };
                Self { failures, ..at_once(state, Some(error.clone())) }
            }
            ProbeFinding::Silent if !answers => self.clone(),
            ProbeFinding::Silent if !others && matches!(was, State::Proven | State::Undecided) => {
                let unheard = self.unheard.saturating_add(1);
                let error = if unheard >= fall { Some(NOBODY.to_owned()) } else { None };
                Self { unheard, error, failures: 0, ..self.clone() }
            }
            ProbeFinding::Silent => {
                let silences = self.silences.saturating_add(1);
                let state = if silences >= fall { State::Silent } else { was };
                Self { silences, ..at_once(state, None) }
            }
            ProbeFinding::Undecided(error) => {
                let state = if was == State::Unchecked { State::Undecided } else { was };
                Self { state, error: Some(error.clone()), ..self.clone() }
            }
        }
    }

    /// Whether it, and every other path, has been silent for long enough to tell of.
    pub(super) const fn is_unheard(&self, fall: u8) -> bool {
        self.unheard >= fall
    }

    /// Whether no probe has said anything yet.
    pub(super) fn is_unchecked(&self) -> bool {
        self.state == State::Unchecked
    }

    /// Why a server gets no new connections, if that is its path.
    pub(super) const fn withheld(&self) -> Option<Withheld> {
        match self.state {
            // What cannot be found out from here withholds nobody.
            State::Proven | State::Undecided => None,
            State::Unchecked => Some(Withheld::VipUnproven),
            State::Silent => Some(Withheld::VipSilent),
            State::Refused => Some(Withheld::VipRefused),
            State::NotAccepting => Some(Withheld::VipNotAccepting),
            State::Failing => Some(Withheld::VipFailing),
        }
    }

    /// For operators.
    pub(super) const fn standing(&self) -> VipStanding {
        match self.state {
            State::Unchecked => VipStanding::Unchecked,
            State::Proven => VipStanding::Proven,
            State::Silent => VipStanding::Silent,
            State::Refused => VipStanding::Refused,
            State::NotAccepting => VipStanding::NotAccepting,
            State::Failing => VipStanding::Failing,
            State::Undecided => VipStanding::Undecided,
        }
    }

    /// See [`super::ServerView::vip_error`].
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

#[cfg(test)]
mod tests;
