//! Who else claims a VIP, on all interfaces.

use std::net::IpAddr;

use futures_util::future::select_all;

use super::interfaces::Interfaces;
use crate::net::NetError;
use crate::net::vip::{Claim, Claims};

/// Listens on every interface that has VIPs on its link. It also keeps these interfaces in the multicast
/// groups without which a card hands up no solicitation for an IPv6 VIP, and so is there for as long as the
/// VIPs are served, also where there is no other director.
#[derive(Debug, Default)]
pub(super) struct Listening(Vec<Claims>);

impl Listening {
    /// Begins to listen for claims of these VIPs.
    pub(super) fn open(interfaces: &Interfaces, vips: &[IpAddr]) -> Result<Self, NetError> {
        let opened = interfaces.with_vips(vips).into_iter();
        let opened = opened.map(|(interface, vips)| Claims::open(interface, vips));
        opened.collect::<Result<_, _>>().map(Self)
    }

    /// The next claim; none ever comes where nothing is listened to. Cancel-safe, as each of them is.
    pub(super) async fn next(&mut self) -> Result<Claim, NetError> {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.0.iter_mut().map(|claims| Box::pin(claims.next()))).await.0
    }

    /// Whether it has ended, or never began.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
