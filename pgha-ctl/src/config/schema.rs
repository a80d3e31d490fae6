//! The one table of keys: type, bounds, default and meaning of each. The parser takes its
//! knowledge of keys, the validation its bounds and defaults, and `docs/configuration.md` its text
//! from here.

use std::time::Duration;

use pgha_common::maps::{MAX_ALLOWED, MAX_INTERFACES, MAX_PEER_ADDRESSES, MAX_PEERS, MAX_SERVICES};
use pgha_machine::balancer::{Discovery, Probe};
use pgha_machine::failover::timing::{self, Profile};

use super::failover::{Pick, Writer};
use super::login::SslMode;
use super::model::Vlan;

/// What a key holds, with its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Name,
    Path,
    Address,
    /// An address or a list of them.
    Addresses,
    /// The name of a network interface or a list of them.
    Interfaces,
    /// Hosts: IP addresses or names of `[[node]]` entries, each with or without a port.
    Hosts,
    /// Networks: addresses with a prefix length.
    Networks,
    /// An address with a port, or a list of them.
    Listeners,
    /// URLs of members of etcd.
    Endpoints,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// Bounds in milliseconds.
    Duration {
        min: u64,
        max: u64,
    },
    /// A list of `name=value`.
    Options,
    /// Host and port of a process of pgha.
    Process,
    Choice(&'static [&'static str]),
    /// A list of some of them.
    Choices(&'static [&'static str]),
}

/// What an absent key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    Refused,
    Nothing,
    Text(&'static str),
    Integer(i64),
    Boolean(bool),
    /// Follows from another key; the text tells how.
    Derived(&'static str),
}

/// One key. `[]` in its path stands for each entry of a list of tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) absent: Absent,
    pub(super) example: &'static str,
    pub(super) doc: &'static str,
}

const PORT: Kind = Kind::Integer { min: 1, max: 65_535 };
const WEIGHT: Kind = Kind::Integer { min: 0, max: 1_000 };
const TABLE_SIZE: Kind = Kind::Integer { min: 1_024, max: 16_777_216 };
/// A pebibyte: more than any backlog of WAL.
const LAG_BYTES: i64 = 1 << 50;
const HOUR: u64 = 3_600_000;
const SYNS: i64 = 1_000_000;
const RISE: Kind = Kind::Integer { min: 1, max: 10 };
/// Not 1: whether others answer, which tells a server's silence from this node's own, is known only
/// after the first silence.
const FALL: Kind = Kind::Integer { min: 2, max: 10 };

/// Names a scheduler may have in the file.
pub(super) const SCHEDULERS: &[&str] = &["maglev", "rr", "source", "least"];
/// Names of what is done with tagged frames.
pub(super) const VLANS: &[&str] = &[Vlan::Pass.name(), Vlan::Forward.name()];
/// Names of what protects a session with PostgreSQL.
pub(super) const SSLMODES: &[&str] = &[
    SslMode::Disable.name(),
    SslMode::Prefer.name(),
    SslMode::Require.name(),
    SslMode::VerifyCa.name(),
    SslMode::VerifyFull.name(),
];
/// Names a way of discovery may have in the file.
pub(super) const DISCOVERIES: &[&str] = &[
    Discovery::Walsenders.name(),
    Discovery::Direct.name(),
    Discovery::Both.name(),
    Discovery::Agents.name(),
];

/// Names a kind of store may have in the file.
pub(super) const STORES: &[&str] = &["local", "etcd"];
/// Names of lease timings.
pub(super) const PROFILES: &[&str] =
    &[Profile::Fast.name(), Profile::Default.name(), Profile::Safe.name()];
/// Names of the ways to probe a VIP.
pub(super) const PROBES: &[&str] = &[Probe::Off.name(), Probe::Syn.name(), Probe::Startup.name()];
/// Names of what a commit waits for.
pub(super) const MODES: &[&str] = &["async", "sync", "strict"];
/// Names of how voters are chosen.
pub(super) const PICKS: &[&str] = &[Pick::Any.name(), Pick::First.name()];
/// Names of who has the writer VIP.
pub(super) const WRITERS: &[&str] = &[Writer::Agent.name(), Writer::Balancer.name()];
/// Names of what may move weights by itself.
pub(super) const AUTO_WEIGHTS: &[&str] = &["lag", "connections"];

