//! What people are told, and how urgently: changes of roles and members, and what needs a person.

use std::net::SocketAddr;

use pgha_machine::Neighbour;
use pgha_machine::balancer::{Down, News, Target};

use super::interfaces::Interfaces;

pub(super) fn tell(news: &News, interfaces: &Interfaces) {
    let at = |target: &Target| SocketAddr::new(target.address, target.port);
    match news {
        News::PrimaryAnswers(count) => {
            tracing::info!("the primary answers; {count} standbys stream");
        }
        News::PrimaryLost => {
            tracing::warn!("the primary does not answer; the readers stay as they are");
        }
        News::SeveralPrimaries(hosts) => {
            let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            tracing::warn!(
                "{hosts} all say that they are the primary; the readers stay as they are until one \
                 of them is stopped or rewound"
            );
        }
        News::Joined(target) => tracing::info!("{} is a member now", at(target)),
        News::Left(target) => tracing::info!("{} is no member any more", at(target)),
        News::Up(target) => tracing::info!("{} gets new connections", at(target)),
        News::Down(target, Down::NotInRecovery) => {
            tracing::info!("{} is no reader: it is not in recovery", at(target));
        }
        News::Down(target, down) => {
            tracing::warn!("{} gets no new connections: {down}", at(target));
        }
        News::Moved(address, Neighbour { interface, mac }) => {
            let on = interfaces.name(*interface);
            tracing::info!("{address} has MAC address {mac} on {on} now");
        }
        News::Full(target) => {
            tracing::warn!("{} gets no traffic: every id for real servers is in use", at(target));
        }
    }
}
