//! Orders as people are told of them, when they are in force.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use pgha_machine::balancer::{OrderChange, Orders, ServerOrder};

use super::events::{Happening, Kind};

/// One change in a sentence; `None`: the store does not say by whom it was made.
pub(super) fn told(change: &OrderChange, by: Option<&str>) -> Happening {
    let by = by.unwrap_or("somebody");
    let behind = |vip: &IpAddr, port: &u16, address: &IpAddr| {
        format!("{address} behind {}", SocketAddr::new(*vip, *port))
    };
    let (server, text) = match change {
        OrderChange::Weight { vip, port, address, weight: Some(weight) } => {
            (address, format!("{by} gave {} weight {weight}", behind(vip, port, address)))
        }
        OrderChange::Weight { vip, port, address, weight: None } => {
            let server = behind(vip, port, address);
            (address, format!("{by} gave {server} the weight of the configuration again"))
        }
        OrderChange::Drain { vip, port, address, reset_at } => {
            let reset = reset_at.map_or_else(String::new, |at| {
                let at = UNIX_EPOCH + Duration::from_millis(at);
                let at = humantime::format_rfc3339_seconds(at);
                format!("; the sessions left at {at} are reset then")
            });
            (address, format!("{by} drained {}{reset}", behind(vip, port, address)))
        }
        OrderChange::Undrain { vip, port, address } => {
            let server = behind(vip, port, address);
            (address, format!("{by} took back the drain of {server}"))
        }
        OrderChange::AddReader { address, name, weight } => {
            let name = name.as_ref().map_or_else(String::new, |name| format!(", named {name}"));
            let weight = weight.map_or_else(String::new, |weight| format!(", of weight {weight}"));
            (address, format!("{by} added {address} as a reader{name}{weight}"))
        }
        OrderChange::RemoveReader { address } => {
            (address, format!("{by} removed {address}, which was added as a reader"))
        }
    };
    Happening::info(Kind::Ordered, text).of(*server)
}

/// The changes that make one out of the other, each with who made it where that is known.
pub(super) fn between(before: &Orders, after: &Orders) -> Vec<(OrderChange, Option<String>)> {
    let servers = before.servers.iter().chain(&after.servers);
    let servers: BTreeSet<_> = servers.map(|of| (of.vip, of.port, of.address)).collect();
    let mut changes = Vec::new();
    for (vip, port, address) in servers {
        let then = before.server(vip, port, address);
        let now = after.server(vip, port, address);
        let weight = |of: Option<&ServerOrder>| of.and_then(|of| of.weight.clone());
        if weight(then) != weight(now) {
            let (weight, by) = weight(now).map(|order| (order.value, order.by)).unzip();
            changes.push((OrderChange::Weight { vip, port, address, weight }, by));
        }
        let drained = |of: Option<&ServerOrder>| of.and_then(|of| of.drained.clone());
        if drained(then) != drained(now) {
            changes.push(match drained(now) {
                Some(order) => {
                    let reset_at = order.value.reset_at;
                    (OrderChange::Drain { vip, port, address, reset_at }, Some(order.by))
                }
                None => (OrderChange::Undrain { vip, port, address }, None),
            });
        }
    }
    for now in after.readers.iter().filter(|now| !before.readers.contains(now)) {
        let (address, name, weight) = (now.address, now.name.clone(), now.weight);
        changes.push((OrderChange::AddReader { address, name, weight }, Some(now.by.clone())));
    }
    for then in before.readers.iter().filter(|then| after.reader(then.address).is_none()) {
        changes.push((OrderChange::RemoveReader { address: then.address }, None));
    }
    changes
}
