//! `pgha why-not`: why a node gets no new connections, or fewer than its weight says, and what mends that.

mod advice;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use pgha_machine::balancer::{ServerView, VipStanding, WeightReason, Withheld};
use pgha_machine::{EffectiveWeight, NodeName, Weight};
use serde::{Deserialize, Serialize};

use super::client::{self, ClientError, Options};
use super::named::{Named, is_service};
use super::output::print;
use super::{concerns, words};
use crate::controller::failover::{FailoverStatus, ProcessStatus};
use crate::controller::state::ServerState;
use crate::controller::status::{Refusal, SCHEMA, ServiceStatus, Status};
use advice::{Advice, Place};

/// The node that is meant.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Its name in the node table, or its address, or address and port: `[fd00::1]:5432`.
    node: String,
    /// Only in this service (its name, or its VIP with or without port); otherwise in all.
    #[arg(long)]
    service: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WhyNot {
    /// [`SCHEMA`].
    schema: u32,
    /// As it was asked.
    node: String,
    /// Whether it gets new connections in every service that is meant.
    serves: bool,
    services: Vec<InService>,
    /// What needs a person beyond this node, in one line each.
    concerns: Vec<String>,
    /// Of a managed node: whether it could become the primary now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<Candidate>,
}

/// Whether a managed node could become the primary now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Candidate {
    node: NodeName,
    may: bool,
    /// Why it does not, by itself.
    why: Option<String>,
    /// Its disk does not write, or its link is down.
    #[serde(default)]
    faulty: bool,
    /// The primary is suspected, and nobody follows it: why.
    nobody: Option<String>,
    /// What would prove the end of the primary, where that is waited for.
    awaits: Vec<String>,
}

impl Candidate {
    fn of(status: &FailoverStatus, node: &str) -> Option<Self> {
        let (node, process) =
            status.processes.iter().find(|(name, _)| name.as_str().eq_ignore_ascii_case(node))?;
        let member = status.record.as_ref()?.members.contains_key(node);
        member.then(|| Self::seen(status, node, process))
    }

    fn seen(status: &FailoverStatus, node: &NodeName, process: &ProcessStatus) -> Self {
        Self {
            node: node.clone(),
            may: process.unfit.is_none() && status.why_not.is_none(),
            why: process.unfit.clone(),
            faulty: process.faulty,
            nobody: status.why_not.clone(),
            awaits: status.awaits.clone(),
        }
    }

    fn text(&self) -> String {
        let node = &self.node;
        let mut text = match &self.why {
            Some(why) => format!("{node} does not become the primary: {why}\n"),
            None => format!("{node} itself could become the primary\n"),
        };
        if self.faulty {
            text += "  to mend: what its disk or its link said is below the nodes in pgha status\n";
        }
        if let Some(nobody) = &self.nobody {
            text += &format!(
                "  nobody follows the primary: {nobody}\n     to mend: bring the missing nodes back; if they are \
                 lost for good: pgha force-primary NODE --accept-data-loss\n"
            );
        }
        if !self.awaits.is_empty() {
            text += &format!("  to be proven of the primary first: {}\n", self.awaits.join("; "));
        }
        text
    }
}

/// The answer for one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct InService {
    service: NodeName,
    vip: SocketAddr,
    name: Option<NodeName>,
    address: IpAddr,
    /// Whether it gets new connections.
    serves: bool,
    /// The word of its [`ServerState`], or `absent`: no member.
    state: String,
    /// Since when that is so: seconds since the Unix epoch.
    since: Option<u64>,
    /// The weight it has if nothing is wrong.
    weight: Option<Weight>,
    /// The weight it has.
    effective_weight: EffectiveWeight,
    /// Whom it streams from, where that is another standby.
    upstream: Option<String>,
    reasons: Vec<Reason>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reason {
    /// Its word in `pgha status --json`, or one of this verb's own.
    reason: String,
    /// Whether it keeps all new connections away; otherwise it makes them fewer, or is worth a look.
    withholds: bool,
    /// A short phrase.
    says: String,
    /// What it means.
    meaning: String,
    /// What was found, where more is known than the phrase says.
    found: Option<String>,
    /// Since when: seconds since the Unix epoch, as far as the controller saw it.
    since: Option<u64>,
    /// Who ordered it, where somebody did.
    by: Option<String>,
    /// What to do.
    mend: String,
}

