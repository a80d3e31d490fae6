//! Who looks on while a scenario of managed nodes is played, and judges it at its end.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use pgha_ctl::agent::status::RoleStatus;
use pgha_ctl::controller::events::{EventsReply, Kind};
use pgha_machine::failover::record::Record;

use super::capture::Capture;
use super::invariants::{
    Claim, Outage, claim, nothing_is_lost, one_owner, one_primary_at_a_time, readers_meet_standbys,
    readers_meet_the_living,
};
use super::plan::{READER_VIP, WRITER_VIP, address, mac, name_at};
use super::reader::{Reader, Visit};
use super::writer::Acknowledged;
use super::{Agent, Director, Lab, Managed, SOON, Writer, wait_for, wait_until};

#[cfg(test)]
mod tests;

/// What says whose an address is: ARP and neighbour advertisements.
const CLAIMS: &str = "arp or (icmp6 and ip6[40] == 136)";

/// What a test did itself, so that it is no fault of the cluster.
#[derive(Debug, Default)]
pub struct Excused {
    /// Who said that a VIP is its own: a host that is none of the cluster's.
    pub rivals: Vec<[u8; 6]>,
    /// Who was made to stand still, but for its kernel, which goes on answering for its addresses.
    pub still: Vec<[u8; 6]>,
    /// When there was no director that could have known of another primary: from, until.
    pub undirected: Vec<(Instant, Instant)>,
}

impl Excused {
    fn is_of_test(&self, claim: &Claim) -> bool {
        self.rivals.contains(&claim.mac) || (claim.answers && self.still.contains(&claim.mac))
    }

    fn is_undirected(&self, visit: &Visit) -> bool {
        let within = |(from, until): &(Instant, Instant)| {
            visit.ended.here >= *from && visit.began.here <= *until
        };
        self.undirected.iter().any(within)
    }
}

/// All that looks on.
#[derive(Debug)]
pub struct Observers {
    capture: Capture,
    reader: Option<Reader>,
}

impl Observers {
    /// Begins to look at what the network says of the VIPs.
    ///
    /// # Errors
    /// Without tcpdump.
    pub(super) fn begin(lab: &Lab) -> Result<Self> {
        let capture = Capture::at_switch(&lab.host("client")?, CLAIMS)?;
        Ok(Self { capture, reader: None })
    }

    /// Has a client come to the reader VIP all the time, from now on.
    ///
    /// # Errors
    /// Without a thread.
    pub(super) fn read(&mut self, lab: &Lab) -> Result<()> {
        self.reader = Some(Reader::start(&lab.host("client")?, READER_VIP)?);
        Ok(())
    }

    fn claims(&self) -> Result<Vec<Claim>> {
        let frames = self.capture.frames()?;
        Ok(frames.iter().filter_map(|frame| claim(frame)).collect())
    }
}

impl Managed {
    /// The client of the reader VIP, where there is a director.
    ///
    /// # Errors
    /// There is none.
    pub fn reader(&self) -> Result<&Reader> {
        self.observers.reader.as_ref().context("a reader, which needs a controller")
    }

    /// The end of a scenario: a node is the primary, it has all that was acknowledged, and so have those that stream
    /// from it, in time (I1); and all that [`Managed::observed`] looks for. Returns what was acknowledged.
    ///
    /// # Errors
    /// Whatever does not hold.
    pub fn finish(&self, writers: impl IntoIterator<Item = Writer>) -> Result<Vec<Acknowledged>> {
        self.finish_but(writers, &Excused::default())
    }

    /// [`Managed::finish`] of a scenario in which the test did that itself.
    ///
    /// # Errors
    /// As that.
    pub fn finish_but(
        &self,
        writers: impl IntoIterator<Item = Writer>,
        excused: &Excused,
    ) -> Result<Vec<Acknowledged>> {
        let acknowledged = ended(writers)?;
        let (primary, record) = self.primary()?;
        nothing_is_lost(&acknowledged, &primary.rows()?, &record)?;
        let there = primary.rows()?;
        for standby in
            self.agents.iter().filter(|agent| agent.host().name() != primary.host().name())
        {
            let streams = || standby.psql("select status from pg_stat_wal_receiver");
            wait_until(format!("{} to have all of it", standby.host().name()), SOON, || {
                let lives = standby.status().is_ok_and(|status| status.role == RoleStatus::Standby);
                Ok(!lives || streams()? != "streaming" || standby.rows()?.is_superset(&there))
            })?;
        }
        self.observed(&acknowledged, &record, excused)?;
        Ok(acknowledged)
    }

