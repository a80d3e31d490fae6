//! What each reason means, and what mends it, with the names and addresses of the case.

use std::net::{IpAddr, SocketAddr};

use pgha_machine::NodeName;
use pgha_machine::balancer::{ServerView, ServiceView, WeightReason, Withheld};

use crate::cli::words;
use crate::controller::status::{ServiceStatus, Status};

/// What there is to say of one reason.
pub(super) struct Advice {
    pub(super) meaning: String,
    pub(super) found: Option<String>,
    pub(super) mend: String,
}

fn advice(meaning: impl Into<String>, mend: impl Into<String>) -> Advice {
    Advice { meaning: meaning.into(), found: None, mend: mend.into() }
}

/// A server of a service, as the advice needs it.
pub(super) struct Place<'a> {
    server: &'a ServerView,
    /// What the last probe through the VIP found, and what it was told on its way.
    through_vip: Option<String>,
    /// How an operator names it.
    name: String,
    /// Where its own checks go.
    end: SocketAddr,
    vip: SocketAddr,
    service: &'a NodeName,
    /// Where the primary is, as far as it is known.
    primary: String,
}

impl<'a> Place<'a> {
    /// Of that server.
    pub(super) fn of(status: &Status, of: &'a ServiceStatus, server: &'a ServerView) -> Self {
        let view = &of.view;
        let host = status.primary.as_ref().and_then(|primary| primary.host);
        Self {
            server,
            through_vip: words::through_vip(server, of.said(server.address)),
            name: words::name(server),
            end: SocketAddr::new(server.address, view.port),
            vip: SocketAddr::new(view.vip, view.port),
            service: &view.name,
            primary: host
                .map_or_else(|| "the primary".to_owned(), |host| format!("the primary {host}")),
        }
    }

    /// Why it gets no new connections.
    pub(super) fn withheld(&self, reason: Withheld) -> Advice {
        let Self { name, end, vip, service, primary, .. } = self;
        let address = end.ip();
        let said = match reason {
            Withheld::Drained => advice(
                "the sessions it has stay, new ones go elsewhere, until somebody takes that back",
                format!("pgha undrain {name}"),
            ),
            Withheld::WeightZero => advice(
                "a server of weight 0 is known and gets no clients, as in a whitelist",
                format!(
                    "pgha weight {name} 1, or give it a weight in [[node]], or service {service} a \
                     default_weight above 0, then pgha reload"
                ),
            ),
            Withheld::Unproven => advice(
                "a server gets its first client only after [health] rise good checks in a row",
                "wait for the checks; if it lasts, what they found says what is wrong",
            ),
            Withheld::Refused => advice(
                format!("nothing listens on {end}: PostgreSQL is down there, or listens elsewhere"),
                format!(
                    "start PostgreSQL on {name}; see port and listen_addresses in its postgresql.conf"
                ),
            ),
            Withheld::Silent => advice(
                format!("{end} gives no answer, while other servers answer"),
                format!(
                    "see whether the host {name} is up, its link, and firewalls between it and here"
                ),
            ),
            Withheld::NotAccepting => advice(
                "PostgreSQL is starting up, shutting down, or has no connection left",
                format!("see the log of PostgreSQL on {name}, and max_connections"),
            ),
            Withheld::Failing => advice(
                "its checks are answered with errors; the sessions it has may go on",
                format!(
                    "see the error, then try it: psql -h {address} -p {} with the role of [postgres]",
                    end.port()
                ),
            ),
            Withheld::NotInRecovery => advice(
                "it answers as a primary; only standbys serve readers",
                "none if it is to be the primary; otherwise make it a standby again (pg_rewind, or \
                 pg_basebackup, with standby.signal)",
            ),
            Withheld::Nominated => advice(
                "the record nominates it: it may be the primary at any moment, and only standbys serve readers",
                "none: it becomes the primary, or the nomination is withdrawn",
            ),
            Withheld::NotPrimary => advice(
                "writers are sent to the primary alone, and by the record of the cluster it is another node, or none yet",
                "none if there is a primary; otherwise pgha status says what a failover waits for",
            ),
            Withheld::ForeignSystem => advice(
                format!(
                    "its system identifier is another than that of {primary}: other data altogether"
                ),
                format!(
                    "make {name} anew by pg_basebackup from {primary}, or take it out of this cluster"
                ),
            ),
            Withheld::Diverged => advice(
                format!(
                    "it has written or replayed WAL that {primary} does not have, so its answers may be wrong"
                ),
                format!("on {name}: pg_rewind against {primary}, or pg_basebackup anew"),
            ),
            Withheld::NotListed => advice(
                "it was taken out of the node table; the sessions it has may end by themselves",
                "put it back into [[node]] and pgha reload, or leave it",
            ),
            Withheld::NotStreaming => advice(
                format!("it has no streaming walsender at {primary}, so what it shows grows old"),
                format!(
                    "on {name}: see primary_conninfo and the log (is its application_name {name}, or an \
                     address?); on {primary}: select * from pg_stat_replication"
                ),
            ),
            Withheld::Lagging => advice(
                "it is beyond the service's lag limit; it comes back at the return limit, and its sessions \
                 stay",
                format!(
                    "on {name}: long queries that hold replay up (max_standby_streaming_delay), a paused \
                     replay, its disk or link; or raise max_lag_bytes or max_lag of {service}"
                ),
            ),
            Withheld::NoMac => advice(
                format!(
                    "nobody answers ARP or neighbour discovery for {address}: frames cannot be sent there"
                ),
                format!(
                    "see whether the host is up and on the director's own network: ip neigh show {address}"
                ),
            ),
            Withheld::VipUnproven => advice(
                format!("no probe to {vip} carried to its MAC address has been answered yet"),
                "wait for the next probe; if it lasts, what it found says what is wrong",
            ),
            Withheld::VipSilent => advice(
                format!(
                    "it does not answer on {vip}, though its own address does: the VIP is not on its lo"
                ),
                format!(
                    "on {name}: pgha realserver setup --vip {}; else firewalls for that address",
                    vip.ip()
                ),
            ),
            Withheld::VipRefused => advice(
                format!("it has the VIP, but PostgreSQL does not listen on {vip}"),
                format!(
                    "on {name}: listen_addresses = '*', or with {} in it, and restart PostgreSQL",
                    vip.ip()
                ),
            ),
            Withheld::VipFailing => advice(
                format!("probes on {vip} end without a session"),
                format!("see the log of PostgreSQL on {name}, and its max_connections"),
            ),
            Withheld::VipNotAccepting => advice(
                format!("PostgreSQL takes no sessions on {vip}"),
                format!("see the log of PostgreSQL on {name}, and max_connections"),
            ),
        };
        Advice { found: self.found(reason), ..said }
    }

