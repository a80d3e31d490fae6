//! What operators call a server or a service: by its name, or by its address with or without a port.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use pgha_machine::balancer::Service;

use super::status::Refusal;

#[cfg(test)]
mod tests;

/// An address and, where it is told, a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    port: Option<u16>,
}

impl Endpoint {
    /// An address, whatever the port.
    pub(crate) const fn host(address: IpAddr) -> Self {
        Self { address, port: None }
    }

    /// Reads `10.0.0.1`, `fd00::1`, `[fd00::1]`, `10.0.0.1:5432` or `[fd00::1]:5432`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let (address, port) = match inner {
            Some(inner) => (inner.parse().ok().filter(IpAddr::is_ipv6)?, None),
            None => match text.parse() {
                Ok(address) => (address, None),
                Err(_) => {
                    let socket: SocketAddr = text.parse().ok()?;
                    (socket.ip(), Some(socket.port()))
                }
            },
        };
        Some(Self { address: address.to_canonical(), port })
    }

    /// Address and port, where both are told.
    pub(super) fn socket(self) -> Option<SocketAddr> {
        self.port.map(|port| SocketAddr::new(self.address, port))
    }

    /// Whether somebody at this address and port is meant.
    pub(super) fn is(self, socket: SocketAddr) -> bool {
        self.address == socket.ip() && self.allows(socket.port())
    }

    /// Whether a service has that port.
    pub(crate) fn allows(self, port: u16) -> bool {
        self.port.is_none_or(|named| named == port)
    }
}

/// Clients, as operators name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// All of a network.
    Network(IpNet),
    /// One host, or one port of it.
    Endpoint(Endpoint),
}

impl Clients {
    /// Reads `10.0.0.0/24` or what [`Endpoint::parse`] reads.
    ///
    /// # Errors
    /// What is no client.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let network = text.parse().map(Self::Network).ok();
        network.or_else(|| Endpoint::parse(text).map(Self::Endpoint)).ok_or_else(|| Refusal {
            error: format!(
                "client {text:?} is neither an address, with or without port, nor a network; write it as \
                 10.0.0.7, 10.0.0.7:40000, [fd00::7]:40000 or 10.0.0.0/24"
            ),
        })
    }

    /// Whether that client is one of them.
    pub(super) fn include(self, client: SocketAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(&client.ip()),
            Self::Endpoint(endpoint) => endpoint.is(client),
        }
    }
}

/// Whether a service is called so: by its name, or by its VIP.
pub(super) fn is_service(service: &Service, name: &str) -> bool {
    service.name.as_str() == name
        || Endpoint::parse(name)
            .is_some_and(|named| named.address == service.vip && named.allows(service.port))
}
