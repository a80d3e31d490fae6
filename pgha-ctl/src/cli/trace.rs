//! `pgha trace`.

mod reader;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::signal::ctrl_c;

use super::argument;
use super::client::{self, Options};
use crate::controller::trace::{TraceQuery, reason_named};
use reader::Reader;

/// The frames that are meant, and where they go.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// One frame in so many, by chance.
    #[arg(long, value_name = "N", default_value = "1", value_parser = argument::at_least_one::<NonZeroU32>)]
    sample: NonZeroU32,
    /// End after so many frames.
    #[arg(long, value_name = "N", value_parser = argument::at_least_one::<NonZeroU64>)]
    count: Option<NonZeroU64>,
    /// End after that time: `10s`, `5min`.
    #[arg(long, value_parser = argument::time)]
    duration: Option<Duration>,
    /// Only frames from or to this client: `10.0.0.7`, `10.0.0.7:40000`, `[fd00::7]:40000` or a network.
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK")]
    client: Option<String>,
    /// Only frames with one of these reasons (docs/verdicts.md), with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = reason)]
    reason: Vec<String>,
    /// Write pcapng, for Wireshark and tcpdump, to this file, or with `-` to standard output; otherwise
    /// one line for each frame is printed.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object for each frame.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

fn reason(name: &str) -> Result<String, String> {
    reason_named(name).map(|_| name.to_owned()).map_err(|refusal| refusal.error)
}

/// Where frames go.
enum Output {
    File(File),
    Stdout,
    Lines,
    Json,
}

impl Output {
    fn of(output: Option<&Path>, json: bool) -> anyhow::Result<Self> {
        Ok(match output {
            None if json => Self::Json,
            None => Self::Lines,
            Some(path) if path == Path::new("-") => Self::Stdout,
            Some(path) => {
                // What clients say is nobody else's to read.
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let file = options.open(path);
                Self::File(file.with_context(|| format!("{} cannot be written", path.display()))?)
            }
        })
    }

    /// Puts out one part of the capture.
    fn put(&mut self, part: &[u8], reader: &mut Reader) -> anyhow::Result<()> {
        let frames = reader.read(part)?;
        let mut stdout = io::stdout().lock();
        match self {
            Self::File(file) => file.write_all(part)?,
            Self::Stdout => stdout.write_all(part)?,
            Self::Lines => frames.iter().try_for_each(|frame| writeln!(stdout, "{frame}"))?,
            Self::Json => {
                for frame in &frames {
                    writeln!(stdout, "{}", serde_json::to_string(frame)?)?;
                }
            }
        }
        Ok(stdout.flush()?)
    }
}

/// Shows frames until there are enough, or an interrupt ends it.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { sample, count, duration, client, reason, output, json } = arguments;
    let query = TraceQuery {
        sample: Some(sample),
        count,
        duration_ms: duration.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        client,
        reason: (!reason.is_empty()).then(|| reason.join(",")),
    };
    let capture = client::trace(&options.controller()?, &query).await?;
    let mut reader = Reader::default();
    let shown = show(capture, Output::of(output.as_deref(), json)?, &mut reader).await;
    eprintln!("{} frames, {} lost", reader.frames(), reader.lost());
    shown
}

async fn show(
    mut capture: Incoming,
    mut output: Output,
    reader: &mut Reader,
) -> anyhow::Result<()> {
    loop {
        let part = tokio::select! {
            part = capture.frame() => part,
            _ = ctrl_c() => return Ok(()),
        };
        let Some(part) = part else { return Ok(()) };
        let part = part.context("the controller ended in the middle of the trace")?;
        match part.data_ref().map(|part| output.put(part, reader)) {
            // Whoever reads has enough: `pgha trace | head`.
            Some(Err(error)) if is_broken_pipe(&error) => return Ok(()),
            Some(put) => put?,
            None => {}
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