    /// What was seen of it, for that reason.
    fn found(&self, reason: Withheld) -> Option<String> {
        let server = self.server;
        match reason {
            Withheld::Lagging => Some(format!("lag {}", words::lag(server))),
            Withheld::Drained => server.reset_ms.filter(|left| *left > 0).map(|left| {
                let left = words::span(std::time::Duration::from_millis(left));
                format!("the sessions left are reset in {left}")
            }),
            Withheld::VipUnproven
            | Withheld::VipSilent
            | Withheld::VipRefused
            | Withheld::VipNotAccepting
            | Withheld::VipFailing => self.through_vip.clone(),
            Withheld::Unproven
            | Withheld::Refused
            | Withheld::Silent
            | Withheld::NotAccepting
            | Withheld::Failing
            | Withheld::NotInRecovery => server.error.clone(),
            Withheld::WeightZero
            | Withheld::Nominated
            | Withheld::NotPrimary
            | Withheld::ForeignSystem
            | Withheld::Diverged
            | Withheld::NotListed
            | Withheld::NotStreaming
            | Withheld::NoMac => None,
        }
    }

    /// Why it gets fewer than its weight says; `None` for what only says where the weight is from.
    pub(super) fn less(&self, reason: &WeightReason) -> Option<Advice> {
        match reason {
            WeightReason::Default { .. }
            | WeightReason::Node { .. }
            | WeightReason::Reader { .. }
            | WeightReason::Set { .. }
            | WeightReason::Withheld { .. } => None,
            WeightReason::SlowStart { .. } => Some(advice(
                "it has just joined, and its weight grows to the full over slow_start",
                "nothing: wait",
            )),
            WeightReason::Lag { .. } => Some(Advice {
                found: Some(format!("lag {}", words::lag(self.server))),
                ..advice(
                    "auto_weight gives a server less the nearer it is to its lag limit",
                    format!("what makes {} lag; or take \"lag\" out of auto_weight", self.name),
                )
            }),
            WeightReason::Connections { .. } => Some(Advice {
                found: Some(format!("{} connections in use", words::connections(self.server))),
                ..advice(
                    "auto_weight gives a server less the fewer connections it has left",
                    "raise max_connections there, add readers, or take \"connections\" out of auto_weight",
                )
            }),
            WeightReason::Steady { .. } => Some(advice(
                "small changes of an automatic weight are not followed, so that connections keep their \
                 servers",
                "nothing",
            )),
            WeightReason::Tolerated { of } => Some(advice(
                format!(
                    "it serves only because no server without a fault is left; its own: {}",
                    of.phrase()
                ),
                self.withheld(*of).mend,
            )),
            WeightReason::Fallback => Some(advice(
                "it is the primary, and serves readers because no standby is left",
                "bring a standby back",
            )),
        }
    }

    /// It answers ARP for the VIP.
    pub(super) fn answers_arp(&self) -> Advice {
        advice(
            format!(
                "it answers ARP or neighbour solicitations for {}: clients that hear it go past the director, \
                 to this one server",
                self.vip.ip()
            ),
            format!("on {}: pgha realserver setup --vip {}", self.name, self.vip.ip()),
        )
    }

    /// It could not be probed for a reason that lies on the director.
    pub(super) fn vip_undecided(&self) -> Advice {
        Advice {
            found: self.through_vip.clone(),
            ..advice(
                "the probe through the VIP could not be carried out here, which says nothing of the server",
                "what was found says it; or switch probes off for the service: probe = \"off\"",
            )
        }
    }

    /// A node that is known and no member of the service.
    pub(super) fn absent(
        view: &ServiceView,
        name: Option<&NodeName>,
        address: IpAddr,
        primary: bool,
    ) -> Advice {
        if primary {
            return advice(
                "only standbys serve readers",
                format!(
                    "none; to have it serve when no standby is left: fallback_to_primary = true in service {}",
                    view.name
                ),
            );
        }
        let name = name.map_or_else(|| address.to_string(), ToString::to_string);
        advice(
            format!(
                "it is in the node table, and service {} (discovery {}) has not seen it stream from the primary",
                view.name, view.discovery
            ),
            format!(
                "on {name}: have primary_conninfo name the primary, with application_name={name} or connecting \
                 from {address}; on the primary: select application_name, client_addr, state from \
                 pg_stat_replication"
            ),
        )
    }
}
