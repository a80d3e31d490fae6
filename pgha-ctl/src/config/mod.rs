//! The configuration file: one TOML file, read whole and judged whole.
//!
//! A file becomes a [`Config`] in three steps, each reporting everything it finds: `document`
//! (syntax, unknown keys, types), `validate` (values and how they fit together), and
//! [`Config::check_files`] (files the configuration names). `schema` is the one place that knows
//! each key, its bounds and its default.

mod address;
mod document;
mod error;
mod etcd;
mod failover;
mod login;
mod model;
pub mod passfile;
pub mod private_file;
mod raw;
mod schema;
mod validate;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use pgha_machine::balancer::{self, Discovery, Node, Service};
use pgha_machine::failover::timing::Timings;
use pgha_machine::{NodeName, Weight};

pub use address::{Address, ParseAddressError};
pub use error::{At, ConfigError, ConfigErrors, Remark, RestartNeeded};
pub use etcd::{Endpoint, Etcd, EtcdLogin, EtcdTls, ParseEndpointError, StorePlace};
pub use failover::{Agent, Failover, FenceDevice, Managed, Pick, Writer};
pub use login::{ClientCertificate, Login, SslMode, Tls};
pub use model::{Api, Director, HealthTimings, Peer, Primary, Vlan};

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    cluster: NodeName,
    director: Director,
    login: Login,
    primary: Option<Primary>,
    health: HealthTimings,
    api: Api,
    store: StorePlace,
    lease: Timings,
    services: Vec<Service>,
    nodes: Vec<Node>,
    failover: Option<Failover>,
    agent: Option<Agent>,
}