const fn millis(time: Duration) -> u64 {
    time.as_secs() * 1_000 + time.subsec_millis() as u64
}

/// How many entries a list may have, where that is limited.
pub(super) fn most(list: &str) -> Option<usize> {
    let most = match list {
        "service" => MAX_SERVICES,
        "service[].allowed_clients" => MAX_ALLOWED,
        "director.interface" => MAX_INTERFACES,
        "director.peer" => MAX_PEERS,
        "director.peer[].address" => MAX_PEER_ADDRESSES,
        _ => return None,
    };
    usize::try_from(most).ok()
}

const fn key(
    path: &'static str,
    kind: Kind,
    absent: Absent,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { path, kind, absent, example, doc }
}

/// Every key there is.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("cluster", Kind::Name, Absent::Refused, "\"main\"",
        "Name of the PostgreSQL cluster. It names the directory of pinned maps and the control socket, so that one node can balance several clusters. Without `.`, which a BPF file system takes in no name."),

    key("director.interface", Kind::Interfaces, Absent::Refused, "\"eth0\"",
        "Interface that receives the clients' traffic, or several; at most 15 characters each. Each VIP lies in a subnet of one of them."),
    key("director.vlan", Kind::Choice(VLANS), Absent::Text("pass"), "\"forward\"",
        "What happens to a frame to a VIP that has one 802.1Q tag. `pass`: it is left to the kernel. `forward`: it is balanced as any other and keeps its tag. For that the interfaces must leave tags on received frames: `ethtool -K eth0 rxvlan off`."),
    key("director.bpffs", Kind::Path, Absent::Text("/sys/fs/bpf"), "\"/sys/fs/bpf\"",
        "Mount point of the BPF file system; maps, program and link are pinned in `pgha/<cluster>/` below it."),
    key("director.control", Kind::Path, Absent::Derived("\"/run/pgha/<cluster>.sock\""), "\"/run/pgha/main.sock\"",
        "Unix socket of the controller, at most 107 bytes long."),
    key("director.log_packets", Kind::Boolean, Absent::Boolean(false), "true",
        "Log the verdict of each packet. For a test set-up; it costs throughput."),
    key("director.flows", TABLE_SIZE, Absent::Integer(1_048_576), "1048576",
        "Established connections remembered at once; beyond that the least recently used is forgotten. Memory is taken at the start."),
    key("director.flows_ipv6", TABLE_SIZE, Absent::Derived("`flows` where a VIP is IPv6, else 1024"), "1048576",
        "The same for connections over IPv6, which have a table of their own."),
    key("director.pending_flows", TABLE_SIZE, Absent::Integer(65_536), "65536",
        "Connections being opened that are remembered at once. A flood of SYNs stays within this table. Where a VIP is IPv6, there is another of this size for IPv6."),
    key("director.peer[].name", Kind::Name, Absent::Refused, "\"lb2\"",
        "Name of the other director."),
    key("director.peer[].address", Kind::Addresses, Absent::Refused, "\"10.0.0.22\"",
        "Its own address, or all it has of both families, none a VIP. By these its MAC addresses are found."),

    key("postgres.user", Kind::Text, Absent::Text("pgha"), "\"pgha\"",
        "Role to log in as; member of `pg_monitor`. At most 63 bytes."),
    key("postgres.dbname", Kind::Text, Absent::Text("postgres"), "\"postgres\"",
        "Database to connect to. At most 63 bytes."),
    key("postgres.passfile", Kind::Path, Absent::Nothing, "\"/etc/pgha/pgpass\"",
        "Password file in libpq's format (`host:port:database:user:password`), readable by its owner only; each `:` of an IPv6 address is written `\\:` there. The environment variable `PGPASSWORD` comes before it, as in libpq. Without this key the environment variable `PGPASSFILE` names the file."),
    key("postgres.sslmode", Kind::Choice(SSLMODES), Absent::Text("prefer"), "\"verify-full\"",
        "TLS with PostgreSQL, as libpq has it. `disable`: none. `prefer`: where the server takes it, without looking at its certificate; a server that TLS fails with is asked without. `require`: always; the certificate is verified as by `verify-ca` where `sslrootcert` is given. `verify-ca`: and the certificate is signed by an authority in `sslrootcert`; it must be of X.509 version 3, while `openssl x509 -req` without extensions issues version 1. `verify-full`: and it names, as a subject alternative name, the address that is connected to or the `[[node]]` at that address. Where certificates are verified, whoever stands in between without such a one gets no password. Elsewhere, from `require` on, a SCRAM password is bound to the certificate, so that its proof is of no use at a server that takes the login over TLS only (`hostssl`); but who asks for the password in clear or by MD5 is given it. A server cannot bind a password to a certificate signed by Ed25519: such a one has to be verified."),
    key("postgres.sslrootcert", Kind::Path, Absent::Nothing, "\"/etc/pgha/pg-root.crt\"",
        "Certificates, in PEM, of the authorities whose servers are trusted; required by `verify-ca` and `verify-full`. No file is looked for elsewhere, in contrast to libpq."),
    key("postgres.sslcert", Kind::Path, Absent::Nothing, "\"/etc/pgha/pg-client.crt\"",
        "Client certificate, in PEM, with those between it and its authority after it, where servers ask for one."),
    key("postgres.sslkey", Kind::Path, Absent::Nothing, "\"/etc/pgha/pg-client.key\"",
        "Its private key, in PEM, unencrypted, readable by its owner only."),

    key("primary.hosts", Kind::Hosts, Absent::Refused, "[\"10.0.0.11\", \"10.0.0.12\"]",
        "Where the primary may be: IP addresses or names of `[[node]]` entries, each with its own port where that differs, such as `10.0.0.11:5433` or `[fd00::11]:5433`. All are asked side by side; the primary is the one that is not in recovery on the newest timeline."),
    key("primary.port", PORT, Absent::Integer(5_432), "5432",
        "Port of PostgreSQL on those hosts that are listed without one."),

    key("health.interval", Kind::Duration { min: 100, max: 60_000 }, Absent::Text("1s"), "\"1s\"",
        "Time between two checks of one server."),
    key("health.timeout", Kind::Duration { min: 50, max: 60_000 }, Absent::Text("1s"), "\"1s\"",
        "A check without an answer for this long has failed."),
    key("health.rise", RISE, Absent::Integer(2), "2",
        "Consecutive successes after which a dead server counts as alive."),
    key("health.fall", FALL, Absent::Integer(3), "3",
        "Consecutive failures after which a server counts as dead. A refused connection counts at once."),

    key("api.listen", Kind::Listeners, Absent::Nothing, "\"10.0.0.21:7432\"",
        "Address and port, or several, where the API listens over TLS, for `pgha --to`, other processes of the cluster and whoever shows a certificate of it; `[::]:7432` for every address. Without it there is the control socket alone."),
    key("api.tls", Kind::Path, Absent::Text("/etc/pgha/tls"), "\"/etc/pgha/tls\"",
        "Directory of `ca.crt`, `node.crt` and `node.key`, as `pgha tls issue` makes them; needed with `listen`. Changed files are taken up without a restart."),

    key("store.kind", Kind::Choice(STORES), Absent::Text("local"), "\"local\"",
        "Where orders of operators are kept: weights, drains, added readers. `local`: a file of this controller. `etcd`: an etcd, 3.4 or later, by its JSON gateway; all directors share it."),
    key("store.path", Kind::Path, Absent::Derived("`/var/lib/pgha/<cluster>.store`, with `etcd` `/var/lib/pgha/<cluster>.seen`"), "\"/var/lib/pgha/main.store\"",
        "The file. It is made where it is missing. `local`: it is the store, and belongs into the backup of the node. `etcd`: it remembers how far the store had come, so that one that went back (a restored backup) is told from the one of before."),
    key("store.endpoints", Kind::Endpoints, Absent::Derived("required with `etcd`"), "[\"https://10.0.0.31:2379\", \"https://10.0.0.32:2379\", \"https://10.0.0.33:2379\"]",
        "The members of etcd, as clients reach them. Whoever does not answer is left for the next one. With `http` nothing is encrypted, and nobody proves who he is."),
    key("store.ca", Kind::Path, Absent::Nothing, "\"/etc/pgha/tls/ca.crt\"",
        "Certificates, in PEM, of the authorities whose members are trusted; needed with `https`."),
    key("store.cert", Kind::Path, Absent::Nothing, "\"/etc/pgha/tls/node.crt\"",
        "Client certificate, in PEM, for members with `--client-cert-auth`. It is good for the connection alone: where users log in (`user`), etcd's gateway takes no certificate with a common name, so use one or the other."),
    key("store.key", Kind::Path, Absent::Nothing, "\"/etc/pgha/tls/node.key\"",
        "Its private key, in PEM, unencrypted, readable by its owner only."),
    key("store.user", Kind::Name, Absent::Nothing, "\"pgha\"",
        "User of an etcd with authentication; may read and write below `/pgha/<cluster>/`."),
    key("store.password_file", Kind::Path, Absent::Nothing, "\"/etc/pgha/etcd-password\"",
        "File with its password in one line, readable by its owner only."),
    key("store.timeout", Kind::Duration { min: 50, max: 30_000 }, Absent::Derived("a quarter of `lease.duration`"), "\"500ms\"",
        "How long a member may take for one answer; then the next one is asked. At most what lies between `lease.renew_every` and `lease.drop_after`, so that a lost renewal leaves time for another."),

    key("lease.profile", Kind::Choice(PROFILES), Absent::Text("default"), "\"fast\"",
        "Timings that go well together. `fast`: 1 s, for a network and disks that keep nobody waiting 100 ms. `default`: 2 s. `safe`: 5 s, with a watchdog of the kernel."),
    key("lease.duration", Kind::Duration { min: millis(timing::SHORTEST), max: millis(timing::LONGEST) }, Absent::Derived("by the profile"), "\"2s\"",
        "T: how long a primary may acknowledge writes by one renewal. Others take it for ended T x 1.01 + 50 ms after the last renewal that they saw."),
    key("lease.renew_every", Kind::Duration { min: millis(timing::OFTENEST), max: millis(timing::LONGEST) }, Absent::Derived("T / 4"), "\"500ms\"",
        "How often it is renewed; at most half of `drop_after`, so that one lost renewal stops nobody."),
    key("lease.drop_after", Kind::Duration { min: 100, max: millis(timing::LONGEST) }, Absent::Derived("0.6 T"), "\"1200ms\"",
        "When a primary whose renewals are not confirmed drops the writer VIP and stops PostgreSQL; at most 0.8 T, and 150 ms before T."),
    key("lease.watchdog", Kind::Boolean, Absent::Derived("`true` with profile `safe`"), "true",
        "Whether a watchdog of the kernel resets a node on which nobody is left to stop PostgreSQL. It counts whole seconds, one of which must lie between `drop_after` and T."),

    key("service[].name", Kind::Name, Absent::Refused, "\"reader\"",
        "Name of the service, in output and metrics."),
    key("service[].vip", Kind::Address, Absent::Refused, "\"10.0.0.100\"",
        "Virtual address that clients connect to, IPv4 or IPv6; the real servers may be reached by addresses of either. Each real server has it on `lo`. VIP and port together belong to one service."),
    key("service[].port", PORT, Absent::Integer(5_432), "5432",
        "Port that clients connect to; the real servers listen on the same one."),
    key("service[].scheduler", Kind::Choice(SCHEDULERS), Absent::Text("maglev"), "\"maglev\"",
        "`maglev`: weighted consistent hash of the connection. `rr`: weighted round robin. `source`: weighted consistent hash of the client's address alone, so that a client always gets the same server. `least`: of two servers drawn by weight, the one with fewer open connections."),
    key("service[].discovery", Kind::Choice(DISCOVERIES), Absent::Text("walsenders"), "\"both\"",
        "Where the real servers come from. `walsenders`: the standbys streaming from the primary. `direct`: the `[[node]]` entries, each asked itself. `both`: the standbys and the nodes together, each asked itself; by the last word of the primary, only those that stream get new connections. `agents`: the nodes that agents manage, each asked itself, as with `both`; the record of the cluster says who is about to be the primary, so that no reader meets it, and who streams counts only while the primary's lease is renewed and nothing is suspected. It needs no `[primary]`."),
    key("service[].default_weight", WEIGHT, Absent::Integer(1), "1",
        "Weight of a real server that has none of its own. 0 makes the `[[node]]` entries with a weight a whitelist."),
    key("service[].allowed_clients", Kind::Networks, Absent::Nothing, "[\"10.0.0.0/8\"]",
        "Networks that clients may connect from, of the VIP's address family. Without it they may connect from everywhere."),
    key("service[].syn_rate", Kind::Integer { min: 0, max: SYNS }, Absent::Integer(0), "100",
        "New connections a second that one client address (in IPv6: one /64) may open; what exceeds that is dropped. 0 sets no limit."),
    key("service[].syn_burst", Kind::Integer { min: 1, max: SYNS }, Absent::Derived("`syn_rate`"), "200",
        "New connections that it may open at once, after a pause."),
    key("service[].max_lag_bytes", Kind::Integer { min: 1, max: LAG_BYTES }, Absent::Nothing, "16777216",
        "A standby that has this much of the primary's WAL not replayed drains: sessions stay, new connections go to others, unless all lag. Measured once per `health.interval`, so what the primary writes in that time is the least that can be told."),
    key("service[].return_lag_bytes", Kind::Integer { min: 0, max: LAG_BYTES }, Absent::Derived("half of `max_lag_bytes`"), "8388608",
        "It gets new connections again once it is this close."),
    key("service[].max_lag", Kind::Duration { min: 100, max: 24 * HOUR }, Absent::Nothing, "\"10s\"",
        "The same in time: a standby drains that has not replayed what the primary had written so long ago. A primary that writes nothing makes nobody lag."),
    key("service[].return_lag", Kind::Duration { min: 0, max: 24 * HOUR }, Absent::Derived("half of `max_lag`"), "\"5s\"",
        "It gets new connections again once it lags no longer than this."),
    key("service[].auto_weight", Kind::Choices(AUTO_WEIGHTS), Absent::Nothing, "[\"lag\", \"connections\"]",
        "What lowers weights by itself, down to a tenth, in steps of a tenth. `lag`: in proportion to the lag limits, of which one must be given. `connections`: in proportion to the part of `max_connections` in use."),
    key("service[].slow_start", Kind::Duration { min: 0, max: HOUR }, Absent::Text("0s"), "\"30s\"",
        "A server that joins others, or comes back, begins with a tenth of its weight and has all of it after this time. `0s`: at once."),
    key("service[].probe", Kind::Choice(PROBES), Absent::Text("syn"), "\"startup\"",
        "How it is proven, before the first client and regularly, that a connection to the VIP reaches PostgreSQL on that one server. `syn`: by the answer to a SYN. `startup`: by PostgreSQL's answer on such a connection. `off`: not at all."),
    key("service[].fallback_to_primary", Kind::Boolean, Absent::Boolean(false), "true",
        "The primary gets the connections when no standby is left. It needs the VIP on `lo` as they do."),

    key("node[].name", Kind::Name, Absent::Refused, "\"db2\"",
        "Name of the node, as in its `application_name`."),
    key("node[].address", Kind::Address, Absent::Refused, "\"10.0.0.12\"",
        "Address of its PostgreSQL, not a VIP."),
    key("node[].weight", WEIGHT, Absent::Derived("the service's `default_weight`"), "1",
        "Share of new connections relative to the others. 0 drains: sessions stay, new ones go elsewhere."),
    key("node[].agent", Kind::Process, Absent::Nothing, "\"10.0.0.12:7432\"",
        "Host and port of its agent (`pgha agent`), which makes it a managed node: one that may be the primary, and whose acknowledgement commits may wait for."),
    key("node[].replication_user", Kind::Text, Absent::Derived("the node's name"), "\"db2\"",
        "Role that it streams as, and no other node: what a standby is taken for must not be what anybody claims to be. At most 63 bytes."),
    key("node[].nofailover", Kind::Boolean, Absent::Boolean(false), "true",
        "It never becomes the primary. Taken over when the node joins the cluster."),
    key("node[].priority", Kind::Integer { min: -1_000, max: 1_000 }, Absent::Integer(0), "10",
        "Of several candidates that have equally much, the one with the greatest becomes the primary. Taken over when the node joins the cluster."),

    key("controller[].name", Kind::Name, Absent::Refused, "\"lb1\"",
        "Name of the controller, as in its certificate. One that runs beside an agent has a name and a certificate of its own."),
    key("controller[].address", Kind::Process, Absent::Refused, "\"10.0.0.21:7432\"",
        "Host and port where its API listens."),

    key("fence[].name", Kind::Name, Absent::Refused, "\"ipmi-db1\"",
        "Name of a fence device: of what turns a node off from outside."),
    key("fence[].node", Kind::Name, Absent::Refused, "\"db1\"",
        "The managed node that it turns off."),
    key("fence[].level", Kind::Integer { min: 1, max: 9 }, Absent::Integer(1), "2",
        "Devices of one level turn the node off only together, as those of two power supplies do. The lowest level is tried first; the next where one of its devices fails."),
    key("fence[].agent", Kind::Path, Absent::Refused, "\"/usr/sbin/fence_ipmilan\"",
        "The executable that asks the device, by ClusterLabs' interface for fence agents. The controllers run it."),
    key("fence[].options", Kind::Options, Absent::Nothing, "[\"ip=10.0.9.1\", \"username=pgha\", \"lanplus=1\"]",
        "What it is told on stdin, beside `action` and `nodename`."),
    key("fence[].secrets", Kind::Options, Absent::Nothing, "[\"password=/etc/pgha/ipmi-db1.password\"]",
        "Options whose values stand in files that their owner alone may read."),

    key("failover.mode", Kind::Choice(MODES), Absent::Text("sync"), "\"strict\"",
        "What a commit waits for. `async`: for nobody. `sync`: for `quorum` standbys, or for as many as stream; what was acknowledged with fewer is recorded as such. `strict`: for `quorum` standbys, always. Taken over when the cluster is founded."),
    key("failover.quorum", Kind::Integer { min: 1, max: 16 }, Absent::Integer(1), "1",
        "How many standbys a commit waits for, with `sync` and `strict`."),
    key("failover.pick", Kind::Choice(PICKS), Absent::Text("any"), "\"first\"",
        "Which of the standbys. `any`: whichever flush first. `first`: the first ones in the order of their names."),
    key("failover.max_lag_bytes", Kind::Integer { min: 0, max: LAG_BYTES }, Absent::Integer(1_048_576), "1048576",
        "How much of what the primary had written a standby may lack that becomes the primary, where nobody waited for it: with `async`, and with `sync` while too few stream."),
    key("failover.port", PORT, Absent::Integer(5_432), "5432",
        "Port of PostgreSQL on every managed node."),
    key("failover.sslmode", Kind::Choice(SSLMODES), Absent::Text("prefer"), "\"verify-full\"",
        "`sslmode` of the connections by which managed nodes stream from each other, as libpq has it."),
    key("failover.writer_vip", Kind::Address, Absent::Nothing, "\"10.0.0.99\"",
        "Address of the primary: see `writer`."),
    key("failover.writer", Kind::Choice(WRITERS), Absent::Text("agent"), "\"balancer\"",
        "Who has `writer_vip`. `agent`: the primary's agent puts it on the interface in whose subnet it lies. `balancer`: it is a service of the directors, whose one server is the primary; every managed node has it on `lo`, and nobody but the active director answers for it. Then a primary that nobody hears is followed as soon as its voters have stopped, without waiting for the end of its lease."),

    key("failover.fence_timeout", Kind::Duration { min: 1_000, max: HOUR }, Absent::Text("30s"), "\"60s\"",
        "How long a fence device may take for one answer. One that is late proves nothing."),

    key("agent.node", Kind::Name, Absent::Refused, "\"db1\"",
        "Name of this node: that of a `[[node]]` with an `agent`, and of the certificate in `api.tls`."),
    key("agent.data", Kind::Path, Absent::Refused, "\"/var/lib/postgresql/15/main\"",
        "PostgreSQL's data directory."),
    key("agent.bin", Kind::Path, Absent::Refused, "\"/usr/lib/postgresql/15/bin\"",
        "Where PostgreSQL's programs are: `postgres`, `pg_rewind`, `pg_basebackup`, `pg_controldata`."),
    key("agent.config_file", Kind::Path, Absent::Derived("`postgresql.conf` in `data`"), "\"/etc/postgresql/15/main/postgresql.conf\"",
        "The operator's `postgresql.conf`, which pgha includes and never writes. What pgha sets itself comes after it."),
    key("agent.user", Kind::Text, Absent::Text("postgres"), "\"postgres\"",
        "User of the operating system that PostgreSQL runs as, and who owns its data directory."),
    key("agent.role", Kind::Text, Absent::Text("root"), "\"root\"",
        "Role with `pg_monitor` that the agent logs in as over PostgreSQL's Unix socket, where it is known by its user of the operating system (`peer`): for an agent that runs as root `CREATE ROLE root LOGIN IN ROLE pg_monitor`."),
    key("agent.passfile", Kind::Path, Absent::Nothing, "\"/var/lib/postgresql/.pgpass\"",
        "Password file in libpq's format that PostgreSQL and its programs read for streaming; its owner is `user`."),
    key("agent.runtime", Kind::Path, Absent::Derived("`/run/pgha/<cluster>.agent`"), "\"/run/pgha/main.agent\"",
        "Directory of sockets. PostgreSQL's own is in it, where only the agent comes, unless `local_clients`."),
    key("agent.state", Kind::Path, Absent::Derived("`/var/lib/pgha/<cluster>.agent`"), "\"/var/lib/pgha/main.agent\"",
        "Directory of what this node must know again after a crash. Whoever removes it forgets what the node has promised."),
    key("agent.cgroup", Kind::Path, Absent::Derived("below the agent's own"), "\"/sys/fs/cgroup/pgha\"",
        "Directory of a cgroup (version 2) below which each start of PostgreSQL gets one."),
    key("agent.local_clients", Kind::Boolean, Absent::Boolean(false), "true",
        "Whether others than the agent may use PostgreSQL's Unix socket. They are outside of the lease gate, which guards TCP."),
    key("agent.guardian", Kind::Boolean, Absent::Boolean(true), "true",
        "Whether the agent refuses to run without a guardian: a process that ends PostgreSQL in time when the agent cannot."),
    key("agent.restarts", Kind::Integer { min: 0, max: 100 }, Absent::Integer(2), "2",
        "How often PostgreSQL is restarted in place after a crash, as the primary that it was, before another node takes over in any case. Whether it is at all, `hand_over` says."),
    key("agent.hand_over", Kind::Boolean, Absent::Boolean(true), "false",
        "Whether another node takes over at once after a crash of PostgreSQL, where that costs no safety: commits wait for voters, and one more voter than they wait for is heard. A standby is promoted in a moment, while nobody knows how long recovery takes. Otherwise, and with `false`, PostgreSQL is restarted in place, as often as `restarts` says."),
    key("agent.write_timeout", Kind::Duration { min: 1_000, max: 300_000 }, Absent::Text("10s"), "\"5s\"",
        "How long a small write and its fsync to the data directory, tried each second, may take before the node says that it cannot be the primary, and another takes over. Longer than a busy disk's checkpoints make a commit wait, or they cost a failover. A write that fails, as on a full disk, says so at once."),
];

