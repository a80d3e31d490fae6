//! Whose a certificate is, and what its holder may.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What the holder of a certificate is: the organizational unit (OU) of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A process of the cluster, on one of its nodes: it reads, and keeps its records in the store.
    Node,
    /// A person: also steers.
    Operator,
}

impl Role {
    /// As the certificate has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Operator => "operator",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Node, Self::Operator].into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a certificate says of its holder. That it is true is for the TLS library to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The subject's common name.
    pub name: String,
    /// `None`: its organizational unit is no role, so it may nothing.
    pub role: Option<Role>,
    /// IP addresses and DNS names that it is good for as a server.
    pub addresses: Vec<IpAddr>,
    /// See `addresses`.
    pub names: Vec<String>,
    /// Not good before.
    pub from: SystemTime,
    /// Not good after.
    pub until: SystemTime,
}

/// A certificate that cannot be read, or lacks a name.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// It is not X.509.
    #[error("it is no certificate in X.509 ({0})")]
    Unreadable(String),
    /// Nobody's.
    #[error("its subject has no common name (CN)")]
    Nameless,
}

impl Holder {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it is none, or nobody's.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, HolderError> {
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| HolderError::Unreadable(error.to_string()))?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().find_map(|name| name.as_str().ok());
        let mut units = subject.iter_organizational_unit().filter_map(|unit| unit.as_str().ok());
        let (mut addresses, mut names) = (Vec::new(), Vec::new());
        let alternatives = certificate
            .subject_alternative_name()
            .map_err(|error| HolderError::Unreadable(error.to_string()))?;
        for alternative in alternatives.iter().flat_map(|found| &found.value.general_names) {
            if let GeneralName::IPAddress(bytes) = alternative {
                addresses.extend(address(bytes));
            } else if let GeneralName::DNSName(name) = alternative {
                names.push((*name).to_owned());
            }
        }
        let validity = certificate.validity();
        Ok(Self {
            name: name.ok_or(HolderError::Nameless)?.to_owned(),
            role: units.find_map(Role::named),
            addresses,
            names,
            from: moment(validity.not_before.timestamp()),
            until: moment(validity.not_after.timestamp()),
        })
    }
}

/// RFC 5280, 4.2.1.6: four bytes or sixteen, in network order.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn moment(unix: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or_default())
}