impl Config {
    /// Reads and judges the file at `path`. Files it names are not looked at:
    /// [`Config::check_files`] does that, for the processes that need them.
    ///
    /// # Errors
    /// Everything wrong with the file at once; a missing file is an error, never the defaults.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = fs::read_to_string(path).map_err(|source| {
            ConfigErrors::new(path.to_owned(), vec![ConfigError::Read { source }])
        })?;
        Self::parse(&text, path)
    }

    /// Judges `text`, which came from `path`.
    ///
    /// # Errors
    /// Everything wrong with it at once.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        document::parse(text)
            .and_then(Self::try_from)
            .map_err(|errors| ConfigErrors::new(path.to_owned(), errors))
    }

    /// The control socket that the file at `path` names, whatever else is wrong with the file: a
    /// controller that kept its old configuration is still to be asked and steered.
    ///
    /// # Errors
    /// Everything wrong with a file that does not name it legibly.
    pub fn control_at(path: &Path) -> Result<PathBuf, ConfigErrors> {
        Self::load(path).map(|config| config.director.control).or_else(|errors| {
            let legible = fs::read_to_string(path)
                .ok()
                .and_then(|text| validate::control(document::parse(&text).ok()?.raw));
            legible.ok_or(errors)
        })
    }

    /// Checks the files with secrets that the configuration names: they must be readable, and closed to
    /// group and others. `path` is the configuration file, for the message.
    ///
    /// # Errors
    /// Each file that is not as it must be.
    pub fn check_files(&self, path: &Path) -> Result<(), ConfigErrors> {
        let at = |key: &str| At { key: key.to_owned(), line: None };
        let mut errors = Vec::new();
        if let Err(source) = self.login.check() {
            errors.push(ConfigError::Passfile { at: at("postgres.passfile"), source });
        }
        if let StorePlace::Etcd(etcd) = &self.store
            && let Some(login) = &etcd.login
            && let Err(source) = login.password()
        {
            errors.push(ConfigError::StorePassword { at: at("store.password_file"), source });
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors::new(path.to_owned(), errors)) }
    }

    /// The cluster's name, which names pin directory and control socket.
    #[must_use]
    pub const fn cluster(&self) -> &NodeName {
        &self.cluster
    }

    /// This node as a director.
    #[must_use]
    pub const fn director(&self) -> &Director {
        &self.director
    }

    /// How to log in to PostgreSQL.
    #[must_use]
    pub const fn login(&self) -> &Login {
        &self.login
    }

    /// Where the primary may be; `None` only when no service asks it.
    #[must_use]
    pub const fn primary(&self) -> Option<&Primary> {
        self.primary.as_ref()
    }

    /// When servers count as alive or dead.
    #[must_use]
    pub const fn health(&self) -> HealthTimings {
        self.health
    }

    /// Where the API listens over TCP.
    #[must_use]
    pub const fn api(&self) -> &Api {
        &self.api
    }

    /// Where orders are kept.
    #[must_use]
    pub const fn store(&self) -> &StorePlace {
        &self.store
    }

    /// Timings of the primary's lease.
    #[must_use]
    pub const fn lease(&self) -> Timings {
        self.lease
    }

    /// The virtual services, at least one, in the order of the file.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The listed nodes, in the order of the file.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The managed nodes; `None` where there are none.
    #[must_use]
    pub const fn failover(&self) -> Option<&Failover> {
        self.failover.as_ref()
    }

    /// This node, where an agent manages it.
    #[must_use]
    pub const fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// What the decisions depend on, for a node with the addresses `local`.
    #[must_use]
    pub fn balancer(&self, local: BTreeSet<IpAddr>) -> balancer::Config {
        balancer::Config {
            services: self.services.clone(),
            nodes: self.nodes.clone(),
            rise: self.health.rise,
            fall: self.health.fall,
            local,
            managed: self
                .failover
                .iter()
                .flat_map(Failover::members)
                .map(|of| of.name.clone())
                .collect(),
        }
    }

    /// What is valid but hardly meant: worth a warning.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        let nobody = self.services.iter().filter(|service| !self.can_serve(service)).map(
            |Service { name, vip, port, .. }| Remark::NobodyServes {
                service: name.clone(),
                vip: SocketAddr::new(*vip, *port),
            },
        );
        let whitelist = self.services.iter().all(|service| service.default_weight == Weight::ZERO);
        let unweighted = self
            .nodes
            .iter()
            .filter(|node| whitelist && node.weight.is_none())
            .map(|node| Remark::ListedWithoutWeight { node: node.name.clone() });
        let HealthTimings { interval, timeout, .. } = self.health;
        let slow =
            (timeout > interval).then_some(Remark::TimeoutBeyondInterval { timeout, interval });
        let clear = self.store.endpoints().iter().find(|endpoint| endpoint.is_in_clear());
        let clear = clear.map(|endpoint| Remark::StoreInClear { endpoint: endpoint.clone() });
        let strict = self.failover.as_ref().and_then(Failover::never_acknowledges);
        nobody.chain(unweighted).chain(slow).chain(clear).chain(strict).collect()
    }

    /// Whether some real server may have a weight above 0.
    fn can_serve(&self, service: &Service) -> bool {
        let others = service.default_weight > Weight::ZERO;
        let unlisted = match service.discovery {
            Discovery::Walsenders | Discovery::Both => others,
            Discovery::Direct | Discovery::Agents => false,
            // No weight counts there.
            Discovery::Writer => true,
        };
        let weighs = |node: &Node| node.weight.map_or(others, |weight| weight > Weight::ZERO);
        unlisted || self.nodes.iter().any(weighs)
    }

    /// The keys in which `new` differs from this running configuration and which only a restart
    /// can change. Everything else may be taken over as it is.
    #[must_use]
    pub fn changes_needing_restart(&self, new: &Self) -> Vec<RestartNeeded> {
        fn changed<T: Clone + PartialEq>(
            old: &T,
            new: &T,
            report: fn(T, T) -> RestartNeeded,
        ) -> Option<RestartNeeded> {
            (old != new).then(|| report(old.clone(), new.clone()))
        }
        let (is, to) = (&self.director, &new.director);
        [
            changed(&self.cluster, &new.cluster, |old, new| RestartNeeded::Cluster { old, new }),
            changed(&is.interfaces, &to.interfaces, |old, new| RestartNeeded::Interface {
                old,
                new,
            }),
            changed(&is.bpffs, &to.bpffs, |old, new| RestartNeeded::Bpffs { old, new }),
            changed(&is.control, &to.control, |old, new| RestartNeeded::Control { old, new }),
            changed(&is.log_packets, &to.log_packets, |old, new| RestartNeeded::LogPackets {
                old,
                new,
            }),
            changed(&self.api, &new.api, |old, new| RestartNeeded::Api { old, new }),
            changed(&self.store, &new.store, |old, new| RestartNeeded::Store {
                old: Box::new(old),
                new: Box::new(new),
            }),
            changed(&self.failover, &new.failover, |_, _| RestartNeeded::Failover),
            changed(&is.flows, &to.flows, |old, new| RestartNeeded::Flows { old, new }),
            changed(&is.flows_ipv6, &to.flows_ipv6, |old, new| RestartNeeded::FlowsIpv6 {
                old,
                new,
            }),
            changed(&is.pending_flows, &to.pending_flows, |old, new| RestartNeeded::PendingFlows {
                old,
                new,
            }),
            changed(&is.pending_flows_ipv6, &to.pending_flows_ipv6, |old, new| {
                RestartNeeded::PendingFlowsIpv6 { old, new }
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
