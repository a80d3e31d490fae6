//! What other programs ask to learn whom to send clients to, in Patroni's words: `/primary`, `/replica` and,
//! of this process, `/healthz`. 200 means yes, 503 no.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use pgha_machine::EffectiveWeight;
use pgha_machine::balancer::{ServerRole, ServerView, ServiceView};
use serde::{Deserialize, Serialize};

use super::Controller;
use super::events::{Happening, Kind};
use super::status::{PrimaryStatus, Refusal, SCHEMA};

/// A question.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Whether this process is well: its loop answers, its program is on the interfaces, and it reaches somebody.
    Process,
    /// Whether the primary is known and answers, and is that node.
    Primary(PrimaryQuery),
    /// Whether a standby, or that node as one, gets new connections and is that far behind at most.
    Replica(ReplicaQuery),
}

/// `GET /primary`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrimaryQuery {
    /// Name or address of a node.
    node: Option<String>,
}

/// `GET /replica`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicaQuery {
    /// Name or address of a node.
    node: Option<String>,
    /// `16MB`, or bytes, or `5s`.
    lag: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HealthReply {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Yes or no.
    pub healthy: bool,
    /// Of whom: the primary, or the standbys that are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl HealthReply {
    pub(super) fn yes(servers: Vec<IpAddr>) -> Self {
        Self { schema: SCHEMA, healthy: true, servers, reason: None }
    }

    /// Not healthy, for this reason.
    pub(super) fn no(reason: impl Into<String>) -> Self {
        let reason = Some(reason.into());
        Self { schema: SCHEMA, healthy: false, servers: Vec::new(), reason }
    }
}

/// How far a standby may be behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lag {
    Bytes(u64),
    Time(Duration),
}

impl Lag {
    /// Reads bytes with PostgreSQL's units, which are powers of 1,024, or a duration.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "" | "B" => Some(1),
            "kB" => Some(1 << 10),
            "MB" => Some(1 << 20),
            "GB" => Some(1 << 30),
            _ => None,
        };
        if let Some(factor) = factor {
            return number.parse::<u64>().ok()?.checked_mul(factor).map(Self::Bytes);
        }
        // Longer is meant otherwise: `1M` is a month.
        let day = Duration::from_secs(24 * 3600);
        humantime::parse_duration(text).ok().filter(|time| *time <= day).map(Self::Time)
    }

    fn allows(self, server: &ServerView) -> bool {
        match self {
            Self::Bytes(most) => server.lag_bytes.is_some_and(|lag| lag <= most),
            Self::Time(most) => server.lag_ms.is_some_and(|lag| Duration::from_millis(lag) <= most),
        }
    }
}

/// Why a director reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutOff {
    /// None of its interfaces has a carrier.
    NoLink,
    /// No server and no primary answers.
    NoAnswer,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLink => "none of its interfaces has a link",
            Self::NoAnswer => "no server and no primary answers it",
        })
    }
}

impl Controller {
    /// Why this node reaches nobody, if it is so.
    pub(super) fn cut_off(&self) -> Option<CutOff> {
        let mut interfaces = self.interfaces.indices().into_iter();
        if interfaces.all(|index| self.without_carrier.contains(&index)) {
            return Some(CutOff::NoLink);
        }
        self.balancer.hears_nobody().then_some(CutOff::NoAnswer)
    }

    /// Tells people when this node is cut off, and when it is no more.
    pub(super) fn look_whether_cut_off(&mut self) {
        let now = self.cut_off();
        if now.is_some() == self.was_cut_off.is_some() {
            return;
        }
        self.was_cut_off = now;
        self.tell(match now {
            Some(why) => Happening::warning(
                Kind::CutOff,
                format!("this node is cut off: {why}; the readers stay as they are"),
            ),
            None => Happening::info(Kind::Reached, "this node reaches others again"),
        });
    }

    /// Answers one question.
    pub(super) fn health(&self, question: &Question) -> Result<HealthReply, Refusal> {
        match question {
            Question::Process => Ok(match self.cut_off() {
                _ if self.attach_by.is_some() => {
                    HealthReply::no("the program is not on the interfaces yet")
                }
                // Anybody may ask: no more is said than that.
                Some(why) => HealthReply::no(format!("this node is cut off: {why}")),
                None => HealthReply::yes(Vec::new()),
            }),
            Question::Primary(PrimaryQuery { node }) => {
                let node = self.node(node.as_deref())?;
                Ok(primary(self.config.primary().map(|_| self.primary_status()).as_ref(), node))
            }
            Question::Replica(ReplicaQuery { node, lag }) => {
                let node = self.node(node.as_deref())?;
                let lag = lag.as_deref().map(|text| Lag::parse(text).ok_or(text)).transpose();
                let lag = lag.map_err(|text| Refusal {
                    error: format!(
                        "lag={text} is neither bytes nor a time of a day at most; write 16MB or 5s"
                    ),
                })?;
                Ok(replica(&self.balancer.view(), node, lag))
            }
        }
    }

    fn node(&self, name: Option<&str>) -> Result<Option<IpAddr>, Refusal> {
        let named = name.map(|name| self.server_named(name)).transpose()?;
        Ok(named.map(|server| server.address))
    }
}

fn primary(known: Option<&PrimaryStatus>, node: Option<IpAddr>) -> HealthReply {
    let Some(known) = known else {
        return HealthReply::no("no service asks the primary, so it is not known");
    };
    if !known.several.is_empty() {
        let hosts: Vec<_> = known.several.iter().map(|claim| claim.host.to_string()).collect();
        return HealthReply::no(format!(
            "several hosts say that they are the primary: {}",
            hosts.join(", ")
        ));
    }
    match known.host.filter(|_| known.answers) {
        None => HealthReply::no("the primary does not answer"),
        Some(host) if node.is_none_or(|node| node == host) => HealthReply::yes(vec![host]),
        Some(host) => HealthReply::no(format!("the primary is {host}")),
    }
}

fn replica(services: &[ServiceView], node: Option<IpAddr>, lag: Option<Lag>) -> HealthReply {
    let servers = services.iter().flat_map(|service| &service.servers);
    let meant = || servers.clone().filter(|server| node.is_none_or(|node| node == server.address));
    let serving = || {
        meant().filter(|server| {
            server.role == ServerRole::Standby && server.effective_weight > EffectiveWeight::ZERO
        })
    };
    let mut healthy: Vec<_> = serving()
        .filter(|server| lag.is_none_or(|lag| lag.allows(server)))
        .map(|server| server.address)
        .collect();
    healthy.sort_unstable();
    healthy.dedup();
    if !healthy.is_empty() {
        return HealthReply::yes(healthy);
    }
    let whose = node.map_or_else(|| "no standby".to_owned(), |node| node.to_string());
    if serving().next().is_some() {
        let not = if node.is_some() { "is not" } else { "is" };
        return HealthReply::no(format!("{whose} {not} known to be that little behind"));
    }
    let phrases = meant().flat_map(|server| &server.withheld).map(|reason| reason.phrase());
    let phrases: Vec<_> = phrases.take(4).collect();
    if node.is_none() {
        return HealthReply::no("no standby gets new connections");
    }
    if meant().next().is_none() {
        return HealthReply::no(format!("{whose} is no real server"));
    }
    if phrases.is_empty() {
        return HealthReply::no(format!("{whose} is not known to be a standby"));
    }
    HealthReply::no(format!("{whose} gets no new connections: {}", phrases.join(", ")))
}
