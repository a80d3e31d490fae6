//! The managed nodes as people read them.

use std::time::Duration;

use pgha_machine::NodeName;
use pgha_machine::failover::record::{Doubt, Freeze, Mode, Record, Takeover};

use super::{Managed, ManagedNode, Votes, lease};
use crate::cli::table::{lines, plain};
use crate::cli::words::{self, or_none};
use crate::controller::failover::{FailoverStatus, tale};

/// The managed nodes, at so many seconds since the Unix epoch.
pub(in crate::cli) fn text(managed: &Managed, now: u64) -> String {
    let mut said = Vec::new();
    if let Some(error) = &managed.failover_error {
        said.push(format!("failover: no word of the controller: {error}"));
    }
    match &managed.record {
        None => {
            let silence = managed.failover.as_ref().and_then(silence);
            let why = silence.unwrap_or_else(|| {
                "no controller and no agent answers, or no cluster was founded".to_owned()
            });
            said.push(format!("failover: nobody tells the record: {why}"));
        }
        Some(record) => of_record(managed, record, now, &mut said),
    }
    said.push(vip(managed));
    said.push(table(&managed.nodes));
    said.extend(managed.nodes.iter().flat_map(|node| below(node, now)));
    said.join("\n") + "\n"
}

fn of_record(managed: &Managed, record: &Record, now: u64, said: &mut Vec<String>) {
    let (node, held) = lease(record);
    let term = record.term();
    let since = managed.term.as_ref().map_or_else(
        || "since when is not known".to_owned(),
        |chapter| {
            let at = chapter.at / 1_000;
            format!("since {} ({})", words::moment(at), words::age(at, now))
        },
    );
    let state =
        if held { "is the primary" } else { "has given the lease back; nobody is the primary" };
    said.push(format!(
        "failover: {node} {state} (epoch {}, timeline {}, {since}; the record by {})",
        record.epoch,
        term.timeline,
        or_none(managed.told_by.as_ref())
    ));
    said.push(format!("lease: {}", renewals(managed.failover.as_ref(), record)));
    said.push(format!("{}; {}", mode(record.mode), voters(&managed.votes)));
    said.push(format!(
        "baseline: timeline {} begins at {} of timeline {}; no candidate below {} of timeline {}",
        term.timeline,
        term.fork.lsn,
        term.fork.timeline,
        record.voters.floor.lsn,
        record.voters.floor.timeline
    ));
    if !term.promoted {
        said.push(format!("{node} is promoted now"));
    }
    if let Some(last) = term.degraded.last().filter(|last| last.until.is_none()) {
        said.push(format!("degraded: since {} commits wait for no standby", last.from));
    }
    let doubts: Vec<_> = record.doubts.iter().map(doubt).collect();
    if !doubts.is_empty() {
        said.push(format!("doubts: {}; stopped voters prove nothing meanwhile", doubts.join("; ")));
    }
    if let Some(freeze) = &record.freeze {
        said.push(frozen(node, freeze, now));
    }
    let stage = managed.failover.as_ref();
    if let Some(nomination) = &record.nomination {
        let forced = if nomination.forced { ", forced" } else { "" };
        said.push(format!(
            "nominated: {} by {}{forced}; of {node}, {}",
            nomination.node,
            nomination.by,
            tale::proof(nomination.proof)
        ));
    }
    if let Some(awaits) = stage.map(|status| &status.awaits).filter(|awaits| !awaits.is_empty()) {
        said.push(format!("to be proven of {node}, by what is first: {}", awaits.join("; ")));
    }
    if let Some(why) = stage.and_then(|status| status.why_not.as_ref()) {
        said.push(format!("nobody follows yet: {why} (pgha why-not NODE says what is with each)"));
    }
    if record.members.contains_key(node)
        && stage.is_some_and(|status| status.processes.values().any(|process| process.failsafe))
    {
        said.push(
            "failsafe: the primary goes on without the store, by the word of all members"
                .to_owned(),
        );
    }
}

fn renewals(failover: Option<&FailoverStatus>, record: &Record) -> String {
    let (node, held) = lease(record);
    if !held {
        return format!("given back by {node} after {} renewals", record.lease.renewal());
    }
    let renewed = failover.map(|status| (silence(status), status.renewed_ms));
    let seen = match renewed {
        None => "when it was renewed last is not known".to_owned(),
        Some((Some(silence), _)) => format!("{silence}, so this is what was known last"),
        Some((None, None)) => "no renewal was seen since the controller began".to_owned(),
        Some((None, Some(ms))) => {
            format!("renewed {} ago", words::span(Duration::from_millis(ms)))
        }
    };
    format!(
        "held by {node} for {}, {} renewals; {seen}",
        words::span(record.pace.lease.duration()),
        record.lease.renewal()
    )
}

