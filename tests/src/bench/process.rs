//! What a process and the machine have used, by the kernel.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::{SysconfVar, sysconf};

/// Processor time of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuTime {
    pub(super) user: Duration,
    pub(super) system: Duration,
}

impl CpuTime {
    pub(super) fn total(self) -> Duration {
        self.user + self.system
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// The load of the machine in the last minute (proc_loadavg(5)).
pub(super) fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().context("a load")?.parse()?)
}

/// The processor time a process has used (proc_pid_stat(5), fields 14 and 15).
pub(super) fn cpu_time(pid: i32) -> Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a command in parentheses")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The state, field 3, is the first behind the command.
    let Some(a_second) = sysconf(SysconfVar::CLK_TCK)? else { bail!("no clock tick is known") };
    let time = |field: usize| -> Result<Duration> {
        let ticks: u64 = fields.get(field - 3).context("a field")?.parse()?;
        Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
    };
    Ok(CpuTime { user: time(14)?, system: time(15)? })
}

/// A field of proc_pid_status(5) that is a number of KiB, in bytes: `VmRSS:`, `VmHWM:`.
pub(super) fn memory(pid: i32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.with_context(|| field.to_owned())?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? * 1_024)
}
