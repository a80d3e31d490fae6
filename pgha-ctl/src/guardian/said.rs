//! What agent and guardian say to each other: one line of JSON for each order and each answer.
//!
//! A guardian outlives its agent, and may be of another version than the next one. That one replaces it, and has it
//! stand down when the new guardian has confirmed. So [`Order::Look`], [`Order::StandDown`], [`Order::Renew`], and
//! their answers keep their form for ever; the others may change.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

use pgha_machine::Moment;
use serde::{Deserialize, Serialize};

use super::watch::Refusal;

/// The longest line: a path of the greatest length, and room beside it.
pub(super) const MAX_LINE: usize = 8 << 10;

/// What is to be given up, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// The number of the start of PostgreSQL.
    pub start: u64,
    /// The cgroup it runs in: every process in it and below is killed.
    pub cgroup: PathBuf,
    /// Addresses to be taken off.
    pub vips: Vec<Vip>,
    /// When, unless another moment is told before. Of `CLOCK_BOOTTIME`.
    #[serde(with = "milliseconds")]
    pub until: Moment,
}

/// An address on an interface of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix, as it was put on with.
    pub prefix: u8,
    /// The index of the interface.
    pub interface: u32,
}

/// What was done at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surrendered {
    /// Of which start.
    pub start: u64,
    /// When it was done: milliseconds of `CLOCK_BOOTTIME`.
    #[serde(with = "milliseconds")]
    pub at: Moment,
    /// What the kernel said where the cgroup could not be killed, other than that it is gone.
    pub kill: Option<String>,
    /// What it said of the addresses that could not be taken off, other than that they were not there.
    pub vips: Vec<(IpAddr, String)>,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Order {
    /// Whether anybody answers.
    Look,
    Guard(Charge),
    Renew {
        start: u64,
        #[serde(with = "milliseconds")]
        until: Moment,
    },
    StandDown {
        start: u64,
    },
}

/// An order with its number, by which its answer is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) order: Order,
}

/// From the guardian: an answer to each order, and [`Answer::Surrendered`] whenever that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    Done {
        number: u64,
    },
    /// 0 for what has no readable number.
    Refused {
        number: u64,
        refusal: Refusal,
    },
    Surrendered(Surrendered),
}

impl Numbered {
    /// Reads a line.
    pub(super) fn read(line: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(line).map_err(|error| Refusal::Unclear { why: error.to_string() })
    }
}

/// A line, with its end.
pub(super) fn line(said: &impl Serialize) -> Vec<u8> {
    // Nothing that is said has a value that JSON has no word for, but a path may be no text.
    let mut line = serde_json::to_vec(said).unwrap_or_default();
    line.push(b'\n');
    line
}

mod milliseconds {
    use pgha_machine::Moment;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(moment: &Moment, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(moment.milliseconds())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
        u64::deserialize(from).map(Moment::new)
    }
}
