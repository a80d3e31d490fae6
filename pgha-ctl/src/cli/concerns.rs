//! The primary, and what needs a person beyond single servers, each in one line.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use pgha_common::maps::MAX_SERVERS;
use pgha_machine::balancer::Unplaced;

use super::words;
use crate::controller::status::{
    ApiStatus, PrimaryClaim, PrimaryStatus, Status, StoreStatus, UnplacedWalsender, Unserved,
};

/// How many days a certificate has left when people are told of its end.
const DAYS: i64 = 30;

/// The primary.
pub(super) fn primary(known: &PrimaryStatus, now: u64) -> String {
    let mut text = "primary ".to_owned();
    text += &known
        .host
        .map_or_else(|| "not found yet".to_owned(), |host| words::named(known.name.as_ref(), host));
    if let Some(timeline) = known.timeline {
        text += &format!(" on timeline {timeline}");
    }
    let Some(age) = known.stale_ms else {
        return format!("{text}: answers, WAL {}", words::or_none(known.lsn.as_ref()));
    };
    let since = known.stale_since.unwrap_or_else(|| now.saturating_sub(age / 1000));
    let (at, age) = (words::moment(since), words::age(since, now));
    let what = match (&known.host, &known.several[..]) {
        (_, [_, _, ..]) => "several say that they are it",
        (None, _) => "none answers",
        (Some(_), _) => "does not answer",
    };
    text += &format!(": {what}, stale since {at} ({age}); the readers stay as they are");
    if !known.errors.is_empty() {
        text += &format!(" ({})", known.errors.join("; "));
    }
    text
}

/// What else needs a person.
pub(super) fn of(status: &Status, now: u64) -> Vec<String> {
    let primary = status.primary.iter();
    let mut concerns: Vec<_> = primary.flat_map(claims).collect();
    concerns.extend(unserved(&status.without_id));
    if let Some(why) = &status.director.cut_off {
        let cut_off = format!("this director is cut off: {why}; the readers stay as they are");
        concerns.insert(0, cut_off);
    }
    let walsenders = status.primary.iter().flat_map(|known| &known.unplaced);
    // By the Unix socket come backups; a standby hardly ever does.
    let by_network = walsenders.filter(|of| of.reason != Unplaced::UnixSocket);
    concerns.extend(by_network.map(unplaced));
    concerns.extend(store(&status.store, now));
    concerns.extend(status.api.iter().flat_map(certificate));
    concerns
}

/// Who says that it is the primary, and is not simply it.
fn claims(known: &PrimaryStatus) -> Vec<String> {
    let mut concerns = Vec::new();
    if !known.several.is_empty() {
        let all: Vec<_> = known.several.iter().map(ToString::to_string).collect();
        concerns.push(format!(
            "several primaries: {}; stop or rewind all but one of them",
            all.join("; ")
        ));
    }
    let former = |claim: &PrimaryClaim| {
        format!(
            "former primary: {claim} is out of recovery, and what is written to it will be lost; stop it, \
             then rewind it"
        )
    };
    concerns.extend(known.stale.iter().map(former));
    concerns
}

/// Who found no id.
fn unserved(servers: &[Unserved]) -> Option<String> {
    let first = servers.first()?;
    let at = SocketAddr::new(first.vip, first.port);
    let others = servers.len() - 1;
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    Some(format!(
        "no room: {} for {at}{more} get no traffic, because this director has {MAX_SERVERS} real servers of \
         all services together already; move servers or services to another director",
        first.address
    ))
}

/// A walsender of which nobody can tell whose it is.
pub(super) fn unplaced(of: &UnplacedWalsender) -> String {
    format!(
        "what streams as {:?} is no reader: {}; if it is a standby, give it the application_name of its \
         [[node]], or its address",
        of.application_name, of.reason
    )
}

fn store(store: &StoreStatus, now: u64) -> Option<String> {
    let error = store.error.as_ref()?;
    let since = store.stale_since.map_or_else(String::new, |since| {
        format!(", stale since {} ({})", words::moment(since), words::age(since, now))
    });
    Some(format!("store: {error}{since}; orders are refused meanwhile, those that are known stay"))
}

fn certificate(api: &ApiStatus) -> Vec<String> {
    let mut concerns = Vec::new();
    let of = format!("API certificate of {}", api.name);
    match api.days_left {
        ..0 => concerns.push(format!("{of}: ended {}; pgha tls renew", words::moment(api.until))),
        0..DAYS => concerns.push(format!("{of}: {} days left; pgha tls renew", api.days_left)),
        DAYS.. => {}
    }
    if let Some(error) = &api.error {
        concerns.push(format!("API certificates: {error}; those read before stay in force"));
    }
    concerns
}
