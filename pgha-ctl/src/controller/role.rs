//! The role of this director: whether it answers for the VIPs, and who else says that they are its.

use std::time::Instant;

use futures_util::FutureExt as _;
use pgha_machine::director::{Effect, Event, Role};
use tokio::sync::oneshot;

use super::claims::Listening;
use super::events::{Happening, Kind};
use super::neighbours::Announcements;
use super::status::{Refusal, RoleOrder, RoleReply, RoleRequest, SCHEMA};
use super::{Controller, preflight};
use crate::net::NetError;
use crate::net::vip::Claim;

/// Where an answer to an operator goes.
pub(super) type Reply = oneshot::Sender<Result<RoleReply, Refusal>>;

/// What waits for the role to be settled.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Operators who want this director to be active.
    takers: Vec<Reply>,
}

impl Controller {
    /// Stands by if another director answers for the VIPs, after a role that a former controller left. A data
    /// plane that serves does not wait for that, and is not given up because a stranger answers too.
    pub(super) async fn confirm_role(&mut self) {
        let active = self.role.role() == Role::Active;
        match preflight::role(&self.interfaces, &self.config, Some(active)).await {
            Ok(Role::Standby) if active => self.role_event(Event::Release, ""),
            Ok(_) => {}
            Err(error) => tracing::warn!("who else has the VIPs is not known: {error}"),
        }
    }

    /// When the role is to be looked at again.
    pub(super) fn role_due(&self) -> Option<Instant> {
        self.role.deadline().map(|due| self.started + due)
    }

    /// An operator's word on the role. Who takes it is answered when it has it.
    pub(super) fn steer_role(&mut self, request: RoleRequest, reply: Reply) {
        match request.role {
            RoleOrder::Take => {
                if self.attach_by.is_some() {
                    let error = "the controller is still checking the servers; try again when `pgha \
                                 status` says that it has started";
                    let _ = reply.send(Err(Refusal { error: error.to_owned() }));
                    return;
                }
                let text = "an operator has this director take the VIPs";
                self.tell(Happening::info(Kind::Ordered, text));
                // What was said before is no answer to what this director is about to say.
                while let Some(claim) = self.listening.next().now_or_never() {
                    self.claimed(claim);
                }
                self.waiting.takers.push(reply);
                self.role_event(Event::Take, "");
                self.settle();
            }
            RoleOrder::Release => {
                let text = "an operator has this director release the VIPs";
                self.tell(Happening::info(Kind::Ordered, text));
                self.role_event(Event::Release, "an operator released the VIPs meanwhile");
                // Whoever asked may be gone by now.
                let _ = reply.send(Ok(self.role_reply()));
            }
        }
    }

    /// Time has come for a director that takes over.
    pub(super) fn role_tick(&mut self) {
        self.role_event(Event::Tick, "");
        self.settle();
    }

    /// Takes in that somebody else says that a VIP is its.
    pub(super) fn claimed(&mut self, claim: Result<Claim, NetError>) {
        let Claim { vip, mac } = match claim {
            Ok(claim) => claim,
            Err(error) => {
                tracing::warn!("claims of the VIPs are not heard, trying again soon: {error}");
                self.listening = Listening::default();
                return;
            }
        };
        // One of this node's own, heard by another of them.
        if self.interfaces.macs().contains(&mac) {
            return;
        }
        // Who is no director takes nothing over: it leaks.
        let may_be_peer = self.peers.may_have(mac, self.config.director());
        if !may_be_peer || (!self.peers.has(mac) && self.is_nodes(mac)) {
            self.leaks(vip, mac, "announces");
            // Whoever heard that is told better, and not more often than these announcements take.
            if self.announcements.next().is_none() {
                self.announce_again();
            }
            return;
        }
        if self.role.role() == Role::Standby {
            return;
        }
        let own = self.interfaces.of(vip).mac();
        let why = format!("{mac} announced VIP {vip} in the same moment");
        self.role_event(Event::Claimed { own, by: mac }, &why);
        if self.role.role() == Role::Standby {
            let text = format!("{mac} announces VIP {vip}: this director stands by from now on");
            self.tell(Happening::warning(Kind::VipClaimed, text));
        }
    }

    /// `why` is for those who wait for the role and do not get it.
    fn role_event(&mut self, event: Event, why: &str) {
        match self.role.handle(self.started.elapsed(), event) {
            Some(Effect::Announce) => self.announce_once(),
            Some(Effect::Answer) => {
                self.program();
                // What is asked by now, the former director may have answered rightly.
                self.leaks.forget_questions();
                self.announcements = Announcements::from_now();
                self.tell(Happening::info(Kind::Role, "this director is the active one now"));
            }
            Some(Effect::Withdraw) => {
                // Nothing is said of the VIPs any more, in whatever state the data plane is.
                self.announcements = Announcements::none();
                self.program();
                for taker in self.waiting.takers.drain(..) {
                    let _ = taker.send(Err(Refusal { error: why.to_owned() }));
                }
                self.tell(Happening::info(Kind::Role, "this director stands by"));
            }
            None => {}
        }
    }

    /// Answers those who wait for this director to be active, once it is.
    fn settle(&mut self) {
        if self.role.role() == Role::Active {
            let reply = self.role_reply();
            for taker in self.waiting.takers.drain(..) {
                let _ = taker.send(Ok(reply.clone()));
            }
        }
    }

    fn role_reply(&self) -> RoleReply {
        RoleReply { schema: SCHEMA, role: self.role.role().name().to_owned() }
    }

    /// Listens for claims again, where that has ended.
    pub(super) fn listen(&mut self) {
        match Listening::open(&self.interfaces, &preflight::vips(&self.config)) {
            Ok(listening) => self.listening = listening,
            Err(error) => {
                tracing::warn!("claims of the VIPs are not heard, trying again soon: {error}");
                self.listening = Listening::default();
            }
        }
    }
}
