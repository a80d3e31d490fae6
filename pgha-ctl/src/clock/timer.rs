//! Waking up at a moment of the clock that the lease goes by.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use pgha_machine::Moment;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One moment of `CLOCK_BOOTTIME` that is waited for. The timers of the runtime stand still while the machine
/// is suspended.
#[derive(Debug)]
pub(crate) struct Timer(AsyncFd<Fd>);

#[derive(Debug)]
struct Fd(TimerFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    /// One that waits for nothing yet.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        // SAFETY: the timer owns its one descriptor, and is open until the AsyncFd drops it.
        let timer = unsafe { AsyncFd::register_with_interest(Fd(timer), Interest::READABLE) };
        Ok(Self(timer?))
    }

    /// Waits for that moment from now on, or for none. One that has passed comes in a moment, not at once: who asks
    /// for such a one again and again leaves others their turn.
    ///
    /// # Errors
    /// Never, by timerfd_settime(2).
    pub(crate) fn set(&self, moment: Option<Moment>) -> io::Result<()> {
        let Some(moment) = moment else { return Ok(self.0.get_ref().0.unset()?) };
        let soonest = super::now() + Duration::from_millis(1);
        let since_start = Duration::from_millis(moment.max(soonest).milliseconds());
        let expiration = Expiration::OneShot(TimeSpec::from_duration(since_start));
        Ok(self.0.get_ref().0.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Waits for it. Cancel-safe.
    pub(crate) async fn elapsed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().0.wait() {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
