//! Fence devices: a node is turned off from outside, whatever it does itself.
//!
//! A device is asked by one of the executables that are named `fence_*` (fence_ipmilan, fence_apc, ...), by the
//! interface that ClusterLabs documents for them (`doc/FenceAgentAPI.md` in ClusterLabs/fence-agents): `name=value`
//! lines on stdin, and an exit code. [`Fencing::turn_off`] tells for certain that a node is off, or it is an error:
//! an error or a timeout is no proof.

mod device;
mod error;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use device::{Device, Secret, State};
pub use error::{CallError, FenceError};
use pgha_machine::NodeName;

/// Devices that turn a node off only together: both power supplies of it. Never empty.
#[derive(Clone, Debug)]
pub struct Level(pub Vec<Device>);

/// Which devices turn which node off. Of several levels the first that works is enough.
#[derive(Clone, Debug, Default)]
pub struct Fencing {
    /// The levels of each node, in their order.
    pub levels: BTreeMap<NodeName, Vec<Level>>,
    /// How long one call of a device may take.
    pub patience: Duration,
}

impl Fencing {
    /// The nodes that can be turned off.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeName> {
        let able =
            |(node, levels): (&NodeName, &Vec<Level>)| (!levels.is_empty()).then(|| node.clone());
        self.levels.iter().filter_map(able).collect()
    }

    /// Turns a node off. When this returns, it was off at a moment after this began: all devices of one level did
    /// what they were told, and each of them said after that that it is off.
    ///
    /// # Errors
    /// No level could do it: why not, level by level. The node may be off all the same.
    pub async fn turn_off(&self, node: &NodeName) -> Result<(), FenceError> {
        let mut failed = Vec::new();
        let levels = self.levels.get(node).map_or(&[][..], Vec::as_slice);
        for (number, level) in (1..).zip(levels) {
            match self.all_off(node, level).await {
                Ok(()) => {
                    tracing::info!(
                        "{node} is turned off, and its devices of level {number} confirm it"
                    );
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!("level {number} could not turn {node} off: {error}");
                    failed.push((number, error));
                }
            }
        }
        Err(FenceError { node: node.clone(), failed })
    }

    async fn all_off(&self, node: &NodeName, level: &Level) -> Result<(), CallError> {
        for device in &level.0 {
            device.turn_off(node, self.patience).await?;
        }
        // One of two power supplies that is on again keeps a node running.
        for device in &level.0 {
            match device.state(node, self.patience).await? {
                State::Off => {}
                State::On => return Err(CallError::StillOn { device: device.name.clone() }),
            }
        }
        Ok(())
    }
}
