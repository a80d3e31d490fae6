//! The writer VIP: on this node while it is the primary under a lease that lasts, whoever takes it off meanwhile,
//! and off it otherwise, whoever puts it on. [`pgha_machine::vip`] decides; [`keeping`] asks the kernel and the
//! network, on a task of its own.

mod keeping;

use std::net::IpAddr;
use std::time::Duration;

use pgha_machine::vip::{Orders, Wanted};
use pgha_machine::{Epoch, Moment};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::keeping::{Keeping, Known, Ordered};
use super::error::AgentError;
use super::faults::Faults;
use super::status::RivalStatus;
use crate::guardian;
use crate::net::{Netlink, vip};

/// How long a release is waited for before it counts as failed. It is tried on and on, all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// The writer VIP is still on this node.
#[derive(Debug, thiserror::Error)]
#[error("the writer VIP {vip} is not off this node: {why}; it is tried again")]
pub struct NotReleased {
    vip: IpAddr,
    why: String,
}

/// The writer VIP, where there is one.
#[derive(Debug)]
pub(super) struct Address(Option<Kept>);

#[derive(Debug)]
struct Kept {
    vip: IpAddr,
    orders: watch::Sender<Ordered>,
    known: watch::Receiver<Known>,
    task: JoinHandle<()>,
}

impl Address {
    /// Finds the interface for it, and begins to look after it. What a former agent left on it stays until
    /// something is ordered. What is wrong with its link is told to `faults`.
    ///
    /// # Errors
    /// The VIP lies in no subnet of this node, or the kernel does not answer.
    pub(super) async fn find(vip: Option<IpAddr>, faults: Faults) -> Result<Self, AgentError> {
        let Some(vip) = vip else { return Ok(Self(None)) };
        let netlink = Netlink::connect()?;
        let placed = vip::place(netlink.handle(), vip).await?;
        let undecided = Orders { wanted: Wanted::Undecided, until: Moment::new(u64::MAX) };
        let (orders, ordered) = watch::channel(Ordered { orders: undecided, turn: 0 });
        let (tell, known) = watch::channel(Known::of(placed));
        let keeping = Keeping::new(ordered, tell, faults).map_err(AgentError::Timer)?;
        Ok(Self(Some(Kept { vip, orders, known, task: tokio::spawn(keeping.run()) })))
    }

    /// What a guardian takes off.
    pub(super) fn guarded(&self) -> Vec<guardian::Vip> {
        let vip = |kept: &Kept| {
            let placed = &kept.known.borrow().placed;
            guardian::Vip {
                address: placed.address(),
                prefix: placed.prefix(),
                interface: placed.interface().index().get(),
            }
        };
        self.0.iter().map(vip).collect()
    }

    /// It is here from now on, in that epoch, for as long as the lease lasts.
    pub(super) fn claim(&self, epoch: Epoch) {
        self.want(Wanted::Here(epoch));
    }

    /// This node is about to be the primary: it is found out whether anybody has it.
    pub(super) fn expect(&self) {
        self.want(Wanted::Soon);
    }

    /// From that moment on it is not here, whatever is wanted.
    pub(super) fn license(&self, until: Moment) {
        self.order(|ordered| ordered.orders.until = until);
    }

    /// It is not here any more. Nobody waits for that.
    pub(super) fn forbid(&self) {
        self.order(|ordered| ordered.orders = Orders::OFF);
    }

    /// It is not here any more: that was seen.
    ///
    /// # Errors
    /// It was not seen in time.
    pub(super) async fn release(&self) -> Result<(), NotReleased> {
        let Some(kept) = &self.0 else { return Ok(()) };
        let mut turn = 0;
        self.order(|ordered| {
            ordered.orders = Orders::OFF;
            ordered.turn += 1;
            turn = ordered.turn;
        });
        let mut known = kept.known.clone();
        let off = known.wait_for(|known| known.off >= turn);
        if matches!(tokio::time::timeout(PATIENCE, off).await, Ok(Ok(_))) {
            return Ok(());
        }
        let why = kept.known.borrow().trouble.clone();
        let why = why.unwrap_or_else(|| "the kernel has not answered".to_owned());
        Err(NotReleased { vip: kept.vip, why })
    }

    /// Whether it is claimed here, and was seen.
    pub(super) fn claimed(&self) -> Option<IpAddr> {
        let kept = self.0.as_ref()?;
        kept.known.borrow().here.then_some(kept.vip)
    }

    /// Who else has it, while it is or is about to be here.
    pub(super) fn rivals(&self) -> Vec<RivalStatus> {
        self.0.as_ref().map(|kept| kept.known.borrow().rivals.clone()).unwrap_or_default()
    }

    /// What keeps it from being as it should.
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.as_ref().and_then(|kept| kept.known.borrow().trouble.clone())
    }

    fn want(&self, wanted: Wanted) {
        self.order(|ordered| ordered.orders.wanted = wanted);
    }

    fn order(&self, change: impl FnOnce(&mut Ordered)) {
        if let Some(kept) = &self.0 {
            kept.orders.send_modify(change);
        }
    }
}

impl Drop for Kept {
    /// What is on stays on: the next agent takes it over.
    fn drop(&mut self) {
        self.task.abort();
    }
}
