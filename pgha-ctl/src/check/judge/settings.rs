//! The settings of each PostgreSQL that decide whether it can be a reader, or have one.

use std::net::IpAddr;

use super::cluster;
use crate::check::facts::Server;
use crate::check::{Check, about};
use crate::config::Config;
use crate::postgres::inspect::Inspection;

/// What a standby may not have less of than its primary (documentation, "Hot Standby", administrator's
/// overview): it stops replay, or does not start.
const AT_LEAST: [&str; 5] = [
    "max_connections",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "max_wal_senders",
    "max_worker_processes",
];

pub(super) fn judge(config: &Config, servers: &[Server]) -> Vec<Check> {
    let primary = cluster::primary(servers).map(|(_, seen)| seen);
    let mut checks = Vec::new();
    for server in servers {
        let Ok(seen) = &server.answer else { continue };
        checks.push(listens(config, server, seen));
        if seen.in_recovery {
            checks.extend(primary.map(|primary| not_less(server, seen, primary)));
            checks.push(delay(server, seen));
            checks.extend(timeout(server, seen, "wal_receiver_timeout"));
        } else {
            checks.push(wal_level(server, seen));
            checks.extend(hot_standby(server, seen));
            checks.push(wal_senders(server, seen));
            checks.extend(timeout(server, seen, "wal_sender_timeout"));
        }
    }
    checks
}

fn text<'s>(seen: &'s Inspection, name: &str) -> &'s str {
    seen.settings.get(name).map_or("", String::as_str)
}

fn number(seen: &Inspection, name: &str) -> Option<i64> {
    text(seen, name).parse().ok()
}

fn listens(config: &Config, server: &Server, seen: &Inspection) -> Check {
    let check = about("listen-addresses", server.title(), "PostgreSQL listens on the VIPs");
    let listed = text(seen, "listen_addresses");
    let here = config.services().iter().filter(|service| service.port == server.at.port());
    let deaf: Vec<_> = here.filter(|s| !covers(listed, s.vip)).map(|s| s.vip.to_string()).collect();
    let found = format!("listen_addresses = '{listed}'");
    if deaf.is_empty() {
        return check.ok(found);
    }
    let found = format!("{found}: not {}", deaf.join(", "));
    // A primary gets no clients of the readers' VIP, until it is a standby one day.
    let check = if seen.in_recovery { check.fail(found) } else { check.warn(found) };
    check
        .wanted("'*', or the VIPs among them")
        .mend("as a superuser on that server, which has to be restarted then (a VIP that is not on lo yet cannot be listened on; '*' takes it when it comes)")
        .sql("ALTER SYSTEM SET listen_addresses = '*';")
}

/// Whether a server with these `listen_addresses` takes connections to `vip`.
fn covers(listed: &str, vip: IpAddr) -> bool {
    let any: &[&str] = match vip {
        IpAddr::V4(_) => &["*", "0.0.0.0"],
        IpAddr::V6(_) => &["*", "::"],
    };
    let mut entries = listed.split(',').map(|entry| entry.trim().trim_matches('"'));
    entries.any(|entry| any.contains(&entry) || entry.parse() == Ok(vip))
}

fn not_less(server: &Server, seen: &Inspection, primary: &Inspection) -> Check {
    let check =
        about("standby-settings", server.title(), "a standby has room for what its primary does");
    let less: Vec<_> = AT_LEAST
        .iter()
        .filter_map(|name| {
            let (here, there) = (number(seen, name)?, number(primary, name)?);
            (here < there).then_some((name, here, there))
        })
        .collect();
    if less.is_empty() {
        return check.ok("as much as its primary");
    }
    let found: Vec<_> =
        less.iter().map(|(name, here, there)| format!("{name} = {here} < {there}")).collect();
    let check = check
        .fail(format!("{}: replay stops when the primary uses more", found.join(", ")))
        .mend("as a superuser on that server, which has to be restarted then");
    less.iter().fold(check, |check, (name, _, there)| {
        check.sql(format!("ALTER SYSTEM SET {name} = {there};"))
    })
}

fn delay(server: &Server, seen: &Inspection) -> Check {
    let check = about(
        "standby-delay",
        server.title(),
        "queries of clients hold replay up for a limited time",
    );
    match number(seen, "max_standby_streaming_delay") {
        Some(-1) => check
            .warn("max_standby_streaming_delay = -1: one long query stops replay for as long as it runs, and the reader lags")
            .mend("as a superuser on that server")
            .sql("ALTER SYSTEM SET max_standby_streaming_delay = '30s';")
            .sql("SELECT pg_reload_conf();"),
        Some(delay) => check.ok(format!("max_standby_streaming_delay = {delay} ms")),
        None => check.skipped("it does not say"),
    }
}

/// Without it, a standby or primary that vanished without a word is not noticed.
fn timeout(server: &Server, seen: &Inspection, name: &str) -> Option<Check> {
    let check = about(
        "replication-timeout",
        server.title(),
        "an end of a replication that vanished is noticed",
    );
    (number(seen, name)? == 0).then(|| {
        check
            .warn(format!("{name} = 0: one that is cut off looks as if it streamed"))
            .mend("as a superuser on that server")
            .sql(format!("ALTER SYSTEM SET {name} = '60s';"))
            .sql("SELECT pg_reload_conf();")
    })
}

fn wal_level(server: &Server, seen: &Inspection) -> Check {
    let check = about("wal-level", server.title(), "the primary writes what standbys need");
    let level = text(seen, "wal_level");
    if matches!(level, "replica" | "logical") {
        return check.ok(format!("wal_level = {level}"));
    }
    check
        .fail(format!("wal_level = {level}"))
        .wanted("replica or logical")
        .mend("as a superuser on the primary, which has to be restarted then")
        .sql("ALTER SYSTEM SET wal_level = 'replica';")
}

fn hot_standby(server: &Server, seen: &Inspection) -> Option<Check> {
    let check = about("hot-standby", server.title(), "standbys take sessions");
    (text(seen, "hot_standby") == "off").then(|| {
        check
            .warn("hot_standby = off: as a standby this server, and those copied from it, would take no session")
            .mend("as a superuser on that server, which has to be restarted then")
            .sql("ALTER SYSTEM SET hot_standby = on;")
    })
}

fn wal_senders(server: &Server, seen: &Inspection) -> Check {
    let check = about("wal-senders", server.title(), "the primary has room for another standby");
    let used = seen.walsenders.len();
    let Some(most) = number(seen, "max_wal_senders") else {
        return check.skipped("it does not say");
    };
    let found = format!("{used} of max_wal_senders = {most} in use");
    if usize::try_from(most).is_ok_and(|most| used < most) {
        return check.ok(found);
    }
    let check = if most == 0 { check.fail(found) } else { check.warn(found) };
    check
        .mend("as a superuser on the primary, which has to be restarted then")
        .sql(format!("ALTER SYSTEM SET max_wal_senders = {};", most.saturating_add(10)))
}

#[cfg(test)]
mod tests;
