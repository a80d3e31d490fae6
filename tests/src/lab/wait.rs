//! Waiting for a condition, never for a time.
use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

#[cfg(test)]
mod tests;

/// The deadline of whatever takes well under a second on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);

const FIRST_STEP: Duration = Duration::from_millis(3);
const LONGEST_STEP: Duration = Duration::from_millis(50);

/// Calls `observe` until it answers `Ok(Some(_))`, at least once.
///
/// `Ok(None)` and `Err(_)` both mean "not yet"; an error is remembered as the last thing seen, so
/// an observer says what it saw with `bail!`. What can never come true is best returned as a value
/// of `T` and refused by the caller, and what must not change meanwhile is [`hold_until`]'s to watch.
///
/// # Errors
/// After `deadline`: what was waited for, how long, and the last observation.
pub fn wait_for<T>(
    what: impl Display,
    deadline: Duration,
    mut observe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut step = FIRST_STEP;
    loop {
        let seen = match observe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "nothing yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() >= deadline {
            bail!("waited {:.1?} for {what}; last seen: {seen}", start.elapsed());
        }
        sleep(step);
        step = (step * 3 / 2).min(LONGEST_STEP);
    }
}

/// Waits until `condition` holds.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(
    what: impl Display,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_for(what, deadline, || Ok(condition()?.then_some(())))
}

/// Waits for a condition, as [`wait_for`] does, while an invariant holds: at each look, after the look
/// at the condition, and so also when that has come true.
///
/// # Errors
/// As [`wait_for`]; and at once that of `invariant`, which is no "not yet".
pub fn hold_until<T>(
    what: impl Display,
    deadline: Duration,
    mut invariant: impl FnMut() -> Result<()>,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let held = wait_for(&what, deadline, || {
        let seen = condition();
        match invariant() {
            Ok(()) => Ok(seen?.map(Ok)),
            Err(broken) => Ok(Some(Err(broken))),
        }
    })?;
    held.with_context(|| format!("it did not hold until {what}"))
}
