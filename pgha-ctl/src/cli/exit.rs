//! How a verb ends: the exit codes, what each means, and which error ends with which.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::client::ClientError;
use crate::controller::status::SCHEMA;
use crate::rpc::client::ConnectError;

/// An exit code. Scripts rely on them: none ever changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// No command line of pgha; clap ends with this by itself.
    Usage = 2,
    /// Done, and the answer is no.
    No = 3,
    /// The controller could not be asked.
    Unreachable = 4,
    /// The controller, or the system, said no.
    Refused = 5,
    /// Time was over first.
    TimedOut = 6,
    /// Ctrl-C, as shells tell it: 128 and the number of the signal.
    Interrupted = 130,
}

impl Exit {
    /// Every exit code.
    pub(super) const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::No,
        Self::Unreachable,
        Self::Refused,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// Of a verb whose answer is yes or no.
    pub(super) const fn answer(yes: bool) -> Self {
        if yes { Self::Done } else { Self::No }
    }

    /// What it means, for the manual.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed; one sentence on standard error says why",
            Self::Usage => "not a command line of pgha",
            Self::No => {
                "done, and the answer is no: `explain` names no real server, `why-not` found a node that \
                 gets no new connections, `check` found something that does not work"
            }
            Self::Unreachable => {
                "the controller could not be asked: none runs there, or it does not answer"
            }
            Self::Refused => {
                "refused: what was asked for is not there or cannot be done, or is not allowed to who asked"
            }
            Self::TimedOut => {
                "the time given by `--timeout` was over first; what was ordered stays in force"
            }
            Self::Interrupted => "ended by Ctrl-C while it waited; what was ordered stays in force",
        }
    }

    /// Which error ends with which.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<ClientError>() {
            Some(
                ClientError::NoController { .. }
                | ClientError::Timeout { .. }
                | ClientError::Connect(ConnectError::Tcp { .. } | ConnectError::Timeout { .. })
                | ClientError::Broken(_),
            ) => Self::Unreachable,
            Some(
                ClientError::Refused(_)
                | ClientError::Permission { .. }
                | ClientError::Connect(ConnectError::Tls { .. }),
            ) => Self::Refused,
            Some(
                ClientError::Connect(ConnectError::Credentials(_))
                | ClientError::Credentials(_)
                | ClientError::Config(_)
                | ClientError::Unreadable(_)
                | ClientError::Http(_)
                | ClientError::Query(_),
            ) => Self::Failed,
            None if error.chain().any(is_denied) => Self::Refused,
            None => Self::Failed,
        }
    }
}

/// Whether the system did not let this user do it.
fn is_denied(cause: &(dyn Error + 'static)) -> bool {
    let error = cause.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// The part of the manual about exit codes.
pub(super) fn manual() -> String {
    let lines = Exit::ALL.map(|exit| format!("  {:>3}  {}", exit as u8, exit.meaning()));
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// An error as `--json` has it, in one line of standard error.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    /// [`SCHEMA`].
    schema: u32,
    /// The same sentence as without `--json`.
    error: String,
    /// The exit code.
    exit: u8,
}

/// Says on standard error what failed, and how the process is to end.
pub(super) fn failed(error: &anyhow::Error, json: bool) -> Exit {
    let exit = Exit::of(error);
    // Nobody may read it any more; the exit code says it too.
    let _ = writeln!(io::stderr(), "{}", told(error, exit, json));
    exit
}

fn told(error: &anyhow::Error, exit: Exit, json: bool) -> String {
    // Every error here tells its cause in its own sentence.
    let failure = Failure { schema: SCHEMA, error: error.to_string(), exit: exit as u8 };
    match serde_json::to_string(&failure) {
        Ok(line) if json => line,
        _ => format!("pgha: {}", failure.error),
    }
}
