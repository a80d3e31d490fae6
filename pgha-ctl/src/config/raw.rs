//! The file as serde sees it: every value optional, nothing judged. `document` has already
//! reported and removed what these types would not take.

use serde::Deserialize;

/// A value that may stand for itself or in a list of its like.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) cluster: Option<String>,
    #[serde(default)]
    pub(super) director: RawDirector,
    #[serde(default)]
    pub(super) postgres: RawPostgres,
    pub(super) primary: Option<RawPrimary>,
    #[serde(default)]
    pub(super) health: RawHealth,
    #[serde(default)]
    pub(super) api: RawApi,
    #[serde(default)]
    pub(super) store: RawStore,
    #[serde(default)]
    pub(super) lease: RawLease,
    #[serde(default)]
    pub(super) service: Vec<RawService>,
    #[serde(default)]
    pub(super) node: Vec<RawNode>,
    #[serde(default)]
    pub(super) controller: Vec<RawController>,
    #[serde(default)]
    pub(super) fence: Vec<RawFence>,
    #[serde(default)]
    pub(super) failover: RawFailover,
    pub(super) agent: Option<RawAgent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDirector {
    pub(super) interface: Option<OneOrMore>,
    pub(super) vlan: Option<String>,
    pub(super) bpffs: Option<String>,
    pub(super) control: Option<String>,
    pub(super) log_packets: Option<bool>,
    pub(super) flows: Option<i64>,
    pub(super) flows_ipv6: Option<i64>,
    pub(super) pending_flows: Option<i64>,
    #[serde(default)]
    pub(super) peer: Vec<RawPeer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeer {
    pub(super) name: Option<String>,
    pub(super) address: Option<OneOrMore>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPostgres {
    pub(super) user: Option<String>,
    pub(super) dbname: Option<String>,
    pub(super) passfile: Option<String>,
    pub(super) sslmode: Option<String>,
    pub(super) sslrootcert: Option<String>,
    pub(super) sslcert: Option<String>,
    pub(super) sslkey: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrimary {
    pub(super) hosts: Option<Vec<String>>,
    pub(super) port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHealth {
    pub(super) interval: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) rise: Option<i64>,
    pub(super) fall: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApi {
    pub(super) listen: Option<OneOrMore>,
    pub(super) tls: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    pub(super) kind: Option<String>,
    pub(super) path: Option<String>,
    pub(super) endpoints: Option<Vec<String>>,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLease {
    pub(super) profile: Option<String>,
    pub(super) duration: Option<String>,
    pub(super) renew_every: Option<String>,
    pub(super) drop_after: Option<String>,
    pub(super) watchdog: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    pub(super) name: Option<String>,
    pub(super) vip: Option<String>,
    pub(super) port: Option<i64>,
    pub(super) scheduler: Option<String>,
    pub(super) discovery: Option<String>,
    pub(super) default_weight: Option<i64>,
    pub(super) allowed_clients: Option<Vec<String>>,
    pub(super) syn_rate: Option<i64>,
    pub(super) syn_burst: Option<i64>,
    pub(super) max_lag_bytes: Option<i64>,
    pub(super) return_lag_bytes: Option<i64>,
    pub(super) max_lag: Option<String>,
    pub(super) return_lag: Option<String>,
    pub(super) auto_weight: Option<Vec<String>>,
    pub(super) slow_start: Option<String>,
    pub(super) probe: Option<String>,
    pub(super) fallback_to_primary: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) name: Option<String>,
    pub(super) address: Option<String>,
    pub(super) weight: Option<i64>,
    pub(super) agent: Option<String>,
    pub(super) replication_user: Option<String>,
    pub(super) nofailover: Option<bool>,
    pub(super) priority: Option<i64>,
}

/// What a node has that is managed.
#[derive(Debug)]
pub(super) struct RawManaged {
    pub(super) agent: Option<String>,
    pub(super) replication_user: Option<String>,
    pub(super) nofailover: Option<bool>,
    pub(super) priority: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawController {
    pub(super) name: Option<String>,
    pub(super) address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFence {
    pub(super) name: Option<String>,
    pub(super) node: Option<String>,
    pub(super) level: Option<i64>,
    pub(super) agent: Option<String>,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default)]
    pub(super) secrets: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFailover {
    pub(super) mode: Option<String>,
    pub(super) quorum: Option<i64>,
    pub(super) pick: Option<String>,
    pub(super) max_lag_bytes: Option<i64>,
    pub(super) port: Option<i64>,
    pub(super) sslmode: Option<String>,
    pub(super) writer_vip: Option<String>,
    pub(super) writer: Option<String>,
    pub(super) fence_timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) node: Option<String>,
    pub(super) data: Option<String>,
    pub(super) bin: Option<String>,
    pub(super) user: Option<String>,
    pub(super) config_file: Option<String>,
    pub(super) role: Option<String>,
    pub(super) passfile: Option<String>,
    pub(super) runtime: Option<String>,
    pub(super) state: Option<String>,
    pub(super) cgroup: Option<String>,
    pub(super) local_clients: Option<bool>,
    pub(super) guardian: Option<bool>,
    pub(super) restarts: Option<i64>,
    pub(super) hand_over: Option<bool>,
    pub(super) write_timeout: Option<String>,
}
