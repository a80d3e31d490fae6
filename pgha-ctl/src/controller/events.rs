//! `GET /v1/events`: what happened last. Whatever people are told goes to the log and into this ring in one
//! step, so that the two never differ.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;

use pgha_machine::NodeName;
use serde::{Deserialize, Serialize};

use super::Controller;
use super::status::SCHEMA;
use crate::clock::unix_ms;

/// How many events are kept.
pub const KEPT: usize = 256;

/// How urgent an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A change of roles or members.
    Info,
    /// Needs a person.
    Warning,
}

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The program is on the interfaces, from here on by this controller.
    Attached,
    /// The primary can be asked.
    PrimaryAnswers,
    /// The primary cannot be asked.
    PrimaryLost,
    /// More than one server says that it is the primary.
    SeveralPrimaries,
    /// A former primary is still out of recovery.
    FormerPrimary,
    /// A server became a member of a service.
    ServerJoined,
    /// A server is no member any more.
    ServerLeft,
    /// A server gets new connections again, or for the first time.
    ServerUp,
    /// A server gets no new connections.
    ServerDown,
    /// A server that is well gets no new connections.
    ServerWithheld,
    /// What kept new connections from it is over.
    ServerMended,
    /// The primary serves readers, or does no more, because no standby is left.
    FellBack,
    /// Writers are sent to another server, or to none.
    WritersMoved,
    /// A server is reached elsewhere.
    ServerMoved,
    /// No id is left for a server.
    ServerFull,
    /// This director reaches nobody any more.
    CutOff,
    /// It does again.
    Reached,
    /// This director became the active one, or stands by.
    Role,
    /// No server of a service answers probes through its VIP.
    VipUnheard,
    /// Somebody else says that a VIP is theirs.
    VipClaimed,
    /// A new configuration is in force.
    Reloaded,
    /// A new configuration was not taken.
    ReloadRefused,
    /// A login that was reloaded is of no use.
    LoginRefused,
    /// An operator's order is in force.
    Ordered,
    /// Orders can be neither read nor taken, or the store was mended.
    StoreFailed,
    /// They can again.
    StoreAnswers,
    /// A managed primary is suspected, followed by another, or an operator wants that.
    Failover,
    /// New certificates are in use.
    CertificatesRenewed,
    /// The certificates end soon, or those in the files cannot be used.
    CertificatesFail,
}

/// Something that happened, as people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happening {
    kind: Kind,
    severity: Severity,
    server: Option<IpAddr>,
    text: String,
}

impl Happening {
    /// A change of roles or members, in one sentence.
    pub(super) fn info(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, severity: Severity::Info, server: None, text: text.into() }
    }

    /// What needs a person, in one sentence.
    pub(super) fn warning(kind: Kind, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::info(kind, text) }
    }

    /// The same, of this server.
    pub(super) fn of(self, server: IpAddr) -> Self {
        Self { server: Some(server), ..self }
    }

    /// The sentence.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn log(&self) {
        match self.severity {
            Severity::Info => tracing::info!("{}", self.text),
            Severity::Warning => tracing::warn!("{}", self.text),
        }
    }
}

/// An event, as it is kept and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When: milliseconds since the Unix epoch. No two events have the same, and later ones have greater
    /// ones, whatever the clock does.
    pub at: u64,
    /// How urgent.
    pub severity: Severity,
    /// What kind.
    pub kind: Kind,
    /// The address of the server that it is about.
    pub server: Option<IpAddr>,
    /// That server's name, where it has one.
    pub name: Option<NodeName>,
    /// The sentence in the log.
    pub text: String,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only those after this moment: milliseconds since the Unix epoch.
    pub since: Option<u64>,
}

/// Events, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReply {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The controller's clock: milliseconds since the Unix epoch.
    pub now: u64,
    /// Whether events that were asked for are forgotten already.
    pub forgotten: bool,
    /// The events.
    pub events: Vec<Event>,
}

/// The last [`KEPT`] events.
#[derive(Debug, Default)]
pub(super) struct Events {
    kept: VecDeque<Event>,
    /// The moment of the last one that is kept no more.
    forgotten: Option<u64>,
}

impl Events {
    /// Takes in what happened at `now`, to a server of that name.
    pub(super) fn push(&mut self, now: u64, name: Option<NodeName>, happening: Happening) {
        let Happening { kind, severity, server, text } = happening;
        let after = self.kept.back().map_or(0, |last| last.at.saturating_add(1));
        self.kept.push_back(Event { at: now.max(after), severity, kind, server, name, text });
        if self.kept.len() > KEPT {
            self.forgotten = self.kept.pop_front().map(|event| event.at);
        }
    }

    /// Those that are wanted, at `now`.
    pub(super) fn reply(&self, query: EventsQuery, now: u64) -> EventsReply {
        let since = query.since.unwrap_or(0);
        let wanted = self.kept.iter().filter(|event| event.at > since);
        EventsReply {
            schema: SCHEMA,
            now,
            forgotten: self.forgotten.is_some_and(|at| at > since),
            events: wanted.cloned().collect(),
        }
    }
}

impl Controller {
    /// Tells people: in the log, and to who asks for the last events.
    pub(super) fn tell(&mut self, happening: Happening) {
        happening.log();
        let named = happening.server.and_then(|address| self.balancer.name_of(address));
        let name = named.cloned();
        self.events.push(unix_ms(), name, happening);
    }
}
