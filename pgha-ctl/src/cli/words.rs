//! Numbers, times and states in the words people use for them.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgha_machine::NodeName;
use pgha_machine::balancer::{
    ServerRole, ServerView, ServiceView, Stamp, SyncState, VipStanding, WeightReason, Withheld,
};

use crate::controller::state::ServerState;

/// What stands where nothing is known.
pub(super) const NONE: &str = "-";

/// Seconds since the Unix epoch, now.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A text, or [`NONE`].
pub(super) fn or_none(text: Option<impl ToString>) -> String {
    text.map_or_else(|| NONE.to_owned(), |text| text.to_string())
}

/// A server's name, or its address where it has none.
pub(super) fn name(server: &ServerView) -> String {
    server.name.as_ref().map_or_else(|| server.address.to_string(), ToString::to_string)
}

/// `db2 (10.0.0.2)`, or the address alone.
pub(super) fn named(name: Option<&impl ToString>, address: IpAddr) -> String {
    name.map_or_else(|| address.to_string(), |name| format!("{} ({address})", name.to_string()))
}

/// A number of bytes, rounded to a unit as PostgreSQL's `pg_size_pretty` does: each up to 10,240 of the one
/// before.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut number = bytes;
    while number >= 10 * 1024 && unit + 1 < UNITS.len() {
        number = (number >> 10) + ((number >> 9) & 1);
        unit += 1;
    }
    format!("{number} {}", UNITS[unit])
}

/// A length of time in its largest unit, two where the first is a small number: `250 ms`, `12 s`, `3 min`,
/// `1 h 5 min`, `12 d`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let pair = |number: u64, unit: &str, rest: u64, smaller: &str| match rest {
        0 => format!("{number} {unit}"),
        _ => format!("{number} {unit} {rest} {smaller}"),
    };
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{seconds} s"),
        60..600 => pair(seconds / 60, "min", seconds % 60, "s"),
        600..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// How long ago a moment of the clock on the wall was, both in seconds since the Unix epoch.
pub(super) fn age(at: u64, now: u64) -> String {
    match now.saturating_sub(at) {
        // Nobody has measured milliseconds here.
        0 => "0 s".to_owned(),
        seconds => span(Duration::from_secs(seconds)),
    }
}

/// A moment, in UTC: `2026-11-22 02:51:03`.
pub(super) fn moment(at: u64) -> String {
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)).to_string();
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

/// `by root 12 min ago`, as far as it is known.
pub(super) fn stamp(stamp: &Stamp, now: u64) -> String {
    // What only the pinned maps tell of has neither.
    if stamp.at == 0 {
        return "by an operator, of whom no more is known".to_owned();
    }
    format!("by {} {} ago", stamp.by, age(stamp.at, now))
}

/// How far a server is behind: in bytes of WAL and in time.
pub(super) fn lag(server: &ServerView) -> String {
    delay(server.lag_bytes, server.lag_ms)
}

/// A delay in bytes and in milliseconds, as far as they are known.
pub(super) fn delay(lag_bytes: Option<u64>, lag_ms: Option<u64>) -> String {
    let time = lag_ms.map(|ms| span(Duration::from_millis(ms)));
    match (lag_bytes.map(bytes), time) {
        (Some(bytes), Some(time)) => format!("{bytes}, {time}"),
        (one, other) => or_none(one.or(other)),
    }
}

/// Connections in use of those there may be: `12/100`.
pub(super) fn connections(server: &ServerView) -> String {
    or_none(
        server.connections.map(|connections| format!("{}/{}", connections.used, connections.most)),
    )
}

/// The weight in force, and the one it would be where that is another.
pub(super) fn weight(server: &ServerView) -> String {
    if server.effective_weight == server.weight {
        server.weight.to_string()
    } else {
        format!("{} (of {})", server.effective_weight, server.weight)
    }
}

/// How many of a service's servers get new connections, and of how many. A primary that is no reader is none
/// that could.
pub(super) fn serving(servers: &[ServerView]) -> (usize, usize) {
    let count = |state| servers.iter().filter(|server| ServerState::of(server) == state).count();
    (count(ServerState::Up), servers.len() - count(ServerState::Primary))
}

/// That orders hold on one director only, where there are others; empty where there are none.
pub(super) fn apart(others: &[NodeName]) -> String {
    match others {
        [] => String::new(),
        [other] => format!(
            "orders hold on this director only: {other} keeps its own; give it the same with --to\n"
        ),
        others => {
            let others: Vec<_> = others.iter().map(ToString::to_string).collect();
            format!(
                "orders hold on this director only: {} keep their own; give them the same with --to\n",
                others.join(", ")
            )
        }
    }
}

/// What a server is.
pub(super) const fn role(role: ServerRole) -> &'static str {
    match role {
        ServerRole::Standby => "standby",
        ServerRole::Primary => "primary",
        ServerRole::Unknown => "unknown",
    }
}

