use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pgha_machine::balancer::Discovery;
use pgha_machine::failover::timing::Unsafe;
use pgha_machine::{NodeName, ParseNodeNameError};

use super::address::ParseAddressError;
use super::etcd::{Endpoint, ParseEndpointError, StorePlace};
use super::model::Api;
use super::passfile::PassfileError;
use super::private_file::PrivateFileError;

/// A key of the file, such as `service[0].vip`, and its line (counted from 1) when it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub(super) key: String,
    pub(super) line: Option<usize>,
}

impl At {
    /// The key's path.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its line, from 1; `None` for a key that the file lacks.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// One thing wrong with a configuration file: the key, its value, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum ConfigError {
    #[error("cannot be read: {source}; create it, or name another file with --config")]
    Read { source: io::Error },
    #[error("line {line}, column {column}: not TOML: {message}")]
    Syntax { line: usize, column: usize, message: String },
    #[error("{at}: no such key; {}", meant(.suggestion.as_deref(), "remove it"))]
    UnknownKey { at: At, suggestion: Option<String> },
    #[error("{at} is {found}; it must be {expected}")]
    WrongType { at: At, found: String, expected: &'static str },
    #[error("{at} is missing; add it, such as `{example}` ({doc})")]
    Missing { at: At, example: String, doc: &'static str },
    #[error("{at}: {source}")]
    Name { at: At, source: ParseNodeNameError },
    #[error(
        "{at} = {value:?} cannot name a network interface; give 1 to 15 bytes without '/', ':' and spaces, as `ip link` shows it"
    )]
    Interface { at: At, value: String },
    #[error("{at} = {value:?} is not an absolute path; begin it with '/'")]
    NotAbsolute { at: At, value: String },
    #[error("{at} = {value:?} has {} bytes; a Unix socket's path may have 107: choose a shorter one", .value.len())]
    SocketPath { at: At, value: String },
    #[error("{at} = {value} is out of bounds; give a whole number from {min} to {max}")]
    OutOfBounds { at: At, value: i64, min: i64, max: i64 },
    #[error(
        "{at} = {value:?} is not a duration ({source}); write a number and a unit, such as \"1s\" or \"250ms\""
    )]
    Duration { at: At, value: String, source: humantime::DurationError },
    #[error("{at} = {value:?} is out of bounds; give {} to {}", humantime::format_duration(*.min), humantime::format_duration(*.max))]
    DurationOutOfBounds { at: At, value: String, min: Duration, max: Duration },
    #[error(
        "{at} = {value:?} is not an IP address; write one such as \"10.0.0.100\" or \"fd00::100\""
    )]
    Address { at: At, value: String },
    #[error("{at} = \"{value}\" is an IPv4 address written as IPv6; write \"{address}\"")]
    Mapped { at: At, value: IpAddr, address: Ipv4Addr },
    #[error(
        "{at} = \"{address}\" is not the address of one host on a network; give a unicast address that is not unspecified, loopback or link-local (IPv4: outside 0.0.0.0/8, 127.0.0.0/8 and 224.0.0.0/3)"
    )]
    NotUnicast { at: At, address: IpAddr },
    #[error(
        "{at} = {value:?} is no address with a port; write one such as \"10.0.0.21:7432\" or \"[fd00::21]:7432\""
    )]
    Listener { at: At, value: String },
    #[error(
        "{at} = {value:?} is not a network; write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\""
    )]
    Network { at: At, value: String },
    #[error("{at} = \"{value}\" has bits beyond its prefix length; did you mean \"{network}\"?")]
    HostBits { at: At, value: IpNet, network: IpNet },
    #[error(
        "{at} = \"{network}\" is of another address family than the VIP {vip}, so no client could come from it; give networks of the VIP's family"
    )]
    OtherFamily { at: At, network: IpNet, vip: IpAddr },
    #[error(
        "{at} is an empty list, which would let nobody connect; list networks, or remove the key to let everybody"
    )]
    NoNetworks { at: At },
    #[error("{at} has no meaning without a limit; give syn_rate too, or remove it")]
    BurstWithoutRate { at: At },
    #[error("{at} has no meaning without {limit}; give that too, or remove it")]
    ReturnWithoutLimit { at: At, limit: &'static str },
    #[error(
        "{at} is beyond {limit}, so a server would return before it left; give at most {limit}"
    )]
    ReturnBeyondLimit { at: At, limit: &'static str },
    #[error(
        "{at} names \"lag\", which is in proportion to a limit; give max_lag or max_lag_bytes too"
    )]
    AutoWeightWithoutLimit { at: At },
    #[error("{at} = {value:?} is neither an IP address nor the name of a [[node]]; {}", meant(.suggestion.as_deref(), "give the address"))]
    UnknownHost { at: At, value: String, suggestion: Option<String> },
    #[error(
        "{at} = {value:?} has no port from 1 to 65535 behind its ':'; write address:port or name:port, an IPv6 address in brackets as in \"[fd00::11]:5433\""
    )]
    HostPort { at: At, value: String },
    #[error(
        "{at} is missing: sslmode = {mode:?} verifies servers by it; name the file with the certificate of their authority, or choose sslmode = \"require\""
    )]
    NoRoot { at: At, mode: &'static str },
    #[error(
        "{at} is missing: {given} is given, and certificate and key belong together; add it, or remove {given}"
    )]
    HalfCertificate { at: At, given: &'static str },
    #[error("{at} has no meaning with store.kind = \"local\"; remove it, or write kind = \"etcd\"")]
    NotWithThisStore { at: At },
    #[error("{at} = {value:?} is no member of etcd; {source}")]
    Endpoint { at: At, value: String, source: ParseEndpointError },
    #[error("{at} = \"{value}\" and {first} are one with TLS and one without; write https in all")]
    MixedSchemes { at: At, value: Endpoint, first: Endpoint },
    #[error(
        "{at} is missing: members with https are verified by it; name the file with the certificate of their authority"
    )]
    NoStoreAuthority { at: At },
    #[error(
        "{at} has no meaning with http in store.endpoints; write https there, or remove it here"
    )]
    NeedsTls { at: At },
    #[error(
        "{at} is missing: {given} is given, and user and password belong together; add it, or remove {given}"
    )]
    HalfLogin { at: At, given: &'static str },
    #[error(
        "{at} = {value:?} is too long: a renewal of the lease that gets no answer would leave no time for another; give at most {most:?}, or a longer lease.duration"
    )]
    SlowStore { at: At, value: Duration, most: Duration },
    #[error("{at}: {source}")]
    Lease { at: At, source: Unsafe },
    #[error("{at}: {source}")]
    StorePassword { at: At, source: PrivateFileError },
    #[error("{at} = {value:?} is none of {}; {}", .choices.join(", "), meant(.suggestion.as_deref(), "choose one of them"))]
    Choice { at: At, value: String, choices: &'static [&'static str], suggestion: Option<String> },
    #[error("{at} = {value:?} cannot name a role or database; give 1 to 63 bytes")]
    Identifier { at: At, value: String },
    #[error("{at} = \"{value}\" stands at {first} already; give each its own")]
    Duplicate { at: At, value: String, first: String },
    #[error("{at} = \"{address}\" is the VIP of service {service}; give the server's own address")]
    IsVip { at: At, address: IpAddr, service: String },
    #[error(
        "{at} = \"{name}\" reads as an address, but the node's is {address}; give it another name"
    )]
    MisleadingName { at: At, name: NodeName, address: IpAddr },
    #[error("{at}: there are {count}, and a director has room for {most}; remove some")]
    TooMany { at: At, count: usize, most: usize },
    #[error(
        "{at}: {services} services list each of {nodes} [[node]]s, and a director has room for {most} real servers of all services together; list fewer nodes, find those of some services by discovery = \"walsenders\", or move services to another director"
    )]
    TooManyServers { at: At, services: usize, nodes: usize, most: usize },
    #[error(
        "{at} = \"{name}\" has a '.', which a BPF file system takes in no name (EPERM), and maps are pinned in a directory of this name; write '-' or '_' instead"
    )]
    DotInCluster { at: At, name: NodeName },
    #[error("{at} is an empty list; give at least one, such as `{example}`")]
    Empty { at: At, example: &'static str },
    #[error(
        "{at} is missing: service {service} has discovery = \"{}\", which asks the primary; add [primary] with hosts, or use discovery = \"direct\"", .discovery.name()
    )]
    NoPrimary { at: At, service: String, discovery: Discovery },
    #[error(
        "{at} is missing: service {service} has discovery = \"{}\", which asks listed servers; add a [[node]] for each, or use discovery = \"walsenders\"", .discovery.name()
    )]
    NoNodes { at: At, service: String, discovery: Discovery },
    #[error(
        "{at} is missing: writer = \"balancer\" says who has it; give the address that writers connect to"
    )]
    WriterWithoutVip { at: At },
    #[error(
        "{at} is missing: {what} goes by the record of managed nodes, which a controller reads that the others hear of; add a [[controller]] with name and address, and [api] listen on it"
    )]
    NoCoordinator { at: At, what: String },
    #[error(
        "{at} is missing: service {service} has discovery = \"agents\", and no [[node]] has an agent; give those that are managed one, or use another discovery"
    )]
    NothingManaged { at: At, service: String },
    #[error("{at} is missing; add at least one [[service]] with name and vip")]
    NoService { at: At },
    #[error("{at}: {source}")]
    Passfile { at: At, source: PassfileError },
    #[error("{at}: {source}")]
    Process { at: At, source: ParseAddressError },
    #[error("{at} = \"{node}\" is no [[node]] with an agent; {}", meant(.suggestion.as_deref(), "add one, with name, address and agent"))]
    NotManaged { at: At, node: NodeName, suggestion: Option<String> },
    #[error(
        "{at} is missing: others tell an agent there how they are; give the address and port that its [[node]] has as agent"
    )]
    AgentWithoutPort { at: At },
    #[error(
        "{at}: with store.kind = \"local\" the record of managed nodes is in a file of one controller, and there are {count}; list one [[controller]], or write kind = \"etcd\""
    )]
    OneController { at: At, count: usize },
    #[error(
        "{at}: {value:?} is no option; write it as name=value, the name without spaces and all of it on one line"
    )]
    FenceOption { at: At, value: String },
    #[error("{at}: {name} is given twice; keep one of them")]
    FenceOptionTwice { at: At, name: String },
    #[error("{at}: pgha says itself what {name} is; remove it")]
    FenceOptionOwn { at: At, name: String },
}

