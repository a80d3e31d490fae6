//! One real server of one service: what is known of it, and what follows from that.

mod health;

use std::net::IpAddr;
use std::time::Duration;

use pgha_common::flow::RealRef;
use serde::{Deserialize, Serialize};

use super::config::{Discovery, Service};
use super::event::{SyncState, Walsender};
use super::judge::{Sight, Verdict};
use super::kinship::Kinship;
use super::lag::{FULL, Lag};
use super::orders::ReaderOrder;
use super::probe::{Passage, Probe, Via};
use super::reasons::Stamp;
use super::withheld::Withheld;
use crate::{Lsn, Moment, Neighbour, Timeline, Weight};

pub use health::{Down, Health};

/// What a check of a server found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It answers as a hot standby.
    Standby(Standby),
    /// It answers and is not in recovery.
    NotInRecovery {
        /// The timeline it writes.
        timeline: Option<Timeline>,
        /// Its system identifier.
        system: Option<u64>,
    },
    /// Its port refuses connections.
    Refused,
    /// It listens, but takes no new sessions (SQLSTATE 57P03: starting up or shutting down).
    NotAccepting,
    /// It answers with an error, which is told.
    Answered(String),
    /// It answers and refuses this controller's login, which is told: a wrong password, a line missing in
    /// its `pg_hba.conf`, no agreement on TLS. Says no more of the server than that it is there.
    LoginRefused(String),
    /// It could not be asked for a reason that lies here and not there, which is told: an unreadable
    /// password file, no descriptor left. Says nothing of the server.
    Undecided(String),
    /// It does not answer, for a reason that is told.
    Silent(String),
}

impl Finding {
    /// Whether it says what the server is to a client, or at least that PostgreSQL is there.
    const fn tells(&self) -> bool {
        match self {
            Self::Standby(_)
            | Self::NotInRecovery { .. }
            | Self::Refused
            | Self::NotAccepting
            | Self::Answered(_) => true,
            Self::LoginRefused(_) | Self::Undecided(_) | Self::Silent(_) => false,
        }
    }
}

/// What a standby says of itself. What it does not tell, or the role may not see, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standby {
    /// End of the WAL it has received and flushed, where it streams or has streamed.
    pub received: Option<Lsn>,
    /// End of the WAL it has replayed.
    pub replayed: Option<Lsn>,
    /// The timeline of its last restart point or of what it receives, the later one.
    pub timeline: Option<Timeline>,
    /// Its system identifier.
    pub system: Option<u64>,
    /// `now() - pg_last_xact_replay_timestamp()`: how old the last commit is that it has replayed.
    pub age: Option<Duration>,
    /// Its WAL receiver streams.
    pub receiving: bool,
    /// How many of its connections are in use.
    pub connections: Option<Connections>,
    /// Its own streaming walsenders: the standbys that are cascaded behind it.
    pub walsenders: Vec<Walsender>,
}

/// How many connections a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Sessions of clients, in whatever state.
    pub used: u32,
    /// `max_connections`.
    pub most: u32,
}

/// What an operator set for one server, over the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// No new connections.
    pub drained: bool,
    /// Its weight.
    pub weight: Option<Weight>,
}

/// One real server of one service.
#[derive(Debug)]
pub struct Member {
    pub(super) address: IpAddr,
    pub(super) real: RealRef,
    pub(super) listed: bool,
    pub(super) local: bool,
    /// It had clients by a former controller's word.
    pub(super) inherited: bool,
    /// An operator added it.
    pub(super) reader: Option<ReaderOrder>,
    /// It is the primary of a service that falls back to it.
    pub(super) fallback: bool,
    /// `None`: nobody has said anything sure since this server is known.
    pub(super) streaming: Option<Streaming>,
    /// The newest timeline that it was ever on.
    pub(super) newest: Option<Timeline>,
    /// The standby that says so; `None`: the primary does.
    pub(super) upstream: Option<IpAddr>,
    /// How many answers in a row of whoever it streams from did not name it.
    pub(super) missed: u8,
    pub(super) health: Health,
    pub(super) finding: Option<Finding>,
    /// How many answers the controller had had from anybody when its last check ended.
    pub(super) heard: u64,
    /// How many checks in a row were silent while others answered.
    pub(super) silences: u8,
    /// When a check told something of it last; the controller's start where none did.
    pub(super) told: Moment,
    /// Its last check told nothing of it.
    pub(super) untold: bool,
    /// How many checks in a row got no answer at all, whatever others did.
    pub(super) silent: u8,
    pub(super) neighbour: Option<Neighbour>,
    /// Its weight in the node table.
    pub(super) node_weight: Option<Weight>,
    /// The service's.
    pub(super) default_weight: Weight,
    pub(super) ordered: OrderedHere,
    /// As it was measured last; stands still while the primary does not answer.
    pub(super) lag: Option<Lag>,
    /// Withheld for its lag.
    pub(super) lagging: bool,
    pub(super) connections: Option<Connections>,
    pub(super) kinship: Kinship,
    pub(super) passage: Passage,
    /// How many probes of its service had been answered when its last one ended.
    pub(super) path_heard: u64,
    /// The probing that was asked for last.
    pub(super) probed: Option<(Probe, Via)>,
    /// Until when it counts as one that answers for the VIP.
    pub(super) leaks_until: Option<Moment>,
    /// Writers were sent to it: it may have sessions of theirs.
    pub(super) wrote: bool,
    /// It has not served since it came up.
    pub(super) fresh: bool,
    /// Since when it starts slowly.
    pub(super) rising: Option<Moment>,
    /// The automatic part of its weight that is in force, in thousandths.
    pub(super) followed: u32,
    pub(super) verdict: Verdict,
}

