//! What operators call a server or a service: by its name, or by its address with or without a port.

use std::net::{IpAddr, SocketAddr};

use pgha_machine::balancer::{Node, Service};

#[cfg(test)]
mod tests;

/// An address and, where it is told, a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    port: Option<u16>,
}

impl Endpoint {
    /// Reads `10.0.0.1`, `fd00::1`, `[fd00::1]`, `10.0.0.1:5432` or `[fd00::1]:5432`.
    fn parse(text: &str) -> Option<Self> {
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

    /// Whether a service has that port.
    pub(super) fn allows(self, port: u16) -> bool {
        self.port.is_none_or(|named| named == port)
    }
}

/// The server that is called so: the node of that name, else an address.
pub(super) fn server(nodes: &[Node], name: &str) -> Option<Endpoint> {
    let node = nodes.iter().find(|node| node.name.as_str() == name);
    node.map(|node| Endpoint { address: node.address, port: None })
        .or_else(|| Endpoint::parse(name))
}

/// Whether a service is called so: by its name, or by its VIP.
pub(super) fn is_service(service: &Service, name: &str) -> bool {
    service.name.as_str() == name
        || Endpoint::parse(name)
            .is_some_and(|named| named.address == service.vip && named.allows(service.port))
}