    /// What held all the time, whether there is a primary at the end or not: never two of them at a time (I2), one
    /// owner of each VIP (I3), no reader at the primary nor at a server known dead (I4).
    ///
    /// # Errors
    /// Whatever did not.
    pub fn observed(
        &self,
        acknowledged: &[Acknowledged],
        record: &Record,
        excused: &Excused,
    ) -> Result<()> {
        one_primary_at_a_time(acknowledged, &record.terms)?;
        let mut claims = self.observers.claims()?;
        claims.retain(|claim| !excused.is_of_test(claim));
        let directors: Vec<_> = self.controller.iter().map(|one| one.host().mac()).collect();
        let of_terms = record.terms.iter().map(|term| Ok(mac(address(term.node.as_str())?)));
        let of_terms = of_terms.collect::<Result<Vec<_>>>()?;
        let writers = if self.balanced { &directors } else { &of_terms };
        one_owner(&claims, WRITER_VIP.into(), writers)?;
        one_owner(&claims, READER_VIP.into(), &directors)?;
        let Some(reader) = &self.observers.reader else { return Ok(()) };
        let mut visits = reader.visits();
        visits.retain(|visit| !excused.is_undirected(visit));
        readers_meet_standbys(&visits, acknowledged)?;
        let known = self.controller.iter().map(outages).collect::<Result<Vec<_>>>()?;
        readers_meet_the_living(&visits, &known.concat())
    }

    /// The primary and the record, once the two agree.
    ///
    /// # Errors
    /// When nobody is the primary in time.
    pub fn primary(&self) -> Result<(&Agent, Record)> {
        wait_for("a primary", SOON * 2, || {
            for agent in &self.agents {
                let Ok(status) = agent.status() else { continue };
                let own = status.holder.as_ref() == Some(&status.node);
                if let (RoleStatus::Primary, true, Some(record)) = (status.role, own, status.record)
                {
                    return Ok(Some((agent, record)));
                }
            }
            bail!("nobody is it");
        })
    }
}

fn ended(writers: impl IntoIterator<Item = Writer>) -> Result<Vec<Acknowledged>> {
    let ended = writers.into_iter().map(Writer::stop);
    let mut all = ended.collect::<Result<Vec<_>>>()?.concat();
    all.sort_by_key(|one| one.at);
    ensure!(!all.is_empty(), "nothing was acknowledged: a scenario without a write shows nothing");
    Ok(all)
}

/// When a director knew of servers that they serve nobody, by its events. Of one that does not run: nothing.
fn outages(director: &Director) -> Result<Vec<Outage>> {
    if !director.is_running()? {
        return Ok(Vec::new());
    }
    let (code, said) = director.ask("GET", "/v1/events", "")?;
    ensure!(code == 200, "{code}: {said}");
    let told: EventsReply = serde_json::from_str(&said)?;
    let name = |address: IpAddr| match address {
        IpAddr::V4(address) => name_at(address),
        IpAddr::V6(_) => None,
    };
    let mut down: BTreeMap<String, u64> = BTreeMap::new();
    let mut outages = Vec::new();
    for event in told.events {
        let Some(server) = event.server.and_then(name) else { continue };
        if event.kind == Kind::ServerDown {
            down.entry(server).or_insert(event.at);
        } else if event.kind == Kind::ServerUp {
            let from = down.remove(&server);
            let until = Some(event.at);
            outages.extend(from.map(|from| Outage { server, from, until }));
        }
    }
    outages.extend(down.into_iter().map(|(server, from)| Outage { server, from, until: None }));
    Ok(outages)
}