fn meant(suggestion: Option<&str>, otherwise: &str) -> String {
    suggestion.map_or_else(|| otherwise.to_owned(), |name| format!("did you mean {name:?}?"))
}

impl ConfigError {
    /// The key it is about; `None` when the file could not be read or is not TOML.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.at().map(At::key)
    }

    /// Its line, from 1; `None` for what the file lacks.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        if let Self::Syntax { line, .. } = self {
            return Some(*line);
        }
        self.at().and_then(At::line)
    }

    /// Where it is in the file, when it is about one key.
    #[must_use]
    pub const fn at(&self) -> Option<&At> {
        match self {
            Self::Read { .. } | Self::Syntax { .. } => None,
            Self::UnknownKey { at, .. }
            | Self::WrongType { at, .. }
            | Self::Missing { at, .. }
            | Self::Name { at, .. }
            | Self::Interface { at, .. }
            | Self::NotAbsolute { at, .. }
            | Self::SocketPath { at, .. }
            | Self::OutOfBounds { at, .. }
            | Self::Duration { at, .. }
            | Self::DurationOutOfBounds { at, .. }
            | Self::Address { at, .. }
            | Self::Mapped { at, .. }
            | Self::NotUnicast { at, .. }
            | Self::Listener { at, .. }
            | Self::Network { at, .. }
            | Self::HostBits { at, .. }
            | Self::OtherFamily { at, .. }
            | Self::NoNetworks { at }
            | Self::BurstWithoutRate { at }
            | Self::ReturnWithoutLimit { at, .. }
            | Self::ReturnBeyondLimit { at, .. }
            | Self::AutoWeightWithoutLimit { at }
            | Self::UnknownHost { at, .. }
            | Self::HostPort { at, .. }
            | Self::NoRoot { at, .. }
            | Self::HalfCertificate { at, .. }
            | Self::NotWithThisStore { at }
            | Self::Endpoint { at, .. }
            | Self::MixedSchemes { at, .. }
            | Self::NoStoreAuthority { at }
            | Self::NeedsTls { at }
            | Self::HalfLogin { at, .. }
            | Self::SlowStore { at, .. }
            | Self::Lease { at, .. }
            | Self::StorePassword { at, .. }
            | Self::Choice { at, .. }
            | Self::Identifier { at, .. }
            | Self::Duplicate { at, .. }
            | Self::IsVip { at, .. }
            | Self::MisleadingName { at, .. }
            | Self::TooMany { at, .. }
            | Self::TooManyServers { at, .. }
            | Self::DotInCluster { at, .. }
            | Self::Empty { at, .. }
            | Self::NoPrimary { at, .. }
            | Self::NoNodes { at, .. }
            | Self::WriterWithoutVip { at }
            | Self::NoCoordinator { at, .. }
            | Self::NothingManaged { at, .. }
            | Self::NoService { at }
            | Self::Passfile { at, .. }
            | Self::Process { at, .. }
            | Self::NotManaged { at, .. }
            | Self::AgentWithoutPort { at }
            | Self::OneController { at, .. }
            | Self::FenceOption { at, .. }
            | Self::FenceOptionTwice { at, .. }
            | Self::FenceOptionOwn { at, .. } => Some(at),
        }
    }
}

