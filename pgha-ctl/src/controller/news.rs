//! What people are told, and how urgently: changes of roles and members, and what needs a person.

use std::net::{IpAddr, SocketAddr};

use pgha_common::maps::MAX_SERVERS;
use pgha_machine::Neighbour;
use pgha_machine::balancer::{Down, News, Path, PrimaryAnswer, Target, Withheld};
use pgha_machine::{Epoch, Mac};

use super::Controller;
use super::events::{Happening, Kind};
use super::interfaces::Interfaces;
use super::primary::PrimaryKnown;
use super::status::PrimaryClaim;

#[cfg(test)]
mod tests;

impl Controller {
    /// Tells what the machine has to tell.
    pub(super) fn tell_news(&mut self, news: &News) {
        self.tell(told(news, &self.primary, &self.interfaces));
    }
}

/// News in a sentence, with what is known of the primary and the interfaces beyond them.
fn told(news: &News, primary: &PrimaryKnown, interfaces: &Interfaces) -> Happening {
    match news {
        News::PrimaryAnswers(count) => Happening::info(
            Kind::PrimaryAnswers,
            format!("the primary answers; {count} standbys stream"),
        ),
        News::PrimaryLost => primary_lost(&primary.errors),
        News::SeveralPrimaries(hosts) => several_primaries(hosts, &primary.several),
        News::Joined(target) => info(Kind::ServerJoined, target, "is a member now"),
        News::Left(target) => info(Kind::ServerLeft, target, "is no member any more"),
        News::Up(target) => info(Kind::ServerUp, target, "gets new connections"),
        News::Down(target, down) => server_down(target, *down),
        News::Full(target) => {
            let what = format!(
                "gets no traffic: this director has room for {MAX_SERVERS} real servers of all services \
                 together, and has as many; move servers or services to another director"
            );
            warning(Kind::ServerFull, target, &what)
        }
        News::Withheld(path, of) => withheld(path, *of),
        News::Mended(path, of) => mended(path, *of),
        News::WritersSent(path, epoch) => {
            let text = format!("writers are sent to {}{}", behind(path), by_epoch(*epoch));
            Happening::info(Kind::WritersMoved, text).of(path.address)
        }
        News::WritersLost(path, epoch) => {
            let text = format!(
                "writers are sent to {} no more{}; the sessions that they have there are reset",
                behind(path),
                by_epoch(*epoch)
            );
            Happening::info(Kind::WritersMoved, text).of(path.address)
        }
        News::FallsBack(path) => falls_back(path),
        News::FallsBackNoMore(path) => falls_back_no_more(path),
        News::Leaks(path, mac) => leaks(path, *mac),
        News::Unheard(path) => unheard(path),
        News::NotBelieved(answer) => not_believed(answer),
        News::Moved(address, Neighbour { interface, mac }) => {
            let on = interfaces.name(*interface);
            let what = format!("{address} has MAC address {mac} on {on} now");
            Happening::info(Kind::ServerMoved, what).of(*address)
        }
    }
}

fn info(kind: Kind, target: &Target, what: &str) -> Happening {
    let at = SocketAddr::new(target.address, target.port);
    Happening::info(kind, format!("{at} {what}")).of(target.address)
}

fn warning(kind: Kind, target: &Target, what: &str) -> Happening {
    let at = SocketAddr::new(target.address, target.port);
    Happening::warning(kind, format!("{at} {what}")).of(target.address)
}

fn by_epoch(epoch: Option<Epoch>) -> String {
    epoch.map_or_else(String::new, |epoch| format!(", by the record of epoch {epoch}"))
}

/// A server of a service.
fn behind(path: &Path) -> String {
    let Path { vip, port, address } = path;
    format!("{address} behind {}", SocketAddr::new(*vip, *port))
}

/// What its hosts said instead comes with it.
fn primary_lost(errors: &[String]) -> Happening {
    let mut text = "the primary does not answer; the readers stay as they are".to_owned();
    if !errors.is_empty() {
        text += &format!(" ({})", errors.join("; "));
    }
    Happening::warning(Kind::PrimaryLost, text)
}

fn several_primaries(hosts: &[IpAddr], claims: &[PrimaryClaim]) -> Happening {
    let told = |host: &IpAddr| {
        let claim = claims.iter().find(|claim| claim.host == *host);
        claim.map_or_else(|| host.to_string(), ToString::to_string)
    };
    let hosts: Vec<_> = hosts.iter().map(told).collect();
    let text = format!(
        "several hosts are out of recovery: {}; the readers stay as they are until one of them is \
         stopped or rewound",
        hosts.join("; ")
    );
    Happening::warning(Kind::SeveralPrimaries, text)
}

fn not_believed(answer: &PrimaryAnswer) -> Happening {
    let timeline = answer.timeline.map_or_else(String::new, |t| format!(" on timeline {t}"));
    let text = format!(
        "{} says that it is the primary{timeline}, but most standbys that answer belong to another \
         cluster or a later timeline: it is not believed, and the readers stay as they are; where it is \
         right, build the standbys anew from it",
        answer.host
    );
    Happening::warning(Kind::PrimaryLost, text).of(answer.host)
}

fn unheard(path: &Path) -> Happening {
    let text = format!(
        "{}: no probe through the VIP is answered, nor one of any other server of this service: they \
         serve on, for the reason may lie on this director",
        behind(path)
    );
    Happening::warning(Kind::VipUnheard, text).of(path.address)
}

fn server_down(target: &Target, down: Down) -> Happening {
    match down {
        Down::NotInRecovery => {
            info(Kind::ServerDown, target, "is no reader: it is not in recovery")
        }
        Down::Refused | Down::Silent | Down::NotAccepting | Down::Failing | Down::Unproven => {
            warning(Kind::ServerDown, target, &format!("gets no new connections: {down}"))
        }
    }
}

fn withheld(path: &Path, of: Withheld) -> Happening {
    let text = format!("{} gets no new connections: {}", behind(path), of.phrase());
    Happening::warning(Kind::ServerWithheld, text).of(path.address)
}

fn mended(path: &Path, of: Withheld) -> Happening {
    let text = format!("{}: no longer so: {}", behind(path), of.phrase());
    Happening::info(Kind::ServerMended, text).of(path.address)
}

fn falls_back(path: &Path) -> Happening {
    let text = format!("{} serves as the primary: no standby is left", behind(path));
    Happening::warning(Kind::FellBack, text).of(path.address)
}

fn falls_back_no_more(path: &Path) -> Happening {
    let text = format!("{} serves as the primary no more", behind(path));
    Happening::info(Kind::FellBack, text).of(path.address)
}

fn leaks(path: &Path, mac: Mac) -> Happening {
    let text = format!(
        "{} ({mac}) answers ARP or neighbour solicitations for the VIP, so that clients reach it past \
         this director; on that server: pgha realserver setup",
        behind(path)
    );
    Happening::warning(Kind::VipClaimed, text).of(path.address)
}
