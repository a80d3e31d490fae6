//! The servers together: one cluster, one primary, and standbys that can be told apart.

use std::collections::BTreeMap;

use super::standby_names;
use crate::check::facts::Server;
use crate::check::{Check, about};
use crate::config::Config;
use crate::postgres::inspect::{Inspection, SeenWalsender};

pub(super) fn judge(config: &Config, servers: &[Server]) -> Vec<Check> {
    let answered: Vec<_> =
        servers.iter().filter_map(|server| Some((server, server.answer.as_ref().ok()?))).collect();
    if answered.is_empty() {
        return Vec::new();
    }
    let primaries: Vec<_> =
        answered.iter().filter(|(_, seen)| !seen.in_recovery).copied().collect();
    let newest = primary(servers);
    let mut checks = vec![one_primary(config, &primaries)];
    checks.extend(identifiers(&answered, newest));
    if let Some((primary, seen)) = newest {
        checks.extend(unseen(primary, seen));
        checks.push(names(config, primary, seen));
        checks.extend(streaming(config, primary, seen, servers));
        checks.extend(confirming(primary, seen));
    }
    checks
}

/// The server out of recovery on the newest timeline: those on an older one are former primaries.
pub(super) fn primary(servers: &[Server]) -> Option<Answered<'_>> {
    let answered = servers.iter().filter_map(|server| Some((server, server.answer.as_ref().ok()?)));
    answered.filter(|(_, seen)| !seen.in_recovery).max_by_key(|(_, seen)| seen.timeline)
}

pub(super) type Answered<'s> = (&'s Server, &'s Inspection);

fn one_primary(config: &Config, primaries: &[Answered<'_>]) -> Check {
    let check = about("primary", "", "there is one primary");
    let title = |(server, seen): &Answered<'_>| {
        let timeline =
            seen.timeline.map_or_else(|| "?".to_owned(), |timeline| timeline.to_string());
        format!("{} (timeline {timeline})", server.title())
    };
    let all: Vec<_> = primaries.iter().map(title).collect();
    let asked = config.primary().is_some();
    match primaries {
        [] if asked => check
            .fail("every server that answers is in recovery: readers serve on as they are, and none can join by its walsender")
            .mend("promote one, or name the host of the primary in primary.hosts"),
        [] => check.skipped("every server that answers is in recovery, and no service asks a primary"),
        [(server, _)] if asked && !server.candidate => check
            .fail(format!("{} is the primary, and is not among primary.hosts", server.title()))
            .mend("add it to primary.hosts"),
        [_] => check.ok(all.join(", ")),
        several => {
            let newest = several.iter().filter_map(|(_, seen)| seen.timeline).max();
            let left_behind = several.iter().filter(|(_, seen)| seen.timeline < newest).count();
            let check = check.fail(format!("{} are not in recovery", all.join(" and ")));
            if left_behind + 1 == several.len() {
                check.mend("the one on the older timeline is a former primary: stop it before somebody writes to it, pg_rewind it, and start it as a standby")
            } else {
                check.mend("stop all but the one that has the writes you want to keep; see pg_controldata on each")
            }
        }
    }
}

