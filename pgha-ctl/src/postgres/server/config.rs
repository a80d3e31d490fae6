//! What the agent must know of the PostgreSQL that it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgha_machine::NodeName;

use crate::config::passfile::Password;

/// PostgreSQL on this node, and the others of its cluster.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The name of the cluster, which its cgroups carry.
    pub cluster: String,
    /// This node: `cluster_name` here, `application_name` elsewhere.
    pub node: NodeName,
    /// The directory of PostgreSQL's programs.
    pub programs: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// The operator's `postgresql.conf`, which pgha reads and never writes.
    pub config_file: PathBuf,
    /// The user of the operating system that PostgreSQL runs as.
    pub user: String,
    /// The port it listens on, `port` of PostgreSQL.
    pub port: u16,
    /// Where the agent keeps what outlives a restart of the machine.
    pub state: PathBuf,
    /// Where the agent keeps what does not. PostgreSQL's user must be able to enter it.
    pub runtime: PathBuf,
    /// The file that PostgreSQL's standard error is appended to.
    pub log: PathBuf,
    /// The cgroup below which PostgreSQL's are made; the agent's own where there is none.
    pub cgroup: Option<PathBuf>,
    /// Further directories for PostgreSQL's Unix socket (`local_clients`). Where there are none, only the
    /// agent's is there, which nobody but PostgreSQL's user and root can enter.
    pub local_sockets: Vec<PathBuf>,
    /// Who the agent is to its own server: a role with `pg_monitor`.
    pub login: LocalLogin,
    /// The other nodes, by whose names it follows them.
    pub peers: BTreeMap<NodeName, Peer>,
    /// How this node streams from others.
    pub replication: Upstream,
    /// How this node reads the files of another (`pg_rewind`).
    pub rewind: Upstream,
    /// Whether `synchronous_standby_names` is written as `FIRST` or as `ANY`.
    pub method: Method,
    /// Files of the data directory that belong to this node and outlive rewind and rebuild: names, or `*` and
    /// the end of names. A directory is kept with all that is in it.
    pub own_files: Vec<String>,
    /// How long what may take.
    pub deadlines: Deadlines,
}

/// Files of a data directory that are a node's own unless configured otherwise.
pub const OWN_FILES: [&str; 6] =
    ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "conf.d", "*.crt", "*.key"];

/// A login at the node's own server, by its Unix socket.
#[derive(Clone, Debug)]
pub struct LocalLogin {
    /// The role.
    pub role: String,
    /// The database.
    pub database: String,
    /// Its password; `None`: it is believed because of its user of the operating system (`peer`).
    pub password: Option<Password>,
}

/// Where another node's PostgreSQL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, or its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The role by which it streams from here. A walsender of another role is none of its.
    pub role: String,
}

/// What a connection string to another node holds besides where it is.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// The role there.
    pub role: String,
    /// Further parameters of libpq, such as `passfile`, `sslmode`, `sslrootcert`, `sslcert`, `sslkey`. No
    /// password: others would see it.
    pub parameters: BTreeMap<String, String>,
}

/// How a quorum is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `FIRST k (...)`.
    First,
    /// `ANY k (...)`.
    Any,
}

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Until a start accepts the agent's session: recovery is in it.
    pub start: Duration,
    /// A fast shutdown, before an immediate one is asked for.
    pub fast: Duration,
    /// An immediate shutdown, before all is killed.
    pub immediate: Duration,
    /// Until a killed cgroup is empty.
    pub kill: Duration,
    /// A reload, the end of a receiver, the beginning of one, a question.
    pub answer: Duration,
    /// Until the end of a log that nobody received is replayed, where that is asked for.
    pub log_end: Duration,
    /// A job with files.
    pub disk: Duration,
    /// A promotion.
    pub promote: Duration,
    /// Until a walsender has shown by its replies that it uses the new voters, before it is ended.
    pub reply: Duration,
    /// Catching up with another node.
    pub catch_up: Duration,
    /// A rewind, and a new copy.
    pub copy: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(3600),
            fast: Duration::from_secs(30),
            immediate: Duration::from_secs(5),
            kill: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            log_end: Duration::from_secs(1),
            disk: Duration::from_secs(30),
            promote: Duration::from_secs(30),
            reply: Duration::from_millis(500),
            catch_up: Duration::from_secs(30),
            copy: Duration::from_secs(24 * 3600),
        }
    }
}

impl ServerConfig {
    /// A file of the data directory.
    pub(super) fn in_data(&self, name: impl AsRef<Path>) -> PathBuf {
        self.data.join(name)
    }

    /// The directory of the write-ahead log.
    pub(super) fn wal(&self) -> PathBuf {
        self.in_data("pg_wal")
    }

    /// The directory of the socket that is the agent's.
    pub(super) fn socket(&self) -> PathBuf {
        self.runtime.join("socket")
    }

    /// What libpq calls a service file: see [`super::valve`].
    pub(super) fn valve(&self) -> PathBuf {
        self.socket().join("upstream.service")
    }

    /// The part of `state` that is PostgreSQL's user's: what concerns its files and must outlive them.
    pub(super) fn files(&self) -> PathBuf {
        self.state.join("postgres")
    }

    /// PostgreSQL's whole configuration as pgha has it.
    pub(super) fn own_config(&self) -> PathBuf {
        self.in_data("pgha.conf")
    }
}
