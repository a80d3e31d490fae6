//! What systemd is to a daemon: who starts its program, and whom it tells how it is (sd_notify(3)).
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Lab;
use super::artifacts::pgha_binary;
use super::host::Host;
use super::process::Cmd;
use super::wait::{SOON, wait_until};

/// How a daemon of pgha is started.
#[derive(Debug, Default)]
pub struct Launch<'l> {
    /// Another program than the one that was built.
    pub program: Option<PathBuf>,
    /// Who is told, and how soon the loop has to go round.
    pub told: Option<(&'l Listening, Duration)>,
}

impl Launch<'_> {
    /// Its command on a host, without arguments.
    ///
    /// # Errors
    /// Without the `pgha` binary.
    pub fn command(&self, host: &Host) -> Result<Cmd> {
        let program = self.program.clone().map_or_else(pgha_binary, Ok)?;
        let command = host.command([program])?;
        Ok(match &self.told {
            Some((listening, watchdog)) => command
                .env("NOTIFY_SOCKET", &listening.path)
                .env("WATCHDOG_USEC", watchdog.as_micros().to_string()),
            None => command,
        })
    }
}

/// A socket that a daemon tells how it is.
#[derive(Debug)]
pub struct Listening {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Listening {
    /// One of that name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let path = lab.directory().join(format!("{name}.notify"));
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path })
    }

    /// The lines that were said since this was called last.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub fn heard(&self) -> Result<Vec<String>> {
        let (mut lines, mut part) = (Vec::new(), [0; 4096]);
        loop {
            match self.socket.recv(&mut part) {
                Ok(length) => {
                    let said = String::from_utf8_lossy(&part[..length]).into_owned();
                    lines.extend(said.lines().map(str::to_owned));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(lines),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until for each of these a line is said that begins so, in whatever order.
    ///
    /// # Errors
    /// When it is not in time; with what was said instead.
    pub fn wait(&self, beginnings: &[&str]) -> Result<()> {
        let mut said = Vec::new();
        wait_until(format!("{beginnings:?} to be said"), SOON, || {
            said.append(&mut self.heard()?);
            let is_said = |begins: &&str| said.iter().any(|line| line.starts_with(*begins));
            ensure!(beginnings.iter().all(is_said), "{said:?}");
            Ok(true)
        })
    }

    /// Waits for a time in which nobody says that a loop goes round.
    ///
    /// # Errors
    /// When it goes on being said.
    pub fn wait_silence(&self, time: Duration) -> Result<()> {
        let mut last = Instant::now();
        wait_until("the watchdog to hear nothing", SOON, || {
            if self.heard()?.iter().any(|line| line == "WATCHDOG=1") {
                last = Instant::now();
            }
            Ok(last.elapsed() > time)
        })
    }
}