/// Two clusters under one name: a reader would serve somebody else's data.
fn identifiers(answered: &[Answered<'_>], primary: Option<Answered<'_>>) -> Option<Check> {
    let check = about("system-identifier", "", "all servers are of one cluster");
    let mut by: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (server, seen) in answered {
        if let Some(system) = seen.system {
            by.entry(system).or_default().push(server.short());
        }
    }
    by.values_mut().for_each(Vec::dedup);
    let (first, _) = by.first_key_value()?;
    if by.len() == 1 {
        return Some(check.ok(format!("{first}")));
    }
    let right = primary.and_then(|(_, seen)| seen.system);
    let of = |(system, servers): (&u64, &Vec<String>)| {
        let mark = if Some(*system) == right { ", the primary's" } else { "" };
        format!("{} {system}{mark}", servers.join(" and "))
    };
    let found: Vec<_> = by.iter().map(of).collect();
    Some(
        check
            .fail(format!("the system identifiers differ: {}", found.join("; ")))
            .mend("take the foreign servers out of the configuration, or copy them anew from the primary (pg_basebackup)"),
    )
}

fn streams(walsender: &&SeenWalsender) -> bool {
    !walsender.logical && walsender.state.as_deref() == Some("streaming")
}

/// Without the state nothing can be said of walsenders.
fn unseen(primary: &Server, seen: &Inspection) -> Option<Check> {
    let hidden = seen.walsenders.iter().any(|walsender| walsender.state.is_none());
    hidden.then(|| {
        about("walsenders", primary.title(), "the standbys can be seen")
            .skipped("the role may not see the state of walsenders; see postgres-rights")
    })
}

/// Whom each walsender is taken for, and whether that can be.
fn names(config: &Config, primary: &Server, seen: &Inspection) -> Check {
    let check = about("application-names", primary.title(), "each standby has a name of its own");
    let balancer = config.balancer(std::collections::BTreeSet::new());
    let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for walsender in seen.walsenders.iter().filter(streams) {
        let name = walsender.application_name.as_str();
        let client = walsender.client.map_or_else(|| "a Unix socket".to_owned(), |c| c.to_string());
        match balancer.address_of(name, walsender.client) {
            Err(_) => wrong.push(format!("{name:?} from {client} leads to no address")),
            // Known by where it connects from: what it calls itself does not matter.
            Ok(address)
                if Some(address) == walsender.client
                    && name.parse() != Ok(address)
                    && !balancer.nodes.iter().any(|node| node.name.as_str() == name) => {}
            Ok(address) => {
                if walsender.client.is_some_and(|c| {
                    c.to_canonical() != address && c.is_ipv4() == address.is_ipv4()
                }) {
                    wrong.push(format!("{name:?} means {address}, and connects from {client}"));
                }
                by.entry(name).or_default().push(client);
            }
        }
    }
    let twice = by.iter().filter(|(_, clients)| clients.len() > 1);
    let twice: Vec<_> = twice
        .map(|(name, clients)| {
            format!("{name:?} is the name of several: from {}", clients.join(" and "))
        })
        .collect();
    let mend =
        "give each standby its node's name: application_name in primary_conninfo, then reload";
    if !twice.is_empty() {
        let found = [twice, wrong].concat();
        return check
            .fail(format!("{}; one of them gets the clients of the other", found.join("; ")))
            .mend(mend);
    }
    if !wrong.is_empty() {
        return check.warn(wrong.join("; ")).mend(mend);
    }
    let count = seen.walsenders.iter().filter(streams).count();
    check.ok(format!("{count} walsenders stream"))
}

/// The listed nodes that do not stream get no connections where walsenders decide.
fn streaming(
    config: &Config,
    primary: &Server,
    seen: &Inspection,
    servers: &[Server],
) -> Option<Check> {
    let check = about("streaming", primary.title(), "every listed node streams");
    let asked = |service: &pgha_machine::balancer::Service| service.discovery.asks_primary();
    if !config.services().iter().any(asked) || seen.walsenders.iter().any(|w| w.state.is_none()) {
        return None;
    }
    let balancer = config.balancer(std::collections::BTreeSet::new());
    let there: Vec<_> = seen
        .walsenders
        .iter()
        .filter(streams)
        .filter_map(|walsender| {
            balancer.address_of(&walsender.application_name, walsender.client).ok()
        })
        .collect();
    let mut missing: Vec<_> = servers
        .iter()
        // One that does not answer is told of as such, a second primary likewise.
        .filter(|server| server.listed && server.answer.as_ref().is_ok_and(|s| s.in_recovery))
        .filter(|server| !there.contains(&server.at.ip()))
        .map(Server::short)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Some(check.ok("they do"));
    }
    Some(
        check
            .warn(format!("{} not: no new connections while the primary answers, unless it streams from a standby", missing.join(", ")))
            .mend("see pg_stat_wal_receiver and the log there; primary_conninfo, pg_hba.conf of the primary"),
    )
}

fn confirming(primary: &Server, seen: &Inspection) -> Option<Check> {
    let check =
        about("synchronous-standbys", primary.title(), "who is to confirm commits is there");
    let text = seen.settings.get("synchronous_standby_names")?;
    let names = standby_names::parse(text)?;
    if seen.walsenders.iter().any(|walsender| walsender.state.is_none()) {
        return None;
    }
    let streaming = seen.walsenders.iter().filter(streams);
    let present: Vec<_> = streaming.map(|walsender| walsender.application_name.as_str()).collect();
    let (can, absent) = (names.can_confirm(&present), names.absent(&present));
    let found = format!("synchronous_standby_names = '{text}'");
    let mend = "start the standbys that are missing, or as a superuser on the primary name those that stream";
    let sql = "ALTER SYSTEM SET synchronous_standby_names = '...';";
    Some(if can < names.need {
        check
            .fail(format!(
                "{found}: {can} of {} that are needed stream, so every commit waits",
                names.need
            ))
            .mend(mend)
            .sql(sql)
            .sql("SELECT pg_reload_conf();")
    } else if absent.is_empty() {
        check.ok(found)
    } else {
        check
            .warn(format!("{found}: nobody streams as {}", absent.join(", ")))
            .mend(mend)
            .sql(sql)
            .sql("SELECT pg_reload_conf();")
    })
}
