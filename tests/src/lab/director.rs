//! A director: `pgha controller` on a host.
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::config;
use super::host::Host;
use super::maps::ServiceMaps;
use super::postgres::PORT;
use super::process::{Cmd, Daemon, Running};
use super::service::Launch;
use super::wait::{SOON, wait_for};

/// A director. A handle: dropping it leaves the controller running until the lab ends.
#[derive(Debug, Clone)]
pub struct Director {
    host: Host,
    daemon: Arc<Mutex<Option<Daemon>>>,
}

impl Director {
    pub(super) fn new(host: Host) -> Result<Self> {
        host.receive_xdp_tx()?;
        let director = Self { host, daemon: Arc::default() };
        let bpffs = director.bpffs();
        fs::create_dir_all(&bpffs).with_context(|| bpffs.display().to_string())?;
        Ok(director)
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The path of its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.host.shared.places.run.join(format!("{}.toml", self.host.name()))
    }

    /// Its directory on the lab's bpffs. Directors pin the same names, so each has its own, as if it
    /// were a machine of its own.
    pub fn bpffs(&self) -> PathBuf {
        self.host.shared.places.bpf.join(self.host.name())
    }

    /// The directory that it pins its maps, program and link in, which is there while it is attached.
    pub fn pins(&self) -> PathBuf {
        self.bpffs().join("pgha").join(config::CLUSTER)
    }

    /// The maps of a service.
    ///
    /// # Errors
    /// When nothing is pinned.
    pub fn maps(&self, vip: impl Into<IpAddr>) -> Result<ServiceMaps> {
        ServiceMaps::open(&self.pins(), vip.into(), PORT)
    }

    /// The path of its control socket.
    pub fn control_path(&self) -> PathBuf {
        self.host.shared.places.run.join(format!("{}.sock", self.host.name()))
    }

    /// The path of the file that it keeps orders in.
    pub fn store_path(&self) -> PathBuf {
        self.host.shared.places.run.join(format!("{}.store", self.host.name()))
    }

    /// Replaces its configuration file; a running controller reads it at the next reload.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let path = self.config_path();
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Starts the controller and waits until `pgha status` says that its program is attached.
    ///
    /// # Errors
    /// When it ends instead; with the end of its log.
    pub fn start(&self) -> Result<()> {
        self.start_until(|| Ok(self.status()?["director"]["attached"] == true))
    }

    /// Starts the controller and waits until `ready`.
    ///
    /// # Errors
    /// As [`Director::start`].
    pub fn start_until(&self, ready: impl FnMut() -> Result<bool>) -> Result<()> {
        self.start_as(&Launch::default(), ready)
    }

    /// The same in another manner.
    ///
    /// # Errors
    /// As [`Director::start`].
    pub fn start_as(&self, launch: &Launch<'_>, ready: impl FnMut() -> Result<bool>) -> Result<()> {
        self.start_command(self.verb_of(launch, ["controller"])?, ready)
    }

    /// The same by another program, which has a controller in it: `program` with these arguments and `--config`.
    ///
    /// # Errors
    /// As [`Director::start`].
    pub fn start_program(
        &self,
        program: &Path,
        arguments: &[&OsStr],
        ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        self.start_command(self.configured(self.host.command([program])?.args(arguments)), ready)
    }

    fn start_command(&self, command: Cmd, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        if self.is_running()? {
            bail!("the controller on {} runs already", self.host.name());
        }
        let daemon = command.daemon(&self.log_path())?;
        self.host.shared.adopt(daemon.clone());
        *self.daemon() = Some(daemon.clone());
        let what = format!("the controller on {} to be ready", self.host.name());
        let ended = wait_for(what, SOON, || match daemon.ended()? {
            Some(status) => Ok(Some(Some(status))),
            None => Ok(ready()?.then_some(None)),
        })?;
        ended.map_or(Ok(()), |status: ExitStatus| Err(daemon.obituary(status)))
    }

    /// Starts the controller, which is to fail, and returns its exit code and standard error.
    ///
    /// # Errors
    /// When it goes on running, succeeds, or ends by a signal.
    pub fn start_expecting_failure(&self) -> Result<(i32, String)> {
        let output = self.controller()?.output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(code) if code != 0 => Ok((code, stderr)),
            _ => bail!("the controller on {}: {}: {stderr}", self.host.name(), output.status),
        }
    }

    /// Whether the controller runs.
    ///
    /// # Errors
    /// When the kernel does not know the child; never in practice.
    pub fn is_running(&self) -> Result<bool> {
        match &*self.daemon() {
            Some(daemon) => Ok(daemon.ended()?.is_none()),
            None => Ok(false),
        }
    }

    /// The process id of the controller last started, if any was.
    pub fn pid(&self) -> Option<i32> {
        self.daemon().as_ref().map(Daemon::pid)
    }

    /// Kills the controller with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.end_by(Signal::SIGKILL).map(drop)
    }

    /// Ends the controller with SIGTERM and returns how it ended.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn terminate(&self) -> Result<ExitStatus> {
        self.end_by(Signal::SIGTERM)
    }

    /// Has the controller read its configuration file again (SIGHUP); it does so in its own time.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> Result<()> {
        self.running()?.signal(Signal::SIGHUP)
    }

    /// Runs `pgha` with these arguments and `--config` on this host, to whatever end.
    ///
    /// # Errors
    /// When it cannot be run or does not end.
    pub fn pgha<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
        self.verb(arguments)?.output()
    }

    /// Starts `pgha` with these arguments and `--config` on this host, beside the test; what it writes is in
    /// the log of that name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_pgha<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        log: &str,
    ) -> Result<Running> {
        self.verb(arguments)?.start(&self.host.log_path(log))
    }

    /// What `pgha status --json` says.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub fn status(&self) -> Result<Value> {
        let text = self.verb(["status", "--json"])?.run()?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: `{text}`"))
    }

    /// One request on its control socket: code and body.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = UnixStream::connect(self.control_path())?;
        stream.set_read_timeout(Some(SOON))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a body")?;
        let code = head.split(' ').nth(1).context("a code")?.parse()?;
        Ok((code, body.to_owned()))
    }

    /// All that the controllers of this host have logged, later ones after earlier ones.
    ///
    /// # Errors
    /// When none was started.
    pub fn log(&self) -> Result<String> {
        let path = self.log_path();
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn end_by(&self, signal: Signal) -> Result<ExitStatus> {
        let daemon = self.running()?;
        daemon.signal(signal)?;
        daemon.wait(SOON)
    }

    fn running(&self) -> Result<Daemon> {
        self.daemon()
            .clone()
            .with_context(|| format!("no controller was started on {}", self.host.name()))
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn controller(&self) -> Result<Cmd> {
        self.verb(["controller"])
    }

    fn verb<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Cmd> {
        self.verb_of(&Launch::default(), arguments)
    }

    fn verb_of<S: AsRef<OsStr>>(
        &self,
        launch: &Launch<'_>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Cmd> {
        Ok(self.configured(launch.command(&self.host)?.args(arguments)))
    }

    fn configured(&self, command: Cmd) -> Cmd {
        command.args([OsStr::new("--config"), self.config_path().as_os_str()])
    }

    fn log_path(&self) -> PathBuf {
        self.host.log_path("controller")
    }
}
