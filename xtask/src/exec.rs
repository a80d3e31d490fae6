//! Starts other programs; every failure names the command that failed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, bail};

#[cfg(test)]
mod tests;

/// Announces the next step of the work.
pub(crate) fn step(what: impl std::fmt::Display) {
    eprintln!("==> {what}");
}

/// Runs `command` to its end and fails unless it succeeded.
pub(crate) fn exec(command: &mut Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("cannot start `{}`", command_line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", command_line(command));
    }
    Ok(())
}

/// Runs `command` like [`exec`], with its standard output sent to standard error.
pub(crate) fn exec_to_stderr(command: &mut Command) -> Result<()> {
    exec(command.stdout(Stdio::from(io::stderr())))
}

/// The standard output of `command`, or `None` when it cannot be started or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Replaces this process with `command`; returns only when that fails.
pub(crate) fn replace_process(command: &mut Command) -> Error {
    let error = command.exec();
    Error::new(error).context(format!("cannot start `{}`", command_line(command)))
}

/// The program and arguments of `command` as a shell would read them.
pub(crate) fn command_line(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
    words.join(" ")
}

/// [`command_line`] behind the variables that `command` sets: what a person can type instead.
pub(crate) fn command_line_with_variables(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={} ", name.to_string_lossy(), quote(value?))));
    variables.collect::<String>() + &command_line(command)
}

fn quote(word: &OsStr) -> Cow<'_, str> {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}
