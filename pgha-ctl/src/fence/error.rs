use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pgha_machine::NodeName;

use crate::config::private_file::PrivateFileError;

/// A device did not do what it was asked for, or nobody knows.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum CallError {
    #[error(
        "fence device {device}: {} cannot be run: {source}; install it (Debian: fence-agents), or correct `agent`",
        .agent.display()
    )]
    Run { device: String, agent: PathBuf, source: std::io::Error },
    #[error("fence device {device}: the password file {source}")]
    Secret { device: String, source: PrivateFileError },
    #[error("fence device {device}: {} is no UTF-8 text; write the password into it", .file.display())]
    NoText { device: String, file: PathBuf },
    #[error(
        "fence device {device}: the option {option} has a line end in it, or its name a space or '='"
    )]
    Option { device: String, option: String },
    #[error("fence device {device}: {action} took longer than {} ms; that proves nothing", .after.as_millis())]
    Late { device: String, action: &'static str, after: Duration },
    #[error("fence device {device}: {action} ended with {}{}", Code(*.code), Said(.said))]
    Refused { device: String, action: &'static str, code: Option<i32>, said: String },
    #[error("fence device {device} was told to turn it off and says that it is on")]
    StillOn { device: String },
}

struct Code(Option<i32>);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "exit code {code}"),
            None => f.write_str("a signal"),
        }
    }
}

struct Said<'s>(&'s str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// A node is not known to be off.
#[derive(Debug)]
pub struct FenceError {
    /// Which.
    pub node: NodeName,
    /// What stood against each level, in their order.
    pub failed: Vec<(u32, CallError)>,
}

impl fmt::Display for FenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failed.is_empty() {
            return write!(f, "{} has no fence device", self.node);
        }
        write!(f, "{} is not known to be off", self.node)?;
        let mut levels = self.failed.iter();
        levels.try_for_each(|(level, error)| write!(f, "; level {level}: {error}"))
    }
}

impl std::error::Error for FenceError {}