/// Asks the controller, and tells whether the node gets new connections.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { node, service, json } = arguments;
    let controller = options.controller()?;
    let (status, failover) =
        tokio::join!(client::status(&controller), client::failover(&controller));
    let now = words::now();
    let answer = why_not(&status?, &node, service.as_deref(), now).map_err(ClientError::Refused)?;
    // A controller that manages nobody says so.
    let candidate = failover.ok().and_then(|failover| Candidate::of(&failover, &node));
    let answer = WhyNot { candidate, ..answer };
    print(json, &answer, |answer| text(answer, now))?;
    Ok(answer.serves)
}

fn why_not(
    status: &Status,
    node: &str,
    service: Option<&str>,
    now: u64,
) -> Result<WhyNot, Refusal> {
    let asked = Named::parse(status, node);
    let meant: Vec<_> = status
        .services
        .iter()
        .filter(|of| service.is_none_or(|text| is_service(&of.view, text)))
        .filter(|of| asked.is_in(&of.view))
        .collect();
    if meant.is_empty() {
        let services: Vec<_> = status.services.iter().map(|of| of.view.name.to_string()).collect();
        return Err(Refusal::of(format!(
            "no such service; those of this director are: {}",
            services.join(", ")
        )));
    }
    let member = |of: &&ServiceStatus| {
        let server = of.view.servers.iter().find(|server| asked.is(server))?;
        Some(of_member(status, of, server))
    };
    let mut services: Vec<_> = meant.iter().filter_map(member).collect();
    if services.is_empty() {
        let address = asked.address().ok_or_else(|| unknown(status, node))?;
        let listed = status.nodes.iter().find(|node| node.address == address);
        let primary = status.primary.as_ref().and_then(|primary| primary.host) == Some(address);
        if listed.is_none() && !primary {
            return Err(unknown(status, node));
        }
        let name = listed.map(|node| node.name.clone());
        let absent = |of: &&ServiceStatus| absent(of, name.clone(), address, primary);
        services = meant.iter().map(absent).collect();
    }
    let serves = services.iter().all(|service| service.serves);
    let mut concerns = concerns::of(status, now);
    let lost = status.primary.iter().filter(|primary| !primary.answers);
    concerns.splice(0..0, lost.map(|primary| concerns::primary(primary, now)));
    Ok(WhyNot {
        schema: SCHEMA,
        node: node.to_owned(),
        serves,
        services,
        concerns,
        candidate: None,
    })
}

/// Nobody knows that node.
fn unknown(status: &Status, node: &str) -> Refusal {
    let walsenders = status.primary.iter().flat_map(|primary| &primary.unplaced);
    if let Some(of) = walsenders.into_iter().find(|of| of.application_name == node) {
        return Refusal::of(concerns::unplaced(of));
    }
    let servers = status.services.iter().flat_map(|of| &of.view.servers);
    let mut names: Vec<_> = servers.map(words::name).collect();
    names.extend(status.nodes.iter().map(|node| node.name.to_string()));
    names.sort();
    names.dedup();
    let near = names.iter().max_by(|a, b| likeness(a, node).total_cmp(&likeness(b, node)));
    let hint = match near.filter(|near| likeness(near, node) > 0.8) {
        Some(near) => format!("did you mean {near}?"),
        None if names.is_empty() => {
            "no server is known at all: does the primary answer?".to_owned()
        }
        None => format!("known are: {}", names.join(", ")),
    };
    Refusal::of(format!(
        "{node:?} is no real server, not in the node table, and does not stream under that name; {hint}"
    ))
}

fn likeness(name: &str, asked: &str) -> f64 {
    strsim::jaro_winkler(name, asked)
}

fn of_member(status: &Status, of: &ServiceStatus, server: &ServerView) -> InService {
    let changed = of.changed.get(&server.id);
    let place = Place::of(status, of, server);
    let mut reasons = Vec::new();
    for withheld in &server.withheld {
        let seen = changed.and_then(|c| c.withheld.iter().find(|since| since.reason == *withheld));
        // What only the pinned maps tell of has neither who nor when.
        let drained = server.drained.as_ref().filter(|by| by.at > 0);
        let by = drained.filter(|_| *withheld == Withheld::Drained);
        reasons.push(Reason {
            reason: word(withheld),
            withholds: true,
            says: by
                .map_or_else(|| withheld.phrase().to_owned(), |by| format!("drained by {}", by.by)),
            since: by.map(|by| by.at).or(seen.map(|seen| seen.since)),
            by: by.map(|by| by.by.clone()),
            ..reason(place.withheld(*withheld))
        });
    }
    reasons.extend(server.weight_reasons.iter().filter_map(|why| less(&place, why)));
    reasons.extend(remarks(&place, server));
    InService {
        service: of.view.name.clone(),
        vip: SocketAddr::new(of.view.vip, of.view.port),
        name: server.name.clone(),
        address: server.address,
        serves: server.withheld.is_empty(),
        state: ServerState::of(server).word().to_owned(),
        since: changed.map(|changed| changed.state),
        weight: Some(server.weight),
        effective_weight: server.effective_weight,
        upstream: words::upstream(server, &of.view),
        reasons,
    }
}

