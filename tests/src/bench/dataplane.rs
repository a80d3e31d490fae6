//! What the XDP program costs a frame.

use std::fmt;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::Xdp;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Map, Value};

use super::{live, single, tables};
use crate::lab::artifacts::ebpf_object;
use crate::lab::require_root;

/// The figures: by their names, in the order they are told in.
#[derive(Debug)]
pub struct Figures(Vec<Row>);

#[derive(Debug)]
struct Row {
    /// Its key in JSON, without its unit.
    key: &'static str,
    meaning: &'static str,
    value: f64,
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
    let tables = tables::measure()?;
    let live = live::measure()?;
    let mut stubs = stubs()?;
    load(&mut stubs, "xdp_pass")?;
    load(&mut stubs, "lru_forwarder")?;
    let single = single::measure(&stubs)?;
    let timed = |key, meaning, nanoseconds: f64, floor: Option<f64>| {
        let over_floor = floor.map(|floor| nanoseconds - floor);
        Row { key, meaning, value: nanoseconds, over_floor, unit: "ns" }
    };
    let plain = |key, meaning, value, unit| Row { key, meaning, value, over_floor: None, unit };
    let mut rows = vec![timed("floor", "one run, empty program", single.floor, None)];
    rows.extend(
        single
            .timed
            .iter()
            .map(|row| timed(row.key, row.meaning, row.nanoseconds, Some(single.floor))),
    );
    let bytes = [("bytes_per_flow_v4", "an IPv4 flow"), ("bytes_per_flow_v6", "an IPv6 flow")];
    rows.extend([
        timed("live_floor", "live frame, dropped at once", live.floor, None),
        timed("live_tx", "live frame, sent as it is", live.sent, Some(live.floor)),
        timed("live", "live frame, balanced and sent", live.balanced, Some(live.floor)),
    ]);
    rows.extend(
        bytes
            .into_iter()
            .zip(single.bytes_per_flow)
            .map(|((key, meaning), value)| plain(key, meaning, value, "bytes")),
    );
    rows.extend([
        plain("shares_error_max", "shares, furthest from weights", tables.share_error, "%"),
        plain("remaps_excess_mean", "a change moves too much, mean", tables.remaps.0, "%"),
        plain("remaps_excess_max", "a change moves too much, most", tables.remaps.1, "%"),
        plain("swap_64", "64 servers: a change in force after", tables.swap, "ms"),
    ]);
    Ok(Figures(rows))
}

impl Figures {
    /// One object: a member for each figure.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        for row in &self.0 {
            let suffix = match row.unit {
                "ns" => "_ns",
                "ms" => "_ms",
                "%" => "_percent",
                _ => "",
            };
            members.insert(format!("{}{suffix}", row.key), rounded(row.value).into());
            if let Some(over) = row.over_floor {
                members.insert(format!("{}_over_floor_ns", row.key), rounded(over).into());
            }
        }
        Value::Object(members)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:38}{:>12}{:>14}", "median of a frame", "", "over floor")?;
        for Row { meaning, value, over_floor, unit, .. } in &self.0 {
            let digits = if *unit == "%" { 3 } else { 1 };
            write!(f, "{meaning:38}{value:>6.digits$} {unit:5}")?;
            match over_floor {
                Some(over) => writeln!(f, "{over:>8.1} ns")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// To what is worth telling.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
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
