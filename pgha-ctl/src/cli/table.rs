//! The status as people read it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Row, Table};
use pgha_machine::balancer::{ServerView, ServiceView};

use super::concerns;
use super::words::{self, or_none};
use crate::controller::state::ServerState;
use crate::controller::status::{
    DirectorStatus, InterfaceStatus, ServiceStatus, Status, TrafficStatus,
};

#[cfg(test)]
mod tests;

/// The whole status, at so many seconds since the Unix epoch.
pub(super) fn status(status: &Status, now: u64) -> String {
    let director = &status.director;
    let mut text = format!(
        "cluster {}: director on {}, {}\n",
        status.cluster,
        interfaces(&director.interfaces),
        role(director),
    );
    text.push_str(&flow_tables(director));
    if let Some(known) = &status.primary {
        text.push_str(&concerns::primary(known, now));
        text.push('\n');
    }
    text.push_str(&words::apart(&status.apart()));
    for concern in concerns::of(status, now) {
        text.push_str(&concern);
        text.push('\n');
    }
    for of in &status.services {
        let seen = Seen { interfaces: &director.interfaces, of };
        text.push('\n');
        text.push_str(&service(&of.view, Some(&seen), now));
    }
    let reasons = status.reasons.iter().filter(|(_, count)| **count > 0);
    let reasons: Vec<_> = reasons.map(|(reason, count)| format!("{reason} {count}")).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\nframes {}: {}", status.received, reasons.join(", "));
    text
}

/// What a director is doing with the VIPs.
pub(super) fn role(director: &DirectorStatus) -> &str {
    match (director.attached, director.role.as_str()) {
        (false, _) => "starting: checking the servers before the first client",
        (true, "standby") => "standing by",
        (true, "taking_over") => "taking over",
        (true, role) => role,
    }
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

/// What the director knows of a service's servers beyond what was decided.
pub(super) struct Seen<'a> {
    interfaces: &'a [InterfaceStatus],
    of: &'a ServiceStatus,
}

fn interfaces(all: &[InterfaceStatus]) -> String {
    let one = |InterfaceStatus { name, mac }: &InterfaceStatus| format!("{name} ({mac})");
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One service and its real servers. Below each server stands what there is to say about its weight.
pub(super) fn service(view: &ServiceView, seen: Option<&Seen<'_>>, now: u64) -> String {
    let mut header = vec!["SERVER", "ADDRESS", "ROLE", "STATE", "WEIGHT", "SYNC", "LAG", "CONNS"];
    if seen.is_some() {
        header.extend(["SINCE", "OPEN", "FLOWS", "PACKETS", "VIP", "MAC"]);
    }
    let mut table = plain(header);
    for server in &view.servers {
        let mut row = server_row(server);
        if let Some(seen) = seen {
            row.extend(seen.row(server, now));
        }
        table.add_row(row);
    }
    let (serve, all) = words::serving(&view.servers);
    let mut text = format!(
        "service {} {} scheduler {} discovery {}: {serve} of {all} serve\n",
        view.name,
        SocketAddr::new(view.vip, view.port),
        view.scheduler,
        view.discovery,
    );
    let mut rows = table.lines().map(|line| line.trim_end().to_owned());
    if view.servers.is_empty() {
        text.push_str(" no real server\n");
        return text;
    }
    for line in rows.by_ref().take(1) {
        let _ = writeln!(text, "{line}");
    }
    // No cell has a line feed and the width is not bounded: a line is a row.
    for (line, server) in rows.zip(&view.servers) {
        let _ = writeln!(text, "{line}");
        let reasons =
            words::reasons(server, view, seen.and_then(|s| s.of.said(server.address)), now);
        if !reasons.is_empty() {
            let _ = writeln!(text, "   - {}", reasons.join("; "));
        }
    }
    text
}

/// A table without lines.
pub(super) fn plain<T: Into<Row>>(header: T) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// Its text, without spaces at the ends of lines.
pub(super) fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn server_row(server: &ServerView) -> Vec<String> {
    vec![
        or_none(server.name.as_ref()),
        server.address.to_string(),
        words::role(server.role).to_owned(),
        ServerState::of(server).word().to_owned(),
        words::weight(server),
        or_none(server.sync_state.map(words::sync)),
        words::lag(server),
        words::connections(server),
    ]
}

impl Seen<'_> {
    fn row(&self, server: &ServerView, now: u64) -> [String; 6] {
        let TrafficStatus { packets, flows, open, .. } =
            self.of.traffic.get(&server.id).copied().unwrap_or_default();
        let since = self.of.changed.get(&server.id).map(|changed| words::age(changed.state, now));
        let vip = if words::needs_vip(server) { words::vip(server.vip) } else { words::NONE };
        let leaks = if server.answers_arp { ", answers ARP" } else { "" };
        [
            or_none(since),
            open.to_string(),
            flows.to_string(),
            packets.to_string(),
            format!("{vip}{leaks}"),
            if server.local { "this node".to_owned() } else { or_none(self.place(server)) },
        ]
    }

    /// A server's MAC address, and of several interfaces the one behind which it is.
    fn place(&self, server: &ServerView) -> Option<String> {
        let mac = server.mac.as_ref()?;
        let interface =
            server.interface.and_then(|number| self.interfaces.get(usize::from(number)));
        Some(match interface.filter(|_| self.interfaces.len() > 1) {
            Some(interface) => format!("{mac} on {}", interface.name),
            None => mac.clone(),
        })
    }
}
