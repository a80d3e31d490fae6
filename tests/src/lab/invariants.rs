//! What must hold after every scenario, whatever was done in it (I1 to I4), judged by what clients and the network
//! saw.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgha_machine::failover::record::{Degraded, Mode, Record, Term};

use super::capture::COOKED;
use super::plan::mac_text;
use super::reader::Visit;
use super::writer::Acknowledged;

#[cfg(test)]
mod tests;

/// How long a director may take from what it says of a server to what its maps say, on a machine under load.
const WRITTEN: Duration = Duration::from_secs(1);

/// Somebody said who has an address: by ARP or by a neighbour advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub mac: [u8; 6],
    /// It was asked: a kernel answers by itself.
    pub answers: bool,
}

/// A time in which a director knew that a server serves no new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Which server.
    pub server: String,
    /// From when on: milliseconds since the Unix epoch.
    pub from: u64,
    /// Until when; `None`: to the end.
    pub until: Option<u64>,
}

/// I1: every acknowledged id is there. Not held to be: what was acknowledged in a time in which, by the record, a
/// commit waited for nobody, if another node took over since; with `async` what a former primary acknowledged; and what
/// was acknowledged before an operator gave it up.
///
/// # Errors
/// Naming those that are not.
pub fn nothing_is_lost(
    acknowledged: &[Acknowledged],
    there: &BTreeSet<i64>,
    record: &Record,
) -> Result<()> {
    are_there(acknowledged.iter().filter(|one| !may_be_lost(one, record)), there)
}

/// All these ids are there.
///
/// # Errors
/// Naming those that are not.
pub fn are_there<'a>(
    acknowledged: impl IntoIterator<Item = &'a Acknowledged>,
    there: &BTreeSet<i64>,
) -> Result<()> {
    let mut lost = acknowledged.into_iter().filter(|one| !there.contains(&one.id)).peekable();
    ensure!(lost.peek().is_none(), "acknowledged and lost: {:?}", lost.collect::<Vec<_>>());
    Ok(())
}

fn may_be_lost(one: &Acknowledged, record: &Record) -> bool {
    let of = record.terms.iter().find(|term| term.timeline == one.timeline);
    let Some(term) = of.filter(|term| term.epoch < record.epoch) else { return false };
    let mut later = record.terms.iter().filter(|later| later.epoch > term.epoch);
    if later.any(Term::is_forced) {
        return true;
    }
    let within =
        |time: &Degraded| one.lsn >= time.from && time.until.is_none_or(|until| one.lsn < until);
    match record.mode {
        Mode::Async { .. } => true,
        Mode::Sync { .. } => term.degraded.iter().any(within),
        Mode::Strict { .. } => false,
    }
}

/// I2: whoever acknowledges has the term for it, and never do two nodes acknowledge at overlapping times: once a later
/// term has acknowledged, an earlier one acknowledges nothing that was sent after that. What was sent before may still
/// be told late, by whoever had it flushed in time.
///
/// # Errors
/// Naming what contradicts.
pub fn one_primary_at_a_time(acknowledged: &[Acknowledged], terms: &[Term]) -> Result<()> {
    let mut of_terms: BTreeMap<_, Vec<&Acknowledged>> = BTreeMap::new();
    for one in acknowledged {
        let term = terms.iter().position(|term| term.timeline == one.timeline);
        let index = term.with_context(|| format!("acknowledged without a term: {one:?}"))?;
        let node = terms[index].node.as_str();
        ensure!(one.server == node, "acknowledged in the term of {node}: {one:?}");
        of_terms.entry(index).or_default().push(one);
    }
    // Of all terms up to one, what was sent last.
    let mut latest: Option<&Acknowledged> = None;
    for later in of_terms.values() {
        let first = later.iter().min_by_key(|one| one.at);
        if let (Some(earlier), Some(first)) = (latest, first) {
            let overlap = "two primaries at a time";
            ensure!(earlier.sent <= first.at, "{overlap}: {earlier:?} after {first:?}");
        }
        let last = later.iter().copied().max_by_key(|one| one.sent);
        latest = [latest, last].into_iter().flatten().max_by_key(|one| one.sent);
    }
    Ok(())
}