/// A reason of which only the advice is there yet.
fn reason(Advice { meaning, found, mend }: Advice) -> Reason {
    Reason {
        reason: String::new(),
        withholds: false,
        says: String::new(),
        meaning,
        found,
        since: None,
        by: None,
        mend,
    }
}

/// Why it gets fewer connections than its weight says.
fn less(place: &Place<'_>, why: &WeightReason) -> Option<Reason> {
    let advice = place.less(why)?;
    Some(Reason { reason: word(why), says: why.phrase(), ..reason(advice) })
}

/// What is worth a look, though it keeps no client away.
fn remarks(place: &Place<'_>, server: &ServerView) -> Vec<Reason> {
    let mut remarks = Vec::new();
    if server.answers_arp {
        remarks.push(Reason {
            reason: "answers_arp".to_owned(),
            says: "answers ARP for the VIP".to_owned(),
            ..reason(place.answers_arp())
        });
    }
    if server.vip == VipStanding::Undecided {
        remarks.push(Reason {
            reason: "vip_undecided".to_owned(),
            says: "could not be probed through the VIP".to_owned(),
            ..reason(place.vip_undecided())
        });
    }
    remarks
}

/// Why a node that is known is no member.
fn absent(of: &ServiceStatus, name: Option<NodeName>, address: IpAddr, primary: bool) -> InService {
    let (word, says) = if primary {
        ("primary", "is the primary")
    } else {
        ("not_seen", "is no member of the service")
    };
    let advice = Place::absent(&of.view, name.as_ref(), address, primary);
    InService {
        service: of.view.name.clone(),
        vip: SocketAddr::new(of.view.vip, of.view.port),
        name,
        address,
        serves: false,
        state: "absent".to_owned(),
        since: None,
        weight: None,
        effective_weight: EffectiveWeight::ZERO,
        upstream: None,
        reasons: vec![Reason {
            reason: word.to_owned(),
            withholds: true,
            says: says.to_owned(),
            ..reason(advice)
        }],
    }
}

/// The word by which JSON tells a reason: itself, or its `why`.
fn word(reason: &impl Serialize) -> String {
    let value = serde_json::to_value(reason).unwrap_or_default();
    let word = value.get("why").or(Some(&value)).and_then(serde_json::Value::as_str);
    word.unwrap_or_default().to_owned()
}

fn text(answer: &WhyNot, now: u64) -> String {
    let services: Vec<_> = answer.services.iter().map(|service| in_service(service, now)).collect();
    let mut text = services.join("\n");
    text += &answer.candidate.as_ref().map(Candidate::text).unwrap_or_default();
    for concern in &answer.concerns {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "also: {concern}");
    }
    text
}

fn in_service(of: &InService, now: u64) -> String {
    let who = words::named(of.name.as_ref(), of.address);
    let less = of.weight.is_some_and(|weight| of.effective_weight != weight);
    let what = match (of.serves, of.weight) {
        (true, Some(weight)) if less => {
            format!("gets fewer new connections: weight {} of {weight}", of.effective_weight)
        }
        (true, _) => format!("gets new connections: weight {}", of.effective_weight),
        (false, _) => "gets no new connections".to_owned(),
    };
    let since = of.since.map_or_else(String::new, |since| {
        format!(" ({} since {}, {})", of.state, words::moment(since), words::age(since, now))
    });
    let upstream =
        of.upstream.as_ref().map_or_else(String::new, |name| format!(", streams from {name}"));
    let mut text = format!("{who} in service {} {} {what}{since}{upstream}\n", of.service, of.vip);
    for (number, reason) in of.reasons.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "  {}. {}", number + 1, reason.says);
        if let Some(since) = reason.since {
            let _ = write!(text, ", since {} ({})", words::moment(since), words::age(since, now));
        }
        let _ = writeln!(text, "\n     means: {}", reason.meaning);
        if let Some(found) = &reason.found {
            let _ = writeln!(text, "     found: {found}");
        }
        let _ = writeln!(text, "     to mend: {}", reason.mend);
    }
    text
}