/// Everything wrong with a configuration file, in the order of the file; never empty.
#[derive(Debug)]
pub struct ConfigErrors {
    file: PathBuf,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn new(file: PathBuf, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.line().unwrap_or(usize::MAX));
        Self { file, errors }
    }

    /// The file they are about.
    #[must_use]
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// Each of them.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let plural = if self.errors.len() == 1 { "" } else { "s" };
        write!(f, "{file}: {} error{plural}", self.errors.len())?;
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A key that a running controller cannot change: its programs, maps and sockets were made by the
/// old value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum RestartNeeded {
    #[error("cluster changed from {old} to {new}; restart the controller")]
    Cluster { old: NodeName, new: NodeName },
    #[error(
        "director.interface changed from {} to {}; restart the controller",
        .old.join(", "),
        .new.join(", ")
    )]
    Interface { old: Vec<String>, new: Vec<String> },
    #[error("director.bpffs changed from {} to {}; restart the controller", .old.display(), .new.display())]
    Bpffs { old: PathBuf, new: PathBuf },
    #[error("director.control changed from {} to {}; restart the controller", .old.display(), .new.display())]
    Control { old: PathBuf, new: PathBuf },
    #[error(
        "[api] changed from {} to {}; restart the controller", described(.old), described(.new)
    )]
    Api { old: Api, new: Api },
    #[error(
        "[store] changed from {} ({old}) to {} ({new}), in {}; restart the controller",
        .old.kind(),
        .new.kind(),
        .old.differs_in(.new).join(", ")
    )]
    Store { old: Box<StorePlace>, new: Box<StorePlace> },
    #[error(
        "[failover], a [[controller]] or the agent of a [[node]] changed; restart the controller"
    )]
    Failover,
    #[error("director.log_packets changed from {old} to {new}; restart the controller")]
    LogPackets { old: bool, new: bool },
    #[error(
        "director.flows changed from {old} to {new}; restart the controller, after pgha detach if the table is to be resized"
    )]
    Flows { old: u32, new: u32 },
    #[error(
        "director.flows_ipv6 changed from {old} to {new}; restart the controller, after pgha detach if the table is to be resized"
    )]
    FlowsIpv6 { old: u32, new: u32 },
    #[error(
        "director.pending_flows changed from {old} to {new}; restart the controller, after pgha detach if the table is to be resized"
    )]
    PendingFlows { old: u32, new: u32 },
    #[error(
        "director.pending_flows for IPv6 changed from {old} to {new}; restart the controller, after pgha detach if the table is to be resized"
    )]
    PendingFlowsIpv6 { old: u32, new: u32 },
}