/// What operators set for one server of one service, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct OrderedHere {
    pub(super) steering: Steering,
    /// Who set the weight of `steering`.
    pub(super) weight_set: Option<Stamp>,
    /// Who drained it.
    pub(super) drained: Option<Stamp>,
    /// When the sessions left are reset.
    pub(super) reset_at: Option<Moment>,
}

/// What the primary, or another standby, said last of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streaming {
    /// It streams.
    Yes(SyncState),
    /// It has no streaming walsender.
    No,
}

impl Member {
    /// One of which nothing is known yet.
    pub(super) fn new(address: IpAddr, real: RealRef, health: Health) -> Self {
        Self {
            address,
            real,
            listed: false,
            local: false,
            inherited: false,
            reader: None,
            fallback: false,
            streaming: None,
            newest: None,
            upstream: None,
            missed: 0,
            health,
            finding: None,
            heard: 0,
            silences: 0,
            told: Moment::default(),
            untold: false,
            silent: 0,
            neighbour: None,
            node_weight: None,
            default_weight: Weight::ONE,
            ordered: OrderedHere::default(),
            lag: None,
            lagging: false,
            connections: None,
            kinship: Kinship::default(),
            passage: Passage::default(),
            path_heard: 0,
            probed: None,
            leaks_until: None,
            wrote: false,
            fresh: true,
            rising: None,
            followed: FULL,
            verdict: Verdict::default(),
        }
    }

    /// The weight it would have if nothing were wrong.
    #[must_use]
    pub fn wanted_weight(&self) -> Weight {
        let added = || self.reader.as_ref().and_then(|reader| reader.weight);
        let set = self.ordered.steering.weight.or_else(added).or(self.node_weight);
        set.unwrap_or(self.default_weight)
    }

    /// Whether somebody wrote it down as a member.
    const fn is_written_down(&self) -> bool {
        self.listed || self.reader.is_some()
    }

