//! PostgreSQL of this node, as the configuration has it.

use std::collections::BTreeMap;

use crate::config::{Agent, Config, Failover, Pick};
use crate::postgres::server::ServerConfig;
use crate::postgres::server::config::{Deadlines, LocalLogin, Method, OWN_FILES, Peer, Upstream};

#[cfg(test)]
mod tests;

/// Where clients on the same machine look for PostgreSQL's socket, as Debian and its like have it.
const LOCAL_SOCKETS: &str = "/var/run/postgresql";

/// By when a WAL receiver notices that the other side is no more (libpq's parameters). A node that ends behind its
/// closed gate says no word of farewell, and while a receiver logs in, PostgreSQL's own timeouts do not count.
const DEAD_PEER: [(&str, &str); 5] = [
    ("keepalives", "1"),
    ("keepalives_idle", "2"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
];

/// What PostgreSQL is started with.
pub(super) fn config(config: &Config, own: &Agent, failover: &Failover) -> ServerConfig {
    let role = failover.member(own.node()).map_or("", |member| member.replication_user());
    let mut parameters: BTreeMap<String, String> =
        DEAD_PEER.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    parameters.insert("sslmode".to_owned(), failover.sslmode().name().to_owned());
    if let Some(passfile) = own.passfile() {
        parameters.insert("passfile".to_owned(), passfile.display().to_string());
    }
    let upstream = Upstream { role: role.to_owned(), parameters };
    // Who reads files is in a database; libpq would take one of the role's name.
    let mut rewind = upstream.clone();
    rewind.parameters.insert("dbname".to_owned(), config.login().dbname().to_owned());
    let others = failover.members().iter().filter(|member| member.name() != own.node());
    let peers = others.map(|member| {
        let (host, role) = (member.address().to_string(), member.replication_user().to_owned());
        (member.name().clone(), Peer { host, port: failover.port(), role })
    });
    ServerConfig {
        cluster: config.cluster().to_string(),
        node: own.node().clone(),
        programs: own.bin().to_owned(),
        data: own.data().to_owned(),
        config_file: own.config_file().to_owned(),
        user: own.user().to_owned(),
        port: failover.port(),
        state: own.state().to_owned(),
        runtime: own.runtime().to_owned(),
        log: own.state().join("postgresql.log"),
        cgroup: own.cgroup().map(Into::into),
        local_sockets: own.local_clients().then(|| LOCAL_SOCKETS.into()).into_iter().collect(),
        login: LocalLogin {
            role: own.role().to_owned(),
            database: config.login().dbname().to_owned(),
            password: None,
        },
        peers: peers.collect(),
        replication: upstream,
        rewind,
        method: match failover.pick() {
            Pick::Any => Method::Any,
            Pick::First => Method::First,
        },
        own_files: OWN_FILES.map(str::to_owned).to_vec(),
        deadlines: Deadlines::default(),
    }
}