/// The entry of a key, given as in the file (`service[0].vip`) or in the table (`service[].vip`).
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let pattern = pattern(path);
    KEYS.iter().find(|key| key.path == pattern)
}

/// `service[0].vip` as the table has it: `service[].vip`.
pub(super) fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = match c {
            '[' => true,
            ']' => false,
            _ if inside => continue,
            _ => false,
        };
        pattern.push(c);
    }
    pattern
}

/// The names that may stand directly in the table `section`, subordinate tables included.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = KEYS
        .iter()
        .filter_map(|key| relative(key.path, section))
        .map(|rest| rest.split(['.', '[']).next().unwrap_or(rest))
        .collect();
    names.dedup();
    names
}

/// The part of `path` below `section`, if it lies there.
fn relative(path: &'static str, section: &str) -> Option<&'static str> {
    if section.is_empty() { Some(path) } else { path.strip_prefix(section)?.strip_prefix('.') }
}

/// A path as [`join`] takes it apart: the table a key stands in, and the name of the key there.
pub(super) fn split(path: &'static str) -> (&'static str, &'static str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// `name` in the table `section`.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

impl Kind {
    /// The type as TOML has it, with its article.
    pub(super) const fn toml_type(self) -> &'static str {
        match self {
            Self::Text
            | Self::Name
            | Self::Path
            | Self::Address
            | Self::Process
            | Self::Choice(_) => "a string",
            Self::Duration { .. } => "a string with a unit (such as \"1s\" or \"250ms\")",
            Self::Interfaces | Self::Addresses | Self::Listeners => "a string or a list of strings",
            Self::Hosts | Self::Networks | Self::Endpoints | Self::Options | Self::Choices(_) => {
                "a list of strings"
            }
            Self::Boolean => "true or false",
            Self::Integer { .. } => "a whole number",
        }
    }
}
