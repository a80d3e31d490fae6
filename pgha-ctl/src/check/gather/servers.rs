//! Asking every PostgreSQL of the configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use pgha_machine::balancer::Finding;

use crate::check::facts::{Server, Trouble, TroubleKind};
use crate::config::{Config, Primary};
use crate::postgres::inspect::inspect;
use crate::postgres::{Connector, PgError};

/// How long a server has for the login and three queries, at least; a longer `health.timeout` counts.
const PATIENCE: Duration = Duration::from_secs(3);

/// All of them, side by side.
pub(super) async fn ask(config: &Config, tell: &dyn Fn(&str)) -> Vec<Server> {
    let patience = config.health().timeout().max(PATIENCE);
    let places = places(config);
    let waiting = RefCell::new(places.keys().map(ToString::to_string).collect::<Vec<_>>());
    let connector = &Connector::new(config);
    let asked = places.into_iter().map(async |(at, Place { candidate, listed })| {
        let answer = inspect(connector, at, patience).await.map_err(|error| trouble(&error));
        waiting.borrow_mut().retain(|other| *other != at.to_string());
        let left = waiting.borrow().join(", ");
        if !left.is_empty() {
            tell(&format!("waiting for {left}"));
        }
        let name = config.nodes().iter().find(|node| node.address == at.ip());
        let name = name.map(|node| node.name.clone());
        Server { name, at, candidate, listed, answer, path: None }
    });
    join_all(asked).await
}

#[derive(Default)]
struct Place {
    candidate: bool,
    listed: bool,
}

/// The hosts of the primary, and the listed nodes at the port of each service.
fn places(config: &Config) -> BTreeMap<SocketAddr, Place> {
    let mut places: BTreeMap<_, Place> = BTreeMap::new();
    for host in config.primary().into_iter().flat_map(Primary::hosts) {
        places.entry(*host).or_default().candidate = true;
    }
    for node in config.nodes() {
        for service in config.services() {
            places.entry(SocketAddr::new(node.address, service.port)).or_default().listed = true;
        }
    }
    places
}

/// As the balancer takes it: what is a reason to take a server out there is a failure of the same kind here.
fn trouble(error: &PgError) -> Trouble {
    let told = error.to_string();
    let of_tls =
        matches!(error, PgError::NoTls(_) | PgError::Handshake(..) | PgError::Unbindable(_));
    let kind = if of_tls {
        TroubleKind::Tls
    } else if error.is_login_refused() {
        TroubleKind::Login
    } else {
        match error.finding() {
            Finding::Refused => TroubleKind::Refused,
            Finding::Silent(_) => TroubleKind::Silent,
            Finding::NotAccepting => TroubleKind::NotAccepting,
            Finding::LoginRefused(_) | Finding::Undecided(_) => TroubleKind::Here,
            Finding::Answered(_) | Finding::Standby(_) | Finding::NotInRecovery { .. } => {
                TroubleKind::Answered
            }
        }
    };
    Trouble { kind, told }
}