    /// Every reason for which it gets no new connections, in the order of who can mend it.
    pub(super) fn reasons(&self, service: &Service, sight: &Sight<'_>) -> Vec<Withheld> {
        if service.discovery == Discovery::Writer {
            return self.reasons_against_writers(service, sight);
        }
        let discovery = service.discovery;
        let cluster = sight.cluster.filter(|_| discovery == Discovery::Agents);
        let health = match self.health {
            Health::Up(_) => None,
            Health::Unproven(_) => Some(Withheld::Unproven),
            Health::Down(down, _) => Some(down.withheld()),
        };
        let primary = health == Some(Withheld::NotInRecovery);
        // Fail static: what was said last stands while the primary cannot be asked. An added reader is one
        // whether it streams or not; and whoever had clients may be one until the store has said who is.
        let may_be_added = self.reader.is_some() || (self.inherited && !sight.orders_known);
        let vanished = self.streaming == Some(Streaming::No)
            && !may_be_added
            && !primary
            && discovery.asks_primary();
        let unlisted = !discovery.welcomes() && !self.listed && !may_be_added && !self.fallback;
        // The record knows before the node is promoted, and before its checks say so.
        let leads = cluster.is_some_and(|of| of.leads(self.address)) && !primary;
        let nominated = cluster.is_some_and(|of| of.nominates(self.address));
        let left_behind = cluster.is_some_and(|of| of.left_behind(self));
        let unlisted = unlisted || cluster.is_some_and(|of| !of.manages(self.address));
        // A primary that nobody falls back to need not have the VIP.
        let is_probed = service.probe != Probe::Off && (!primary || self.fallback);
        let path = is_probed.then(|| self.passage.withheld()).flatten();
        [
            self.ordered.steering.drained.then_some(Withheld::Drained),
            (self.wanted_weight() == Weight::ZERO).then_some(Withheld::WeightZero),
            health,
            leads.then_some(Withheld::NotInRecovery),
            nominated.then_some(Withheld::Nominated),
            (self.kinship.withheld(sight.primary))
                .or_else(|| left_behind.then_some(Withheld::Diverged))
                .filter(|_| !primary),
            unlisted.then_some(Withheld::NotListed),
            vanished.then_some(Withheld::NotStreaming),
            (self.lagging && !primary).then_some(Withheld::Lagging),
            (self.neighbour.is_none() && !self.local).then_some(Withheld::NoMac),
            path,
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The same where the primary alone serves. While nobody has said who that is, whoever had the writers has them.
    fn reasons_against_writers(&self, service: &Service, sight: &Sight<'_>) -> Vec<Withheld> {
        let is_it = match sight.cluster {
            Some(cluster) => cluster.is_written_to(self.address),
            None => self.inherited,
        };
        let health = match self.health {
            Health::Up(_)
            | Health::Unproven(_)
            | Health::Down(Down::NotInRecovery | Down::Unproven, _) => None,
            Health::Down(down, _) => Some(down.withheld()),
        };
        [
            health,
            (!is_it).then_some(Withheld::NotPrimary),
            (self.neighbour.is_none() && !self.local).then_some(Withheld::NoMac),
            (service.probe != Probe::Off && is_it).then(|| self.passage.withheld()).flatten(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Notes whether a check told something of it.
    pub(super) fn hear(&mut self, finding: &Finding, now: Moment) {
        self.untold = !finding.tells();
        if !self.untold {
            self.told = now;
        }
        self.silent = match finding {
            Finding::Silent(_) => self.silent.saturating_add(1),
            // Nothing was heard, and nothing asked.
            Finding::Undecided(_) => self.silent,
            // Who refuses the login has answered.
            Finding::LoginRefused(_)
            | Finding::Standby(_)
            | Finding::NotInRecovery { .. }
            | Finding::Refused
            | Finding::NotAccepting
            | Finding::Answered(_) => 0,
        };
    }

    /// Since when its checks tell nothing, so that it stands as it was before; `None` while they tell, and where
    /// nothing was known before or their silence itself is evidence.
    pub(super) const fn stale_since(&self) -> Option<Moment> {
        match self.health {
            Health::Unproven(_) | Health::Down(Down::Silent, _) => None,
            Health::Up(_) | Health::Down(..) if self.untold => Some(self.told),
            Health::Up(_) | Health::Down(..) => None,
        }
    }

    /// Takes in what its last check made of its health.
    pub(super) fn take(&mut self, health: Health) {
        if !health.is_up() {
            (self.fresh, self.rising) = (true, None);
        }
        if health.is_dead() && !self.health.is_dead() {
            // A host that comes back may come back without the VIP, however fast it was.
            self.passage = Passage::default();
        }
        self.health = health;
    }

    /// Whether its sessions are gone, or are to go by an operator's word, and its clients are told so.
    pub(super) fn is_dead(&self, now: Moment) -> bool {
        self.health.is_dead() || self.ordered.reset_at.is_some_and(|at| at <= now)
    }

    /// Whether nothing is left that makes it a member: nobody wrote it down, it does not stream by anybody's
    /// word, and no session of it can be alive. `orders_known`: what operators ordered for it is kept
    /// elsewhere and comes back with it. `upstream_gone`: who said last that it streams is no member any
    /// more.
    pub(super) fn is_over(
        &self,
        discovery: Discovery,
        orders_known: bool,
        upstream_gone: bool,
    ) -> bool {
        let sessions_gone = match self.health {
            Health::Unproven(_) => true,
            Health::Up(_) => false,
            Health::Down(down, _) => down.is_dead(),
        };
        let streams =
            discovery.welcomes() && self.streaming != Some(Streaming::No) && !upstream_gone;
        let steered = !orders_known && self.ordered.steering != Steering::default();
        !self.is_written_down() && !self.fallback && !streams && !steered && sessions_gone
    }

    /// How it is probed now, if it is.
    pub(super) fn probing(&self, probe: Probe) -> Option<(Probe, Via)> {
        let neighbour = self.neighbour.map(Via::Neighbour);
        let via = if self.local { Some(Via::Local) } else { neighbour };
        via.filter(|_| probe != Probe::Off).map(|via| (probe, via))
    }
}

#[cfg(test)]
mod tests;