/// That the store does not answer, where it does not.
fn silence(status: &FailoverStatus) -> Option<String> {
    let time = words::span(Duration::from_millis(status.store_silent_ms?));
    Some(format!("the store has not answered controller {} for {time}", status.controller))
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::Async { max_lag } => {
            format!("mode async (a candidate may lack {})", words::bytes(max_lag))
        }
        Mode::Sync { quorum, .. } => format!("mode sync, quorum {quorum}"),
        Mode::Strict { quorum } => format!("mode strict, quorum {quorum}"),
    }
}

fn voters(votes: &[Votes]) -> String {
    let set = |set: &Votes| {
        if set.quorum == 0 {
            return "a commit waits for nobody".to_owned();
        }
        format!(
            "a commit waits for {} of {}; to prove what was acknowledged {} have to stop, {} have",
            set.quorum,
            names(&set.nodes),
            set.needed,
            set.frozen
        )
    };
    let sets: Vec<_> = votes.iter().map(set).collect();
    format!("voters: {}", sets.join(", and until that has changed: "))
}

fn names(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

fn doubt(doubt: &Doubt) -> String {
    match doubt {
        Doubt::Impersonated(node) => format!("somebody else streamed under the name of {node}"),
        Doubt::Lowered(whose) => format!("synchronous_commit is lowered for {whose}"),
    }
}

fn frozen(node: &NodeName, freeze: &Freeze, now: u64) -> String {
    let mut text = format!(
        "freeze {} by {}: {node}: {}",
        freeze.number,
        freeze.by,
        tale::reason(freeze.reason)
    );
    if let Some(ordered) = &freeze.ordered {
        let what = match &ordered.takeover {
            Takeover::Best => "another primary".to_owned(),
            Takeover::To(node) => format!("{node} as the primary"),
            Takeover::Force(node) => format!("{node} as the primary, whatever it lacks"),
        };
        let age = words::age(ordered.at / 1_000, now);
        text += &format!("; {} ordered {what}, {age} ago", ordered.by);
    }
    text
}

fn vip(managed: &Managed) -> String {
    let Some(vip) = managed.writer_vip else {
        return "writer VIP: none is configured here".to_owned();
    };
    match &managed.writer_vip_at[..] {
        [] => format!("writer VIP {vip}: no agent that answers has it"),
        [one] => format!("writer VIP {vip}: on {one}"),
        several => format!("writer VIP {vip}: SEVERAL have it: {}", names(several)),
    }
}

fn table(nodes: &[ManagedNode]) -> String {
    let mut table = plain(vec![
        "NODE",
        "STATUS",
        "DATA",
        "TL",
        "RECEIVED",
        "FLUSHED",
        "REPLAYED",
        "LAG",
        "CANDIDATE",
    ]);
    for node in nodes {
        let candidate = match (&node.unfit, node.judged) {
            (Some(why), _) => format!("no: {why}"),
            (None, true) => "yes".to_owned(),
            (None, false) => "unknown".to_owned(),
        };
        table.add_row(vec![
            node.node.to_string(),
            node.role.clone(),
            node.data.clone(),
            or_none(node.timeline),
            or_none(node.received),
            or_none(node.flushed),
            or_none(node.replayed),
            words::delay(node.lag_bytes, node.lag_ms),
            candidate,
        ]);
    }
    lines(&table)
}

/// What else there is to say of a node.
fn below(node: &ManagedNode, now: u64) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(error) = &node.error {
        let heard = node.heard_ms.map_or_else(
            || "when it was heard last is not known".to_owned(),
            |ms| format!("heard by the controller {} ago", words::span(Duration::from_millis(ms))),
        );
        said.push(format!("{}: its agent tells nothing ({error}); {heard}", node.node));
    }
    for (kind, failure) in &node.failures {
        let at = failure.last / 1_000;
        let kind = format!("{kind:?}").to_lowercase();
        said.push(format!(
            "{}: {kind} failed {} times, last {} ({} ago): {}",
            node.node,
            failure.count,
            words::moment(at),
            words::age(at, now),
            failure.reason
        ));
    }
    said
}
