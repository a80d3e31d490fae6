use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::sysctl::Setting;

/// One thing done, or found to need nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", content = "of", rename_all = "snake_case")]
pub enum Step {
    /// Changed to the value a real server needs.
    SysctlSet(Setting),
    /// As it should be; untouched.
    SysctlKept {
        /// Such as `net.ipv4.conf.all.arp_ignore`.
        name: String,
        /// What it is.
        value: i32,
    },
    /// Back to its earlier value.
    SysctlRestored(Setting),
    /// Somebody changed it after the set-up; untouched.
    SysctlLeft {
        /// What the set-up did.
        setting: Setting,
        /// What it is now.
        found: i32,
    },
    /// Put on `lo`.
    AddressAdded(IpAddr),
    /// On `lo` already; untouched.
    AddressKept(IpAddr),
    /// Taken from `lo`.
    AddressRemoved(IpAddr),
    /// The set-up had added it, somebody removed it since.
    AddressGone(IpAddr),
    /// The state directory holds no record.
    NothingToUndo {
        /// Where it was looked for.
        state_dir: PathBuf,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SysctlSet(Setting { name, before, set }) => {
                write!(f, "set {name} = {set} (was {before})")
            }
            Self::SysctlKept { name, value } => write!(f, "kept {name} = {value}"),
            Self::SysctlRestored(Setting { name, before, set }) => {
                write!(f, "restored {name} = {before} (was {set})")
            }
            Self::SysctlLeft { setting: Setting { name, before, set }, found } => write!(
                f,
                "left {name} = {found}: it was set to {set} and changed since; before the set-up it was {before}"
            ),
            Self::AddressAdded(vip) => write!(f, "added {} to lo", host(vip)),
            Self::AddressKept(vip) => write!(f, "kept {vip} on lo"),
            Self::AddressRemoved(vip) => write!(f, "removed {} from lo", host(vip)),
            Self::AddressGone(vip) => write!(f, "{} was gone from lo already", host(vip)),
            Self::NothingToUndo { state_dir } => {
                write!(f, "nothing to undo: {} has no record of a set-up", state_dir.display())
            }
        }
    }
}

/// With its prefix length.
fn host(vip: &IpAddr) -> IpNet {
    IpNet::from(*vip)
}

/// What a run did, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<Step>);

impl Report {
    /// The steps in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(super) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub(super) fn take(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.0)
    }
}

impl From<Vec<Step>> for Report {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

/// One step a line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{step}")?;
        }
        Ok(())
    }
}
