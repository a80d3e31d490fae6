//! What people read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Row, Table};
use pgha_machine::balancer::{ServerView, ServiceView, Standing, SyncState, Withheld};
use serde::Serialize;

use crate::controller::status::{
    DirectorStatus, InterfaceStatus, PrimaryStatus, ServiceStatus, Status, TrafficStatus,
};

/// Prints a value as JSON or as text.
pub(super) fn print<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let shown = if json { serde_json::to_string_pretty(value)? } else { text(value) };
    println!("{}", shown.trim_end());
    Ok(())
}

/// The whole status.
pub(super) fn status(status: &Status) -> String {
    let director = &status.director;
    let mut text = format!(
        "cluster {}: director on {}, {}\n",
        status.cluster,
        interfaces(&director.interfaces),
        match (director.attached, director.role.as_str()) {
            (false, _) => "starting: checking the servers before the first client",
            (true, "standby") => "standing by",
            (true, "taking_over") => "taking over",
            (true, role) => role,
        }
    );
    text.push_str(&flow_tables(director));
    if let Some(known) = &status.primary {
        text.push_str(&primary(known));
    }
    for ServiceStatus { view, traffic, .. } in &status.services {
        text.push('\n');
        text.push_str(&service(view, Some(&Seen { interfaces: &director.interfaces, traffic })));
    }
    let reasons = status.reasons.iter().filter(|(_, count)| **count > 0);
    let reasons: Vec<_> = reasons.map(|(reason, count)| format!("{reason} {count}")).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\nframes {}: {}", status.received, reasons.join(", "));
    text
}

/// How full the flow tables are, as they were last gone through.
fn flow_tables(director: &DirectorStatus) -> String {
    let Some(seen) = director.in_use else { return String::new() };
    let of = |used: u64, capacity: u32| format!("{used} of {capacity}");
    format!(
        "flows established {} (IPv6 {}), pending {} (IPv6 {})\n",
        of(seen.flows, director.flows),
        of(seen.flows_ipv6, director.flows_ipv6),
        of(seen.pending_flows, director.pending_flows),
        of(seen.pending_flows_ipv6, director.pending_flows_ipv6),
    )
}

fn primary(known: &PrimaryStatus) -> String {
    let host = known.host.map_or_else(|| "not found yet".to_owned(), |host| host.to_string());
    match known.stale_ms {
        None => format!("primary {host}: answers, WAL {}\n", known.lsn.as_deref().unwrap_or("-")),
        Some(age) => format!(
            "primary {host}: does not answer, stale since {} s; the readers stay as they are ({})\n",
            age / 1000,
            known.errors.join("; ")
        ),
    }
}

/// What the director knows of a service's servers beyond what was decided.
pub(super) struct Seen<'a> {
    interfaces: &'a [InterfaceStatus],
    traffic: &'a BTreeMap<u16, TrafficStatus>,
}

fn interfaces(all: &[InterfaceStatus]) -> String {
    let one = |InterfaceStatus { name, mac }: &InterfaceStatus| format!("{name} ({mac})");
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One service and its real servers.
pub(super) fn service(view: &ServiceView, seen: Option<&Seen<'_>>) -> String {
    let mut header = vec!["SERVER", "ADDRESS", "WEIGHT", "HEALTH", "SYNC", "LAG", "MAC"];
    if seen.is_some() {
        header.extend(["FLOWS", "PACKETS"]);
    }
    header.push("NO NEW CONNECTIONS BECAUSE");
    let mut table = plain(header);
    for server in &view.servers {
        let mut row = server_row(server, seen.map_or(&[], |seen| seen.interfaces));
        if let Some(seen) = seen {
            let traffic = seen.traffic.get(&server.id).copied().unwrap_or_default();
            row.extend([traffic.flows.to_string(), traffic.packets.to_string()]);
        }
        row.push(because(server));
        table.add_row(row);
    }
    format!(
        "service {} {} scheduler {} discovery {}\n{}\n",
        view.name,
        SocketAddr::new(view.vip, view.port),
        view.scheduler,
        view.discovery,
        if view.servers.is_empty() { " no real server".to_owned() } else { lines(&table) }
    )
}

/// A table without lines.
pub(super) fn plain<T: Into<Row>>(header: T) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// Its text, without spaces at the ends of lines.
pub(super) fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn server_row(server: &ServerView, interfaces: &[InterfaceStatus]) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let weight = if server.effective_weight == server.weight {
        server.weight.to_string()
    } else {
        format!("{} (of {})", server.effective_weight, server.weight)
    };
    vec![
        or_dash(server.name.as_ref().map(ToString::to_string)),
        server.address.to_string(),
        weight,
        match server.health {
            Standing::Up => "up",
            Standing::Checking => "checking",
            Standing::Down if server.dead => "dead",
            Standing::Down if server.withheld.contains(&Withheld::NotInRecovery) => "primary",
            Standing::Down => "down",
        }
        .to_owned(),
        or_dash(server.sync_state.map(|state| sync_word(state).to_owned())),
        or_dash(server.lag_bytes.map(|bytes| format!("{bytes} B"))),
        if server.local { "this node".to_owned() } else { or_dash(place(server, interfaces)) },
    ]
}

/// A server's MAC address, and of several interfaces the one behind which it is.
fn place(server: &ServerView, interfaces: &[InterfaceStatus]) -> Option<String> {
    let mac = server.mac.as_ref()?;
    let interface = server.interface.and_then(|number| interfaces.get(usize::from(number)));
    Some(match interface.filter(|_| interfaces.len() > 1) {
        Some(interface) => format!("{mac} on {}", interface.name),
        None => mac.clone(),
    })
}

const fn sync_word(state: SyncState) -> &'static str {
    match state {
        SyncState::Async => "async",
        SyncState::Potential => "potential",
        SyncState::Sync => "sync",
        SyncState::Quorum => "quorum",
    }
}

fn because(server: &ServerView) -> String {
    let mut reasons: Vec<_> =
        server.withheld.iter().copied().map(|w| Withheld::phrase(w).to_owned()).collect();
    if let Some(error) = server.error.as_ref().filter(|_| !reasons.is_empty()) {
        reasons.push(format!("({error})"));
    }
    reasons.join(", ")
}

#[cfg(test)]
mod tests;
