//! What the XDP program costs a frame.

use std::fmt;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::Xdp;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Map, Value};

use super::{live, single};
use crate::lab::artifacts::ebpf_object;
use crate::lab::require_root;

/// The figures: by their names, in the order they are told in.
#[derive(Debug)]
pub struct Figures(Vec<Row>);

#[derive(Debug)]
struct Row {
    /// Its key in JSON, without `_ns`.
    key: &'static str,
    meaning: &'static str,
    nanoseconds: f64,
    /// What of that is the program's own.
    over_floor: Option<f64>,
    unit: &'static str,
}

/// Measures everything, on one CPU.
///
/// # Errors
/// Without root, without the eBPF objects, and when a frame gets another verdict than the one that is
/// to be measured.
pub fn measure() -> Result<Figures> {
    require_root()?;
    stay_on_one_cpu()?;
    let live = live::measure()?;
    let mut stubs = stubs()?;
    let single = single::measure(load(&mut stubs, "xdp_pass")?)?;
    let over = |floor: f64| {
        move |key, meaning, nanoseconds: f64| {
            let over_floor = Some(nanoseconds - floor);
            Row { key, meaning, nanoseconds, over_floor, unit: "ns" }
        }
    };
    let alone =
        |key, meaning, nanoseconds| Row { key, meaning, nanoseconds, over_floor: None, unit: "ns" };
    let (one, many) = (over(single.floor), over(live.floor));
    Ok(Figures(vec![
        alone("floor", "one run, empty program", single.floor),
        one("established", "established flow, 1,000 of them", single.established),
        one("established_100k", "established flow, 100,000 of them", single.established_many),
        one("new_flow", "new flow", single.new_flow),
        one("new_flow_full", "new flow, table of pending ones full", single.new_flow_full),
        one("pass", "not for a VIP: passed", single.pass),
        one("drop", "SYN+FIN to a VIP: dropped", single.drop),
        alone("live_floor", "live frame, dropped at once", live.floor),
        many("live_tx", "live frame, sent as it is", live.sent),
        many("live", "live frame, balanced and sent", live.balanced),
        Row { unit: "bytes", ..alone("bytes_per_flow_v4", "an IPv4 flow", single.bytes_per_flow) },
    ]))
}

impl Figures {
    /// One object: a member for each figure.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        for row in &self.0 {
            let suffix = if row.unit == "ns" { "_ns" } else { "" };
            members.insert(format!("{}{suffix}", row.key), tenths(row.nanoseconds).into());
            if let Some(over) = row.over_floor {
                members.insert(format!("{}_over_floor_ns", row.key), tenths(over).into());
            }
        }
        Value::Object(members)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:38}{:>12}{:>14}", "median of a frame", "", "over floor")?;
        for Row { meaning, nanoseconds, over_floor, unit, .. } in &self.0 {
            write!(f, "{meaning:38}{nanoseconds:>6.1} {unit:5}")?;
            match over_floor {
                Some(over) => writeln!(f, "{over:>8.1} ns")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Keeps this thread on the last CPU it may use: moving between CPUs would show in the figures, and
/// the first one has most of the machine's interrupts.
fn stay_on_one_cpu() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("a CPU")?)?;
    Ok(sched_setaffinity(this, &one)?)
}

/// The programs of one verdict.
pub(super) fn stubs() -> Result<Ebpf> {
    Ok(Ebpf::load_file(ebpf_object("stubs")?)?)
}

/// Loads one of them into the kernel.
pub(super) fn load<'a>(stubs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp = stubs.program_mut(name).context(name)?.try_into()?;
    program.load()?;
    Ok(program)
}

/// One that is loaded.
pub(super) fn stub<'a>(stubs: &'a Ebpf, name: &'static str) -> Result<&'a Xdp> {
    Ok(stubs.program(name).context(name)?.try_into()?)
}
