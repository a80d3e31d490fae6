use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pgha_machine::balancer::Discovery;
use pgha_machine::{NodeName, Weight};

use crate::config::document::{Places, nearest};
use crate::config::error::{At, ConfigError};
use crate::config::schema::{self, Absent, Kind};

/// The longest path of a Unix socket: `sun_path` has 108 bytes with its end (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// The longest name of an interface: IFNAMSIZ is 16 with its end (linux/if.h).
const INTERFACE_MAX: usize = 15;
/// The longest name of a role or database: NAMEDATALEN is 64 with its end.
const IDENTIFIER_MAX: usize = 63;

/// What no two entries may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unique {
    Interface,
    PeerName,
    PeerAddress,
    ServiceName,
    Endpoint,
    NodeName,
    NodeAddress,
    PrimaryHost,
    Listener,
    Member,
    Process,
    ReplicationUser,
    FenceDevice,
}

/// A service and what it asks for its real servers.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) service: String,
    pub(super) discovery: Discovery,
}

/// Collects errors, and what must be compared with something elsewhere in the file.
///
/// A method returns `None` when it has reported an error (or somebody before it did).
#[derive(Debug)]
pub(super) struct Checker {
    places: Places,
    errors: Vec<ConfigError>,
    seen: BTreeMap<(Unique, String), String>,
    own: Vec<(String, IpAddr)>,
    /// VIPs, each with its service.
    pub(super) vips: BTreeMap<IpAddr, String>,
    /// Listed nodes; `None` for an address that was refused.
    pub(super) nodes: BTreeMap<NodeName, Option<IpAddr>>,
    pub(super) askers: Vec<Asker>,
}

impl Checker {
    pub(super) fn new(places: Places, errors: Vec<ConfigError>) -> Self {
        Self {
            places,
            errors,
            seen: BTreeMap::new(),
            own: Vec::new(),
            vips: BTreeMap::new(),
            nodes: BTreeMap::new(),
            askers: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<ConfigError> {
        self.errors
    }

    pub(super) fn fail(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// An entry of a plain list stands on the line of its list.
    pub(super) fn at(&self, key: &str) -> At {
        let At { key, line } = self.places.at(key);
        let list = key.strip_suffix(']').and_then(|key| key.rsplit_once('['));
        let line = line.or_else(|| self.places.at(list?.0).line);
        At { key, line }
    }

    pub(super) fn refused(&self, key: &str) -> bool {
        self.places.refused(key)
    }

    /// The value, unless it is missing.
    pub(super) fn required<T>(&mut self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.refused(key) {
            let entry = entry(key);
            let name = schema::split(entry.path).1;
            let example = format!("{name} = {}", entry.example);
            self.fail(ConfigError::Missing { at: self.at(key), example, doc: entry.doc });
        }
        value
    }

    /// The value, else the default; `None` when it is required and missing.
    fn text(&mut self, key: &str, value: Option<String>) -> Option<String> {
        match entry(key).absent {
            Absent::Text(default) => Some(value.unwrap_or_else(|| default.to_owned())),
            Absent::Refused
            | Absent::Nothing
            | Absent::Derived(_)
            | Absent::Integer(_)
            | Absent::Boolean(_) => self.required(key, value),
        }
    }

    pub(super) fn boolean(&mut self, key: &str, value: Option<bool>) -> Option<bool> {
        match entry(key).absent {
            Absent::Boolean(default) => Some(value.unwrap_or(default)),
            Absent::Refused
            | Absent::Nothing
            | Absent::Derived(_)
            | Absent::Integer(_)
            | Absent::Text(_) => self.required(key, value),
        }
    }

    pub(super) fn integer<T: TryFrom<i64>>(&mut self, key: &str, value: Option<i64>) -> Option<T> {
        let entry = entry(key);
        let value = match entry.absent {
            Absent::Integer(default) => value.unwrap_or(default),
            Absent::Refused
            | Absent::Nothing
            | Absent::Derived(_)
            | Absent::Boolean(_)
            | Absent::Text(_) => self.required(key, value)?,
        };
        let Kind::Integer { min, max } = entry.kind else { return None };
        let number = T::try_from(value).ok().filter(|_| (min..=max).contains(&value));
        if number.is_none() {
            self.fail(ConfigError::OutOfBounds { at: self.at(key), value, min, max });
        }
        number
    }

    pub(super) fn weight(&mut self, key: &str, value: Option<i64>) -> Option<Weight> {
        self.integer(key, value).and_then(Weight::new)
    }

    /// One of them that need not be given.
    pub(super) fn maybe_duration(
        &mut self,
        key: &str,
        value: Option<String>,
    ) -> Option<Option<Duration>> {
        match value {
            Some(value) => self.duration_of(key, value).map(Some),
            None => Some(None),
        }
    }

    pub(super) fn duration(&mut self, key: &str, value: Option<String>) -> Option<Duration> {
        let value = self.text(key, value)?;
        self.duration_of(key, value)
    }

    fn duration_of(&mut self, key: &str, value: String) -> Option<Duration> {
        let Kind::Duration { min, max } = entry(key).kind else { return None };
        let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
        let at = self.at(key);
        match humantime::parse_duration(&value) {
            Ok(duration) if (min..=max).contains(&duration) => return Some(duration),
            Ok(_) => self.fail(ConfigError::DurationOutOfBounds { at, value, min, max }),
            Err(source) => self.fail(ConfigError::Duration { at, value, source }),
        }
        None
    }

    pub(super) fn choice<T>(
        &mut self,
        key: &str,
        value: Option<String>,
        choices: &'static [&'static str],
        from_name: fn(&str) -> Option<T>,
    ) -> Option<T> {
        from_name(self.one_of_default(key, value, choices)?)
    }

    /// The value, or the default, as one of these names.
    pub(super) fn one_of_default(
        &mut self,
        key: &str,
        value: Option<String>,
        choices: &'static [&'static str],
    ) -> Option<&'static str> {
        let value = self.text(key, value)?;
        self.one_of(key, value, choices)
    }

