use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pgha_machine::NodeName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

use super::error::CallError;
use crate::config::private_file;

/// So much of what a device's executable writes to stderr is read: its last line is the reason.
const STDERR: u64 = 64 * 1024;
/// How long after its end its last words may take.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A fence device, and how it is asked.
#[derive(Clone, Debug)]
pub struct Device {
    /// What operators call it.
    pub name: String,
    /// The executable.
    pub agent: PathBuf,
    /// What it is told beside `action` and `nodename`: `ip`, `username`, `plug`, ...
    pub options: BTreeMap<String, String>,
    /// Options whose values stand in files that their owner alone may read: `password`.
    pub secrets: Vec<Secret>,
}

/// An option whose value stands in a file.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The name of the option.
    pub option: String,
    /// The file. A line end at its end is no part of the value.
    pub file: PathBuf,
}

/// What a device says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has power.
    On,
    /// It has none.
    Off,
}

/// What a device is asked for.
#[derive(Clone, Copy, Debug)]
enum Action {
    Off,
    Status,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Status => "status",
        }
    }
}

impl Device {
    /// Has the device turn a node off.
    ///
    /// # Errors
    /// It did not, it is not known, or not within `patience`.
    pub(super) async fn turn_off(
        &self,
        node: &NodeName,
        patience: Duration,
    ) -> Result<(), CallError> {
        match self.call(Action::Off, node, patience).await? {
            (Some(0), _) => Ok(()),
            (code, said) => Err(self.refused(Action::Off, code, said)),
        }
    }

    /// Whether a node has power.
    ///
    /// # Errors
    /// It is not known, or not within `patience`.
    pub(super) async fn state(
        &self,
        node: &NodeName,
        patience: Duration,
    ) -> Result<State, CallError> {
        match self.call(Action::Status, node, patience).await? {
            (Some(0), _) => Ok(State::On),
            (Some(2), _) => Ok(State::Off),
            (code, said) => Err(self.refused(Action::Status, code, said)),
        }
    }

    fn refused(&self, action: Action, code: Option<i32>, said: String) -> CallError {
        CallError::Refused { device: self.name.clone(), action: action.name(), code, said }
    }

    /// The exit code and the last line on stderr.
    async fn call(
        &self,
        action: Action,
        node: &NodeName,
        patience: Duration,
    ) -> Result<(Option<i32>, String), CallError> {
        let input = self.input(action, node)?;
        let failed = |source| CallError::Run {
            device: self.name.clone(),
            agent: self.agent.clone(),
            source,
        };
        tracing::debug!("{} is asked for {} of {node}", self.name, action.name());
        let mut call = Group(self.command().spawn().map_err(failed)?);
        let ended = timeout(patience, call.talk(&input)).await;
        call.end();
        match ended {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(CallError::Late {
                device: self.name.clone(),
                action: action.name(),
                after: patience,
            }),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.agent);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// The lines that it is told. Passwords are in no argument and no environment, which others can read.
    fn input(&self, action: Action, node: &NodeName) -> Result<String, CallError> {
        let mut values: BTreeMap<&str, String> =
            self.options.iter().map(|(name, value)| (&**name, value.clone())).collect();
        for Secret { option, file } in &self.secrets {
            let of_secret = |source| CallError::Secret { device: self.name.clone(), source };
            let content = private_file::read(file).map_err(of_secret)?;
            let text = String::from_utf8(content)
                .map_err(|_| CallError::NoText { device: self.name.clone(), file: file.clone() })?;
            values.insert(option, text.trim_end_matches(['\r', '\n']).to_owned());
        }
        values.insert("action", action.name().to_owned());
        values.insert("nodename", node.to_string());
        let broken = |(name, value): &(&&str, &String)| {
            value.contains(['\n', '\r', '\0']) || name.contains(['\n', '\r', '\0', '=', ' '])
        };
        if let Some((name, _)) = values.iter().find(broken) {
            return Err(CallError::Option {
                device: self.name.clone(),
                option: (*name).to_owned(),
            });
        }
        Ok(values.iter().map(|(name, value)| format!("{name}={value}\n")).collect())
    }
}

/// A child that leads a process group.
struct Group(Child);

impl Group {
    /// Waits until it has ended, and tells and hears it meanwhile. What it has begun and left behind may hold its
    /// stderr open: that is waited for no longer than [`LAST_WORDS`].
    async fn talk(&mut self, input: &str) -> std::io::Result<(Option<i32>, String)> {
        let (stdin, stderr) = (self.0.stdin.take(), self.0.stderr.take());
        let mut said = Vec::new();
        let status = {
            let mut talk =
                pin!(async { tokio::join!(tell(stdin, input), hear(stderr, &mut said)) });
            let mut talks = true;
            let status = loop {
                tokio::select! {
                    status = self.0.wait() => break status?,
                    _ = &mut talk, if talks => talks = false,
                }
            };
            if talks {
                let _ = timeout(LAST_WORDS, talk).await;
            }
            status
        };
        let text = String::from_utf8_lossy(&said);
        let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        Ok((status.code(), last.unwrap_or_default().to_owned()))
    }

    /// Ends it and what it has begun, where it has not ended itself.
    fn end(&mut self) {
        if let Some(leader) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// One that does not read what it is told says with its exit code what it is worth.
async fn tell(stdin: Option<ChildStdin>, input: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input.as_bytes()).await;
        let _ = stdin.shutdown().await;
    }
}

/// More than [`STDERR`] is not kept.
async fn hear(stderr: Option<ChildStderr>, said: &mut Vec<u8>) {
    if let Some(mut stderr) = stderr {
        let _ = (&mut stderr).take(STDERR).read_to_end(said).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
