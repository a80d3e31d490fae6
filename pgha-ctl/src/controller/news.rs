//! What people are told, and how urgently: changes of roles and members, and what needs a person.

use std::net::SocketAddr;

use pgha_machine::Neighbour;
use pgha_machine::balancer::{Down, News, Path, Target};

use super::events::{Happening, Kind};
use super::interfaces::Interfaces;

/// A server of a service.
fn behind(path: &Path) -> String {
    let Path { vip, port, address } = path;
    format!("{address} behind {}", SocketAddr::new(*vip, *port))
}

/// News in a sentence.
pub(super) fn told(news: &News, interfaces: &Interfaces) -> Happening {
    let info = |kind, target: &Target, what: &str| {
        let at = SocketAddr::new(target.address, target.port);
        Happening::info(kind, format!("{at} {what}")).of(target.address)
    };
    let warning = |kind, target: &Target, what: &str| {
        let at = SocketAddr::new(target.address, target.port);
        Happening::warning(kind, format!("{at} {what}")).of(target.address)
    };
    match news {
        News::PrimaryAnswers(count) => Happening::info(
            Kind::PrimaryAnswers,
            format!("the primary answers; {count} standbys stream"),
        ),
        News::PrimaryLost => Happening::warning(
            Kind::PrimaryLost,
            "the primary does not answer; the readers stay as they are",
        ),
        News::SeveralPrimaries(hosts) => {
            let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            let text = format!(
                "{hosts} all say that they are the primary; the readers stay as they are until one \
                 of them is stopped or rewound"
            );
            Happening::warning(Kind::SeveralPrimaries, text)
        }
        News::Joined(target) => info(Kind::ServerJoined, target, "is a member now"),
        News::Left(target) => info(Kind::ServerLeft, target, "is no member any more"),
        News::Up(target) => info(Kind::ServerUp, target, "gets new connections"),
        News::Down(target, Down::NotInRecovery) => {
            info(Kind::ServerDown, target, "is no reader: it is not in recovery")
        }
        News::Down(target, down) => {
            warning(Kind::ServerDown, target, &format!("gets no new connections: {down}"))
        }
        News::Withheld(path, of) => {
            let text = format!("{} gets no new connections: {}", behind(path), of.phrase());
            Happening::warning(Kind::ServerWithheld, text).of(path.address)
        }
        News::Mended(path, of) => {
            let text = format!("{}: no longer so: {}", behind(path), of.phrase());
            Happening::info(Kind::ServerMended, text).of(path.address)
        }
        News::FallsBack(path) => {
            let text = format!("{} serves as the primary: no standby is left", behind(path));
            Happening::warning(Kind::FellBack, text).of(path.address)
        }
        News::FallsBackNoMore(path) => {
            let text = format!("{} serves as the primary no more", behind(path));
            Happening::info(Kind::FellBack, text).of(path.address)
        }
        News::Leaks(path, mac) => {
            let text = format!(
                "{} ({mac}) answers ARP or neighbour solicitations for the VIP, so that clients \
                 reach it past this director; on that server: pgha realserver setup",
                behind(path)
            );
            Happening::warning(Kind::VipClaimed, text).of(path.address)
        }
        News::Moved(address, Neighbour { interface, mac }) => {
            let on = interfaces.name(*interface);
            let what = format!("{address} has MAC address {mac} on {on} now");
            Happening::info(Kind::ServerMoved, what).of(*address)
        }
        News::Full(target) => warning(
            Kind::ServerFull,
            target,
            "gets no traffic: every id for real servers is in use",
        ),
    }
}