    /// The value as one of these names.
    pub(super) fn one_of(
        &mut self,
        key: &str,
        value: String,
        choices: &'static [&'static str],
    ) -> Option<&'static str> {
        let chosen = choices.iter().copied().find(|choice| *choice == value);
        if chosen.is_none() {
            let suggestion = nearest(&value, choices);
            self.fail(ConfigError::Choice { at: self.at(key), value, choices, suggestion });
        }
        chosen
    }

    pub(super) fn name(&mut self, key: &str, value: Option<String>) -> Option<NodeName> {
        let value = self.required(key, value)?;
        value
            .parse()
            .map_err(|source| self.fail(ConfigError::Name { at: self.at(key), source }))
            .ok()
    }

    /// A name that a directory of a BPF file system can have: `bpf_lookup` refuses a `.` in names.
    pub(super) fn cluster(&mut self, key: &str, value: Option<String>) -> Option<NodeName> {
        let name = self.name(key, value)?;
        if !name.as_str().contains('.') {
            return Some(name);
        }
        self.fail(ConfigError::DotInCluster { at: self.at(key), name });
        None
    }

    /// Whether a list is short enough.
    pub(super) fn fit(&mut self, list: &str, count: usize) -> bool {
        let most = schema::most(&schema::pattern(list));
        let Some(most) = most.filter(|most| count > *most) else { return true };
        self.fail(ConfigError::TooMany { at: self.at(list), count, most });
        false
    }

    /// The rule is the kernel's (`dev_valid_name`).
    pub(super) fn interface(&mut self, key: &str, value: String) -> Option<String> {
        let legal = (1..=INTERFACE_MAX).contains(&value.len())
            && !matches!(value.as_str(), "." | "..")
            && !value.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
        if legal {
            return self.unique(Unique::Interface, key, value.clone()).then_some(value);
        }
        self.fail(ConfigError::Interface { at: self.at(key), value });
        None
    }

    pub(super) fn identifier(&mut self, key: &str, value: Option<String>) -> Option<String> {
        let value = self.text(key, value)?;
        if (1..=IDENTIFIER_MAX).contains(&value.len()) && !value.contains('\0') {
            return Some(value);
        }
        self.fail(ConfigError::Identifier { at: self.at(key), value });
        None
    }

    pub(super) fn path(&mut self, key: &str, value: Option<String>) -> Option<PathBuf> {
        let value = self.text(key, value)?;
        self.absolute(key, value)
    }

    pub(super) fn absolute(&mut self, key: &str, value: String) -> Option<PathBuf> {
        if value.starts_with('/') && !value.contains('\0') {
            return Some(value.into());
        }
        self.fail(ConfigError::NotAbsolute { at: self.at(key), value });
        None
    }

    pub(super) fn socket(&mut self, key: &str, value: String) -> Option<PathBuf> {
        if value.len() > SOCKET_PATH_MAX {
            self.fail(ConfigError::SocketPath { at: self.at(key), value });
            return None;
        }
        self.absolute(key, value)
    }

    /// The address of one host on a network.
    pub(super) fn address(&mut self, key: &str, value: String) -> Option<IpAddr> {
        self.host_address(key, value).and_then(|address| {
            if address.is_loopback() {
                self.fail(ConfigError::NotUnicast { at: self.at(key), address });
                return None;
            }
            Some(address)
        })
    }

    /// The address of one host, the loopback one too.
    fn host_address(&mut self, key: &str, value: String) -> Option<IpAddr> {
        let at = self.at(key);
        match value.parse::<IpAddr>() {
            Ok(value @ IpAddr::V6(written)) if let Some(address) = written.to_ipv4_mapped() => {
                self.fail(ConfigError::Mapped { at, value, address });
            }
            Ok(address) if is_host(address) => return Some(address),
            Ok(address) => self.fail(ConfigError::NotUnicast { at, address }),
            Err(_) => self.fail(ConfigError::Address { at, value }),
        }
        None
    }

    /// One of `primary.hosts`: an address (the loopback one too, for a controller on that very
    /// node) or the name of a listed node, and its port where it has one of its own.
    pub(super) fn host(&mut self, key: &str, value: String) -> Option<(IpAddr, Option<u16>)> {
        let (host, port) = split_port(&value);
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => {
                self.fail(ConfigError::HostPort { at: self.at(key), value });
                return None;
            }
        };
        let address = if let Some(node) = self.nodes.get(host) {
            (*node)?
        } else if host.parse::<IpAddr>().is_ok() {
            self.host_address(key, host.to_owned())?
        } else {
            let names: Vec<&str> = self.nodes.keys().map(NodeName::as_str).collect();
            let suggestion = nearest(host, &names);
            self.fail(ConfigError::UnknownHost { at: self.at(key), value, suggestion });
            return None;
        };
        self.own.push((key.to_owned(), address));
        Some((address, port))
    }

    /// Where to listen: an address of this node, or each.
    pub(super) fn listener(&mut self, key: &str, value: String) -> Option<SocketAddr> {
        let parsed = value
            .parse::<SocketAddr>()
            .ok()
            .filter(|address| address.port() != 0 && !address.ip().is_multicast());
        if let Some(address) = parsed {
            return self.unique(Unique::Listener, key, address.to_string()).then_some(address);
        }
        self.fail(ConfigError::Listener { at: self.at(key), value });
        None
    }

    /// A network, written as every tool writes it.
    pub(super) fn network(&mut self, key: &str, value: String) -> Option<IpNet> {
        let at = self.at(key);
        match value.parse::<IpNet>() {
            Ok(value) if value == value.trunc() => return Some(value),
            Ok(value) => {
                self.fail(ConfigError::HostBits { at, value, network: value.trunc() });
            }
            Err(_) => self.fail(ConfigError::Network { at, value }),
        }
        None
    }

    pub(super) fn own_name(
        &mut self,
        kind: Unique,
        key: &str,
        value: Option<String>,
    ) -> Option<NodeName> {
        let name = self.name(key, value)?;
        self.unique(kind, key, name.to_string()).then_some(name)
    }

    /// The own address of a server, which may be nobody's VIP.
    pub(super) fn own_address(&mut self, kind: Unique, key: &str, value: String) -> Option<IpAddr> {
        let address = self.address(key, value)?;
        self.own.push((key.to_owned(), address));
        self.unique(kind, key, address.to_string()).then_some(address)
    }

    pub(super) fn unique(&mut self, kind: Unique, key: &str, value: String) -> bool {
        let Some(first) = self.seen.insert((kind, value.clone()), key.to_owned()) else {
            return true;
        };
        self.fail(ConfigError::Duplicate { at: self.at(key), value, first });
        false
    }

    pub(super) fn vips_are_nobodys_own(&mut self) {
        for (key, address) in std::mem::take(&mut self.own) {
            if let Some(service) = self.vips.get(&address).cloned() {
                self.fail(ConfigError::IsVip { at: self.at(&key), address, service });
            }
        }
    }
}

/// A host and what stands behind the `:` after it; an IPv6 address with a port is in brackets.
fn split_port(host: &str) -> (&str, Option<&str>) {
    if host.parse::<IpAddr>().is_ok() {
        return (host, None);
    }
    let bracketed = host.strip_prefix('[').and_then(|host| host.split_once(']'));
    match bracketed {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, Some(port.strip_prefix(':').unwrap_or(port))),
        None => host.rsplit_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    }
}

/// Whether one host can have the address, wherever it is. IPv4: not "this network" (RFC 1122,
/// 3.2.1.3), not multicast, not reserved or broadcast (RFC 1112, section 4). IPv6: not unspecified,
/// not multicast, not of one link only (RFC 4291, section 2.4).
const fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first != 0 && first < 224
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local())
        }
    }
}

fn entry(key: &str) -> &'static schema::Key {
    schema::find(key).expect("the validation asks only for keys of the schema")
}
