//! Hosts that answer for the VIPs and should not: real servers whose `arp_ignore` is wrong.
//!
//! Clients that hear such an answer before the director's send everything to that one server, past every
//! decision. Nobody announces that, so the director asks as a client would, and looks who answers.
//!
//! One task for each round of questions; ending it at any point loses nothing but that round.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pgha_machine::Mac;
use pgha_machine::balancer::Event;
use pgha_machine::director::Role;
use tokio::task::JoinSet;

use super::events::{Happening, Kind};
use super::interfaces::Interfaces;
use super::{Controller, preflight};
use crate::net::{NetError, vip};

/// How often who has the VIPs is asked.
pub(super) const ROUND: Duration = Duration::from_secs(5);
/// How long others have to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the same host's answers are told.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// What came of one question.
pub(super) type Answers = Result<Vec<(IpAddr, Mac)>, NetError>;

/// The questions that wait for their answers, and who was told of.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    asking: JoinSet<Answers>,
    told: Told,
}

/// Whom people were told of.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<(IpAddr, Mac, Instant)>);

impl Told {
    /// Whether it is time to tell of this one, which is taken as told then.
    pub(super) fn is_due(&mut self, vip: IpAddr, mac: Mac, now: Instant) -> bool {
        self.0.retain(|(_, _, at)| now < *at + TOLD_AGAIN);
        let known = self.0.iter().any(|(of, by, _)| (*of, *by) == (vip, mac));
        if !known {
            self.0.push((vip, mac, now));
        }
        !known
    }
}

impl Leaks {
    /// Asks for each VIP, unless the questions before still wait.
    fn ask(&mut self, interfaces: &Interfaces, vips: &[IpAddr]) {
        if !self.asking.is_empty() {
            return;
        }
        let all = vips.iter().copied().collect();
        for vip in vips.iter().copied() {
            let interface = interfaces.of(vip).clone();
            // Without an address of that family nobody could answer.
            let Some(own) = interface.asks(vip, &all) else { continue };
            self.asking.spawn(async move {
                let heard = vip::answerers(&interface, own, vip, PATIENCE).await?;
                Ok(heard.into_iter().map(|mac| (vip, mac)).collect())
            });
        }
    }

    /// Has no question that was asked by now answered.
    pub(super) fn forget_questions(&mut self) {
        self.asking = JoinSet::new();
    }

    /// The next answers; none ever come while nothing is asked. Cancel-safe.
    pub(super) async fn next(&mut self) -> Answers {
        loop {
            match self.asking.join_next().await {
                Some(Ok(answers)) => return answers,
                // It panicked, which was told then; the next round asks again.
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }
}

impl Controller {
    /// Asks who answers for the VIPs. Whoever stands by asks too: an answer of a server is wrong beside any
    /// director's.
    pub(super) fn look_for_leaks(&mut self) {
        self.leaks.ask(&self.interfaces, &preflight::vips(&self.config));
    }

    /// Takes in who did.
    pub(super) fn leaked(&mut self, answers: Answers) {
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!("who answers for the VIPs is not known: {error}");
                return;
            }
        };
        for (vip, mac) in answers {
            if self.interfaces.macs().contains(&mac) {
                continue;
            }
            if !self.peers.has(mac) {
                self.leaks(vip, mac, "answers for");
            } else if self.role.role() == Role::Active {
                self.two_are_active(vip, mac);
            }
        }
    }

    /// Another director answers for a VIP beside this one. Nobody can tell from here which of them is to go.
    fn two_are_active(&mut self, vip: IpAddr, mac: Mac) {
        if self.leaks.told.is_due(vip, mac, Instant::now()) {
            let text = format!(
                "director {mac} answers for VIP {vip} too: it is active beside this one, or its kernel has \
                 the VIP; have one of them release the VIPs, and take the VIP off its interfaces"
            );
            self.tell(Happening::warning(Kind::VipClaimed, text));
        }
    }

    /// A host that is no director claims a VIP. The machine tells of real servers.
    pub(super) fn leaks(&mut self, vip: IpAddr, mac: Mac, does: &str) {
        self.balancer.handle(self.now(), Event::VipAnswered { vip, mac });
        if !self.is_servers(mac) && self.leaks.told.is_due(vip, mac, Instant::now()) {
            let text = format!(
                "{mac} {does} VIP {vip} too, and is neither a director nor a real server; this director \
                 keeps it; stop that host from it, or name it as [[director.peer]]"
            );
            self.tell(Happening::warning(Kind::VipClaimed, text));
        }
    }

    /// Whether a MAC address is that of a node of the configuration or of a real server.
    pub(super) fn is_nodes(&self, mac: Mac) -> bool {
        let has =
            |address| self.balancer.neighbour_at(address).is_some_and(|known| known.mac == mac);
        self.config.nodes().iter().any(|node| has(node.address)) || self.is_servers(mac)
    }

    /// Whether a MAC address is that of a real server that is another node.
    pub(super) fn is_servers(&self, mac: Mac) -> bool {
        self.balancer.is_server(mac)
    }
}

#[cfg(test)]
mod tests;
