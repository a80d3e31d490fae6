//! What operators ask of a controller, and what it answers.

use std::net::IpAddr;
use std::path::PathBuf;

use pgha_machine::balancer::{ReaderOrder, ServiceView};
use pgha_machine::{NodeName, Weight};
use serde::{Deserialize, Serialize};

use super::order;

/// An order of an operator. A key that is none of it is refused, as it may be one misspelt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "order::Written")]
pub struct OrderRequest {
    /// Name of a node, or an address, or address and port: `[fd00::1]:5432`.
    pub server: String,
    /// Name of the service, or its VIP, or VIP and port; all services that have the server when
    /// missing.
    pub service: Option<String>,
    /// What to do.
    #[serde(flatten)]
    pub order: OrderKind,
}

/// What an operator may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum OrderKind {
    /// A weight of the operator's.
    Weight {
        /// 0 to 1,000; the configuration's again when `null`, which has to be said.
        weight: Option<Weight>,
    },
    /// No new connections.
    Drain {
        /// In how many milliseconds the sessions that are left then are reset; never when missing.
        #[serde(default)]
        reset_after_ms: Option<u64>,
    },
    /// New connections again.
    Undrain,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReply {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The services as they are now, those that were changed.
    pub services: Vec<ServiceView>,
    /// The other directors, where they keep orders of their own: they were not told.
    #[serde(default)]
    pub apart: Vec<NodeName>,
    /// The other directors, which forward sessions of their own.
    #[serde(default)]
    pub peers: Vec<NodeName>,
}

/// `POST /v1/reader`: a server that is a reader by an operator's word alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReaderRequest {
    /// A member of every service from now on; one that is there already takes this name and weight.
    Add {
        /// Its address.
        address: IpAddr,
        /// Its name in output.
        #[serde(default)]
        name: Option<NodeName>,
        /// Its weight in every service; the service's default weight when missing.
        #[serde(default)]
        weight: Option<Weight>,
    },
    /// No longer one by an operator's word.
    Remove {
        /// Its address.
        address: IpAddr,
    },
}

/// How such a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderReply {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// All readers that operators added, as they are now.
    pub readers: Vec<ReaderOrder>,
    /// The other directors, where they keep orders of their own: they were not told.
    #[serde(default)]
    pub apart: Vec<NodeName>,
}

/// How `POST /v1/reload` ended where the new configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReply {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The file that was read.
    pub file: PathBuf,
    /// What is valid there but hardly meant.
    pub remarks: Vec<String>,
    /// What is in force and of no use: a login that PostgreSQL refuses.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What an operator wants of a director's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// The role.
    pub role: RoleOrder,
}

/// A role that an operator may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleOrder {
    /// Be the active director; the one that is it stands by.
    Take,
    /// Stand by.
    Release,
}

/// A director's role after such a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleReply {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// As in [`super::DirectorStatus`].
    pub role: String,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// One sentence.
    pub error: String,
}

impl Refusal {
    /// For the reason that an error tells.
    #[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
    pub(crate) fn of(error: impl ToString) -> Self {
        Self { error: error.to_string() }
    }
}
