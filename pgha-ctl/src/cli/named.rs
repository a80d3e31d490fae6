//! Servers and services as people name them.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use pgha_machine::NodeName;
use pgha_machine::balancer::{ServerView, ServiceView};

use crate::controller::named::Endpoint;
use crate::controller::status::Status;

/// A node as somebody wrote it: its name, its address, or address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    text: &'a str,
    /// Where it is, as far as anybody knows.
    at: Option<Endpoint>,
}

impl<'a> Named<'a> {
    /// Of a node that the controller may know: one of the node table, or an added reader.
    pub(super) fn parse(status: &Status, text: &'a str) -> Self {
        let nodes = status.nodes.iter().map(|node| (Some(&node.name), node.address));
        let readers = status.readers.iter().map(|reader| (reader.name.as_ref(), reader.address));
        let called = |(name, _): &(Option<&NodeName>, _)| name.is_some_and(|n| n.as_str() == text);
        let listed = nodes.chain(readers).find(called);
        let listed = listed.map(|(_, address)| Endpoint::host(address));
        Self { text, at: listed.or_else(|| Endpoint::parse(text)) }
    }

    /// Its address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.at.map(|at| at.address)
    }

    /// Whether it may be of that service, as far as the port goes.
    pub(super) fn is_in(&self, view: &ServiceView) -> bool {
        self.at.is_none_or(|at| at.allows(view.port))
    }

    /// Whether it is that server.
    pub(super) fn is(&self, server: &ServerView) -> bool {
        self.address() == Some(server.address)
            || server.name.as_ref().is_some_and(|name| name.as_str() == self.text)
    }
}

/// Whether a service is meant: by its name, its VIP, or VIP and port.
pub(super) fn is_service(view: &ServiceView, text: &str) -> bool {
    view.name.as_str() == text
        || Endpoint::parse(text).is_some_and(|at| at.address == view.vip && at.allows(view.port))
}