/// `sync_state`, as PostgreSQL says it.
pub(super) const fn sync(state: SyncState) -> &'static str {
    match state {
        SyncState::Async => "async",
        SyncState::Potential => "potential",
        SyncState::Sync => "sync",
        SyncState::Quorum => "quorum",
    }
}

/// What probes through the VIP say.
pub(super) const fn vip(standing: VipStanding) -> &'static str {
    match standing {
        VipStanding::Off => NONE,
        VipStanding::Unchecked => "unchecked",
        VipStanding::Proven => "ok",
        VipStanding::Silent => "silent",
        VipStanding::Refused => "refused",
        VipStanding::NotAccepting => "not accepting",
        VipStanding::Failing => "failing",
        VipStanding::Undecided => "undecided",
    }
}

/// What holds a server back, moves its weight, or is else to be known of it, in short phrases. `said`: what the
/// last probe through the VIP was told on its way.
pub(super) fn reasons(
    server: &ServerView,
    view: &ServiceView,
    said: Option<&str>,
    now: u64,
) -> Vec<String> {
    let mut reasons = withheld(server, now);
    reasons.extend(stale(server, now));
    reasons.extend(ordered(server, now));
    reasons.extend(server.weight_reasons.iter().filter_map(step));
    reasons.extend(upstream(server, view).map(|upstream| format!("streams from {upstream}")));
    if server.answers_arp {
        reasons.push("answers ARP for the VIP, which draws clients past the director".to_owned());
    }
    reasons.extend(through_vip(server, said).map(|found| format!("through the VIP: {found}")));
    reasons
}

fn withheld(server: &ServerView, now: u64) -> Vec<String> {
    let phrase = |withheld: &Withheld| match (withheld, &server.drained) {
        (Withheld::Drained, Some(by)) => format!("drained {}", stamp(by, now)),
        _ => withheld.phrase().to_owned(),
    };
    let mut phrases: Vec<_> = server.withheld.iter().map(phrase).collect();
    // That of a stale server is told with that.
    let error = server.error.as_ref().filter(|_| server.stale_ms.is_none());
    if let (Some(error), Some(last)) = (error, phrases.last_mut()) {
        *last += &format!(" ({error})");
    }
    phrases
}

/// Since when its checks tell nothing, and what they say instead.
fn stale(server: &ServerView, now: u64) -> Option<String> {
    let since = now.saturating_sub(server.stale_ms? / 1_000);
    let error = server.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
    let (at, age) = (moment(since), age(since, now));
    Some(format!("its checks tell nothing, stale since {at} ({age}); it stays as it was{error}"))
}

fn ordered(server: &ServerView, now: u64) -> Vec<String> {
    let mut phrases = Vec::new();
    if let Some(left) = server.reset_ms.filter(|_| server.drained.is_some()) {
        phrases.push(match left {
            0 => "its sessions were reset".to_owned(),
            _ => format!("the sessions left are reset in {}", span(Duration::from_millis(left))),
        });
    }
    if let Some(by) = &server.weight_set {
        phrases.push(format!("weight {} set {}", server.weight, stamp(by, now)));
    }
    if let Some(by) = &server.reader {
        phrases.push(format!("added as a reader {}", stamp(by, now)));
    }
    phrases
}

fn step(reason: &WeightReason) -> Option<String> {
    match reason {
        // Told otherwise, or no more than the number itself.
        WeightReason::Default { .. }
        | WeightReason::Node { .. }
        | WeightReason::Reader { .. }
        | WeightReason::Set { .. }
        | WeightReason::Withheld { .. } => None,
        WeightReason::SlowStart { .. }
        | WeightReason::Lag { .. }
        | WeightReason::Connections { .. }
        | WeightReason::Steady { .. }
        | WeightReason::Tolerated { .. }
        | WeightReason::Fallback => Some(reason.phrase()),
    }
}

/// Of a standby behind a standby, whom it streams from.
pub(super) fn upstream(server: &ServerView, view: &ServiceView) -> Option<String> {
    let address = server.upstream?;
    let upstream = view.servers.iter().find(|server| server.address == address);
    Some(upstream.map_or_else(|| address.to_string(), name))
}

/// Whether it matters that it has the VIP: a primary that is no reader need not have it.
pub(super) fn needs_vip(server: &ServerView) -> bool {
    let is_of_vip = server.withheld.iter().any(|reason| reason.is_of_vip());
    ServerState::of(server) != ServerState::Primary || is_of_vip
}

/// What the last probe through the VIP found, and what it was told on its way; nothing of one that went well.
pub(super) fn through_vip(server: &ServerView, said: Option<&str>) -> Option<String> {
    if !needs_vip(server) {
        return None;
    }
    let said = said.filter(|_| server.vip != VipStanding::Proven);
    match (&server.vip_error, said) {
        (Some(error), Some(said)) if !error.contains(said) => Some(format!("{error} ({said})")),
        (Some(error), _) => Some(error.clone()),
        (None, said) => said.map(str::to_owned),
    }
}
