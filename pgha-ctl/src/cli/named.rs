//! Servers and services as people name them.

use std::net::{IpAddr, SocketAddr};

use pgha_machine::balancer::{ServerView, ServiceView};

use crate::controller::status::Status;

/// A node as somebody wrote it: its name, its address, or address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    text: &'a str,
    /// Where it is, as far as anybody knows.
    pub(super) address: Option<IpAddr>,
    port: Option<u16>,
}

impl<'a> Named<'a> {
    /// Of a node that the controller may know.
    pub(super) fn parse(status: &Status, text: &'a str) -> Self {
        if let Ok(end) = text.parse::<SocketAddr>() {
            return Self { text, address: Some(end.ip()), port: Some(end.port()) };
        }
        let listed = status.nodes.iter().find(|node| node.name.as_str() == text);
        let address = text.parse().ok().or(listed.map(|node| node.address));
        Self { text, address, port: None }
    }

    /// Whether it may be of that service, as far as the port goes.
    pub(super) fn is_in(&self, view: &ServiceView) -> bool {
        self.port.is_none_or(|port| port == view.port)
    }

    /// Whether it is that server.
    pub(super) fn is(&self, server: &ServerView) -> bool {
        self.address == Some(server.address)
            || server.name.as_ref().is_some_and(|name| name.as_str() == self.text)
    }
}

/// Whether a service is meant: by its name, its VIP, or VIP and port.
pub(super) fn is_service(view: &ServiceView, text: &str) -> bool {
    view.name.as_str() == text
        || text.parse() == Ok(view.vip)
        || text.parse() == Ok(SocketAddr::new(view.vip, view.port))
}
