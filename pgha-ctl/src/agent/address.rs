//! The writer VIP: on this node while it is the primary, and told to the network more than once.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pgha_machine::Epoch;
use tokio::task::JoinHandle;

use crate::guardian;
use crate::net::vip::{self, Placed};
use crate::net::{Interface, NetError, Netlink};

/// When it is told after it was put on: a lost announcement is followed by another.
const TOLD_AFTER: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(750),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// How long until what the kernel refused is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// The writer VIP, where there is one.
#[derive(Debug)]
pub(super) struct Address {
    placed: Option<Placed>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Address {
    /// Finds the interface for it. What a former agent left on it stays for now.
    ///
    /// # Errors
    /// The VIP lies in no subnet of this node, or the kernel does not answer.
    pub(super) async fn find(vip: Option<IpAddr>) -> Result<Self, NetError> {
        let placed = match vip {
            Some(vip) => {
                let netlink = Netlink::connect()?;
                Some(vip::place(netlink.handle(), vip).await?)
            }
            None => None,
        };
        Ok(Self { placed, task: Mutex::default() })
    }

    /// What a guardian takes off.
    pub(super) fn guarded(&self) -> Vec<guardian::Vip> {
        let vip = |placed: &Placed| guardian::Vip {
            address: placed.address(),
            prefix: placed.prefix(),
            interface: placed.interface().index().get(),
        };
        self.placed.iter().map(vip).collect()
    }

    /// It is here from now on.
    pub(super) fn claim(&self, epoch: Epoch) {
        let Some(placed) = self.placed.clone() else { return };
        let former = self.task().replace(tokio::spawn(hold(placed, epoch)));
        if let Some(former) = former {
            former.abort();
        }
    }

    /// It is not here any more.
    ///
    /// # Errors
    /// The kernel refuses to take it off.
    pub(super) async fn release(&self) -> Result<(), NetError> {
        let Some(placed) = &self.placed else { return Ok(()) };
        let task = self.task().take();
        if let Some(task) = task {
            task.abort();
            // It may be putting it on just now.
            let _ = task.await;
        }
        let netlink = Netlink::connect()?;
        if placed.remove(netlink.handle()).await? {
            let (vip, interface) = (placed.address(), placed.interface().name());
            tracing::info!("the writer VIP {vip} is off {interface}");
        }
        Ok(())
    }

    /// Whether it is claimed here.
    pub(super) fn claimed(&self) -> Option<IpAddr> {
        let placed = self.placed.as_ref()?;
        self.task().is_some().then(|| placed.address())
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts it on and tells everybody, as often as it takes.
async fn hold(placed: Placed, epoch: Epoch) {
    let (vip, interface): (_, &Interface) = (placed.address(), placed.interface());
    let mut told = None;
    while let Err(error) = put_on(&placed).await {
        let text = error.to_string();
        if told.as_ref() != Some(&text) {
            tracing::warn!(epoch = epoch.get(), "the writer VIP {vip} cannot be put on: {text}");
            told = Some(text);
        }
        tokio::time::sleep(AGAIN).await;
    }
    tracing::info!(epoch = epoch.get(), "the writer VIP {vip} is on {}", interface.name());
    let begun = tokio::time::Instant::now();
    for after in TOLD_AFTER {
        tokio::time::sleep_until(begun + after).await;
        if let Err(error) = vip::announce(interface, vip) {
            tracing::warn!(
                epoch = epoch.get(),
                "the writer VIP {vip} cannot be announced: {error}"
            );
        }
    }
}

async fn put_on(placed: &Placed) -> Result<(), NetError> {
    let netlink = Netlink::connect()?;
    placed.add(netlink.handle()).await
}
