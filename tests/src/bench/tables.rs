//! The look-up tables: whether shares are those of the weights, what a change moves, how long one takes.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::Result;
use pgha_common::maps::Scheduler;
use pgha_ctl::bpf::xdp::DataPlane;
use pgha_machine::EffectiveWeight;
use pgha_machine::balancer::Plan;
use pgha_machine::table::{Entry, excess_remap, maglev, share_error};

use super::samples::Samples;
use crate::dataplane::{PrivateBpffs, Random, VIP, director, real, service, settings};

/// Sets of servers that are looked at.
const SETS: u32 = 200;
/// Changes of a plan that are timed.
const SWAPS: u16 = 41;
/// Servers of the service whose plan changes.
const SERVERS: u16 = 64;

/// What the tables are like.
pub(super) struct Figures {
    /// The largest difference of a share from its weight, in percent of it.
    pub(super) share_error: f64,
    /// How many slots a change moves beyond those it must, in percent of all: in the mean, at most.
    pub(super) remaps: (f64, f64),
    /// How long it takes until a change is in force, in milliseconds: the median of building the table of
    /// [`SERVERS`] servers, writing it and switching to it.
    pub(super) swap: f64,
}

pub(super) fn measure() -> Result<Figures> {
    eprintln!("look-up tables ...");
    let mut random = Random::new(1);
    let (mut errors, mut remaps) = (Vec::new(), Vec::new());
    for set in 0..SETS {
        let few = servers(&mut random, 2 + set % 15);
        let before = maglev(&few);
        let changed = change(&mut random, &few);
        let after = maglev(&changed);
        remaps.push(100.0 * excess_remap(&before, &after));
        let many = servers(&mut random, 2 + set % 63);
        errors.push(100.0 * share_error(&few, &before));
        errors.push(100.0 * share_error(&many, &maglev(&many)));
    }
    let most = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let mean = remaps.iter().sum::<f64>() / remaps.len() as f64;
    Ok(Figures { share_error: most(&errors), remaps: (mean, most(&remaps)), swap: swap()? })
}

/// So many servers, at addresses and with weights of chance.
fn servers(random: &mut Random, count: u32) -> Vec<Entry> {
    (1..=count)
        .filter_map(|number| {
            let weight = EffectiveWeight::new(u16::try_from(1 + random.below(20)).ok()?)?;
            let address =
                Ipv4Addr::from(0x0a00_0000 + number * 256 + u32::try_from(random.below(256)).ok()?);
            Some(Entry { id: u16::try_from(number).ok()?, address: address.into(), weight })
        })
        .collect()
}

/// One of them is gone, or has another weight.
fn change(random: &mut Random, servers: &[Entry]) -> Vec<Entry> {
    let mut changed = servers.to_vec();
    let index = random.below(servers.len());
    changed[index].weight =
        match u16::try_from(random.below(21)).ok().and_then(EffectiveWeight::new) {
            Some(weight) if weight != changed[index].weight => weight,
            _ => EffectiveWeight::ZERO,
        };
    changed
}

/// Milliseconds from a plan to the table in force.
fn swap() -> Result<f64> {
    let bpffs = PrivateBpffs::mount()?;
    let mut data_plane = DataPlane::load(settings(&bpffs, 1024, 1024)?)?;
    let mut samples = Samples::default();
    for turn in 0..SWAPS {
        let mut reals: Vec<_> = (1..=SERVERS).map(real).collect();
        if let Some(weight) = EffectiveWeight::new(2 + turn) {
            reals[usize::from(turn % SERVERS)].weight = weight;
        }
        let plan = Plan { services: vec![service(VIP, Scheduler::Maglev, reals)] };
        let began = Instant::now();
        data_plane.apply(&director(), &plan)?;
        samples.push(u32::try_from(began.elapsed().as_micros())?);
    }
    Ok(samples.median() / 1000.0)
}