/// I3: the owners of an address, in the order in which the network heard of them, are those it may have had in that
/// order: nobody comes back after another without a term for it.
///
/// # Errors
/// Naming the owners that were seen.
pub fn one_owner(claims: &[Claim], address: IpAddr, owners: &[[u8; 6]]) -> Result<()> {
    let of_it = claims.iter().filter(|claim| claim.address == address);
    let mut seen: Vec<_> = of_it.map(|claim| claim.mac).collect();
    seen.dedup();
    let mut left = owners.iter();
    let fits = seen.iter().all(|mac| left.any(|owner| owner == mac));
    let texts = |macs: &[[u8; 6]]| macs.iter().copied().map(mac_text).collect::<Vec<_>>();
    ensure!(
        fits,
        "{address} was said to be of {:?}, and may be of {:?}, in that order",
        texts(&seen),
        texts(owners)
    );
    Ok(())
}

/// I4: no reader is sent to a primary: to a server that had acknowledged a write before the reader came, and is out of
/// recovery.
///
/// # Errors
/// Naming who was.
pub fn readers_meet_standbys(visits: &[Visit], acknowledged: &[Acknowledged]) -> Result<()> {
    for (visit, answer) in answered(visits) {
        let mut by = acknowledged.iter().filter(|one| one.server == answer.server);
        let was_primary = !answer.in_recovery && by.any(|one| one.at <= visit.began.here);
        ensure!(!was_primary, "a reader was sent to the primary: {visit:?}");
    }
    Ok(())
}

/// I4: no reader is sent to a server that its director knew to serve nobody, from before it came until after it left.
///
/// # Errors
/// Naming who was.
pub fn readers_meet_the_living(visits: &[Visit], outages: &[Outage]) -> Result<()> {
    let written = u64::try_from(WRITTEN.as_millis())?;
    for (visit, answer) in answered(visits) {
        let knew = |of: &&Outage| {
            of.server == answer.server
                && of.from + written < visit.began.wall
                && of.until.is_none_or(|until| visit.ended.wall < until)
        };
        let outage = outages.iter().find(knew);
        ensure!(outage.is_none(), "a reader was sent to {visit:?} in spite of {outage:?}");
    }
    Ok(())
}

fn answered(visits: &[Visit]) -> impl Iterator<Item = (&Visit, &super::reader::Answer)> {
    visits.iter().filter_map(|visit| Some((visit, visit.answer.as_ref().ok()?)))
}

/// What a frame of [`super::Capture::at_switch`] says of whose an address is (RFC 826, RFC 4861 section 4.4).
pub fn claim(cooked: &[u8]) -> Option<Claim> {
    const ARP: [u8; 2] = [0x08, 0x06];
    const REPLY: [u8; 2] = [0, 2];
    const SOLICITED: u8 = 0x40;
    const IPV6: [u8; 2] = [0x86, 0xdd];
    /// Next header: ICMPv6; its type: an advertisement.
    const ADVERTISEMENT: (u8, u8) = (58, 136);
    /// The option with the target's link-layer address, of eight bytes.
    const TARGET: [u8; 2] = [2, 1];
    let packet = cooked.get(COOKED..)?;
    match [*cooked.first()?, *cooked.get(1)?] {
        ARP => {
            let (mac, address) = (packet.get(8..14)?, packet.get(14..18)?);
            let address = Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?);
            let mac = mac.try_into().ok()?;
            let answers = packet.get(6..8)? == REPLY;
            // Who only asks whether anybody has an address has none yet (RFC 5227).
            (!address.is_unspecified()).then_some(Claim { address: address.into(), mac, answers })
        }
        IPV6 if (*packet.get(6)?, *packet.get(40)?) == ADVERTISEMENT => {
            let target = <[u8; 16]>::try_from(packet.get(48..64)?).ok()?;
            let option = packet.get(64..72)?;
            let mac = option[2..].try_into().ok()?;
            option.starts_with(&TARGET).then_some(())?;
            let answers = packet.get(44)? & SOLICITED != 0;
            Some(Claim { address: Ipv6Addr::from(target).into(), mac, answers })
        }
        _ => None,
    }
}
