//! `pgha history`: the terms that there were, and what led to them.

#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::Args;
use pgha_machine::failover::record::{Cause, Takeover};

use super::client::{self, Options};
use super::output::print;
use super::table::{lines, plain};
use super::words::{self, or_none};
use crate::controller::failover::tale;
use crate::controller::failover::{Chapter, History};

/// So many of what happened last are shown.
const INCIDENTS: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Everything that is kept of what happened, not the last 20 alone.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<()> {
    let history = client::history(&options.controller()?).await?;
    let shown = if arguments.all { usize::MAX } else { INCIDENTS };
    print(arguments.json, &history, |history| text(history, shown))
}

fn text(history: &History, shown: usize) -> String {
    let header = [
        "EPOCH",
        "PRIMARY",
        "TIMELINE",
        "FORK",
        "SINCE (UTC)",
        "WITHOUT",
        "PROOF",
        "REASON",
        "ORDER",
        "DEGRADED",
    ];
    let mut table = plain(header);
    for chapter in &history.terms {
        table.add_row(row(chapter));
    }
    let mut text = lines(&table);
    let skipped = history.incidents.len().saturating_sub(shown);
    if !history.incidents.is_empty() {
        text.push_str("\n\n");
    }
    if skipped > 0 {
        text.push_str(&format!("{skipped} more before that (--all)\n"));
    }
    for incident in &history.incidents[skipped..] {
        let at = words::moment(incident.at / 1_000);
        let epoch = incident.epoch.map_or_else(String::new, |epoch| format!(" epoch {epoch}"));
        text.push_str(&format!("{at} {}{epoch}: {}\n", incident.seen_by, incident.text));
    }
    text
}

fn row(chapter: &Chapter) -> Vec<String> {
    let since = words::moment(chapter.at / 1_000);
    let since = if chapter.witnessed { since } else { format!("before {since}") };
    let cause = chapter.cause.as_ref();
    let degraded: Vec<_> = chapter
        .degraded
        .iter()
        .map(|degraded| format!("{} to {}", degraded.from, or_none(degraded.until)))
        .collect();
    vec![
        chapter.epoch.to_string(),
        chapter.node.to_string(),
        chapter.timeline.to_string(),
        format!("{} of {}", chapter.fork.lsn, chapter.fork.timeline),
        since,
        or_none(chapter.gap_ms.map(|ms| words::span(Duration::from_millis(ms)))),
        or_none(cause.map(|cause| format!("{:?}", cause.proof).to_lowercase())),
        cause.map_or_else(
            || "the cluster was founded".to_owned(),
            |cause| tale::reason(cause.reason).to_owned(),
        ),
        cause.map_or_else(|| words::NONE.to_owned(), order),
        if degraded.is_empty() { words::NONE.to_owned() } else { degraded.join(", ") },
    ]
}

/// Whose word it was, if anybody's.
fn order(cause: &Cause) -> String {
    let Some(ordered) = &cause.ordered else { return words::NONE.to_owned() };
    let at = words::moment(ordered.at / 1_000);
    let what = match (&ordered.takeover, cause.forced) {
        (_, true) => "FORCED, acknowledged commits may be lost,",
        (Takeover::Force(_), false) => "to be forced, which was not needed,",
        (Takeover::Best | Takeover::To(_), false) => "ordered",
    };
    format!("{what} by {} at {at}", ordered.by)
}
