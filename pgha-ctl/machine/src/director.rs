//! Which of several directors answers for the VIPs, as far as they can tell from the network alone.
//!
//! ```text
//!                take                    HANDOVER later
//!   standby -------------> taking over -----------------> active
//!      ^                        |                           |
//!      +------------------------+---------------------------+
//!                 released, or another MAC address announces a VIP
//! ```
//!
//! Who takes over announces first, once more halfway, and answers a moment later: by then the former one
//! has heard it and answers no more, so that nobody who asks gets two answers. Forwarding depends on none of this: a
//! director forwards whatever is addressed to it.

use std::net::IpAddr;
use std::time::Duration;

use crate::Mac;

/// How long after its first announcement a director begins to answer.
pub const HANDOVER: Duration = Duration::from_millis(200);
/// How long after it the second follows.
const REPEAT: Duration = Duration::from_millis(100);
/// Announcements of two directors that are less than this apart may have crossed: neither had heard the
/// other's. Both then go by their MAC addresses, so that one of them is left. One that had been heard before
/// the other was made is not told from that, and therefore who takes over announces twice.
pub const CROSSING: Duration = Duration::from_millis(20);

/// The part of a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It answers ARP requests and neighbour solicitations for the VIPs.
    Active,
    /// It has announced that it has the VIPs, and answers from then on.
    TakingOver {
        /// When it announced first, by the clock of [`Director::handle`].
        since: Duration,
        /// Whether it has announced again.
        again: bool,
    },
    /// It answers for no VIP. Connections that come to it are served all the same.
    Standby,
}

impl Role {
    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::TakingOver { .. } => "taking_over",
            Self::Standby => "standby",
        }
    }
}

/// What happens to a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operator wants it to be the active one.
    Take,
    /// An operator wants it not to be.
    Release,
    /// It told the network where the VIPs are.
    Announced,
    /// Another host told the network that a VIP is there.
    Claimed {
        /// MAC address of this director, on that network.
        own: Mac,
        /// The other's.
        by: Mac,
    },
    /// Time passed.
    Tick,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the network that the VIPs are here.
    Announce,
    /// Begin to answer for them, and repeat that they are here.
    Answer,
    /// Answer for them no more, and say nothing of them any more.
    Withdraw,
}

/// What somebody was heard to do with a VIP before this director served it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which VIP.
    pub vip: IpAddr,
    /// Who.
    pub by: Mac,
    /// MAC address of this director, on that network.
    pub own: Mac,
    /// It only asked whether anybody has it, as this director did.
    pub asks: bool,
}

/// A director's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Director {
    role: Role,
    /// When it announced last.
    announced: Option<Duration>,
}

impl Director {
    /// A director with that role.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self { role, announced: None }
    }

    /// Its role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub const fn deadline(&self) -> Option<Duration> {
        match self.role {
            Role::TakingOver { since, again: false } => Some(since.saturating_add(REPEAT)),
            Role::TakingOver { since, again: true } => Some(since.saturating_add(HANDOVER)),
            Role::Active | Role::Standby => None,
        }
    }

    /// Takes in what happened at `now`, by any clock that does not run backwards.
    pub fn handle(&mut self, now: Duration, event: Event) -> Option<Effect> {
        match (self.role, event) {
            (Role::Standby, Event::Take) => {
                self.turn(Role::TakingOver { since: now, again: false }, Effect::Announce)
            }
            (Role::TakingOver { since, again: false }, Event::Tick) if now >= since + REPEAT => {
                self.turn(Role::TakingOver { since, again: true }, Effect::Announce)
            }
            (Role::TakingOver { since, again: true }, Event::Tick) if now >= since + HANDOVER => {
                self.turn(Role::Active, Effect::Answer)
            }
            (Role::Active | Role::TakingOver { .. }, Event::Release) => {
                self.turn(Role::Standby, Effect::Withdraw)
            }
            (Role::Active | Role::TakingOver { .. }, Event::Claimed { own, by })
                if !self.crossed(now) || by < own =>
            {
                self.turn(Role::Standby, Effect::Withdraw)
            }
            (_, Event::Announced) => {
                self.announced = Some(now);
                None
            }
            (Role::Active, Event::Take | Event::Tick | Event::Claimed { .. })
            | (Role::TakingOver { .. }, Event::Take | Event::Tick | Event::Claimed { .. })
            | (Role::Standby, Event::Release | Event::Tick | Event::Claimed { .. }) => None,
        }
    }

    const fn turn(&mut self, role: Role, effect: Effect) -> Option<Effect> {
        self.role = role;
        Some(effect)
    }

    fn crossed(&self, now: Duration) -> bool {
        self.announced.is_some_and(|announced| now < announced + CROSSING)
    }
}

/// The role with which a director begins. `inherited` is what a former controller of this node left in a
/// data plane that serves: whether it answers. `is_peer` knows the other directors.
///
/// # Errors
/// The host that uses a VIP and is no director of this cluster, where nothing serves yet.
pub fn first_role(
    inherited: Option<bool>,
    heard: &[Heard],
    is_peer: impl Fn(Mac) -> bool,
) -> Result<Role, Heard> {
    let peer_has_it = |heard: &&Heard| is_peer(heard.by) && !heard.asks;
    match inherited {
        Some(false) => Ok(Role::Standby),
        // Who only asks is answered by the data plane, and stands by then.
        Some(true) if heard.iter().any(|heard| peer_has_it(&heard)) => Ok(Role::Standby),
        Some(true) => Ok(Role::Active),
        None => {
            if let Some(stranger) = heard.iter().find(|heard| !is_peer(heard.by)) {
                return Err(*stranger);
            }
            // Of those who ask at the same time, the one with the lowest MAC address goes on.
            let goes_first = |heard: &Heard| !heard.asks || heard.by < heard.own;
            Ok(if heard.iter().any(goes_first) { Role::Standby } else { Role::Active })
        }
    }
}

#[cfg(test)]
mod tests;