fn described(api: &Api) -> String {
    let listen: Vec<_> = api.listen().iter().map(ToString::to_string).collect();
    let listen = if listen.is_empty() { "no listen".to_owned() } else { listen.join(", ") };
    format!("{listen} (tls {})", api.tls().display())
}

/// A configuration that is valid but hardly meant so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum Remark {
    #[error(
        "service {service} ({vip}): every weight is 0, so nobody would get a connection; give default_weight or a [[node]] a weight above 0"
    )]
    NobodyServes { service: NodeName, vip: SocketAddr },
    #[error(
        "node {node} has no weight, and default_weight is 0 in every service, so it gets no connection; give it weight = 1 or remove it"
    )]
    ListedWithoutWeight { node: NodeName },
    #[error(
        "store.endpoints has {endpoint}: whoever is on the way can read the records, and write them; have etcd listen with TLS, and write https"
    )]
    StoreInClear { endpoint: Endpoint },
    #[error(
        "failover.quorum = {quorum} with mode = \"strict\" and {others} other managed nodes: no commit would ever be acknowledged; add nodes, or give a smaller quorum"
    )]
    StrictBeyondNodes { quorum: usize, others: usize },
    #[error("health.timeout ({}) exceeds health.interval ({}), so a silent server is found dead later than fall x interval", humantime::format_duration(*.timeout), humantime::format_duration(*.interval))]
    TimeoutBeyondInterval { timeout: Duration, interval: Duration },
}
