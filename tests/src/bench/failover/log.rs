//! What agents and controllers logged while nobody could write.
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use crate::lab::{Host, Managed};

/// How many lines a failure is told with.
const TAIL: usize = 40;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// How long after the loss.
    pub(super) after: Duration,
    /// Whose.
    pub(super) host: String,
    /// What it says, without the fields.
    pub(super) text: String,
}

/// The logs of a cluster.
pub(super) struct Logs(Vec<(String, PathBuf)>);

impl Logs {
    pub(super) fn of(managed: &Managed) -> Self {
        let agents = managed.agents.iter().map(|agent| (agent.host(), "agent"));
        let controller = managed.controller.iter().map(|one| (one.host(), "controller"));
        let path =
            |(host, process): (&Host, &str)| (host.name().to_owned(), host.log_path(process));
        Self(agents.chain(controller).map(path).collect())
    }

    /// What was logged between two moments, and is no detail, in the order in which it was.
    pub(super) fn events(&self, lost: SystemTime, until: SystemTime) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for (host, path) in &self.0 {
            let log = std::fs::read(path).with_context(|| path.display().to_string())?;
            let log = String::from_utf8_lossy(&log);
            events.extend(log.lines().filter_map(|line| event(line, host, lost, until)));
        }
        events.sort_by_key(|event| event.after);
        Ok(events)
    }

    /// The last lines of all.
    pub(super) fn tail(&self) -> String {
        let tail = |(host, path): &(String, PathBuf)| {
            let log = std::fs::read(path).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().filter(|line| !line.contains(" DEBUG ")).collect();
            format!("{host}:\n{}", lines[lines.len().saturating_sub(TAIL)..].join("\n"))
        };
        self.0.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}

/// A line as `tracing_subscriber` writes it: a moment, a level, and the rest.
fn event(line: &str, host: &str, lost: SystemTime, until: SystemTime) -> Option<Event> {
    let (at, rest) = line.split_once(' ')?;
    let at = humantime::parse_rfc3339(at).ok().filter(|at| *at <= until)?;
    let after = at.duration_since(lost).ok()?;
    let (level, text) = rest.trim_start().split_once(' ')?;
    let told = matches!(level, "INFO" | "WARN" | "ERROR");
    // Fields follow the message.
    let text = text.split(" epoch=").next()?.trim_end();
    told.then(|| Event { after, host: host.to_owned(), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "2026-11-22T13:24:55.505438Z  INFO order: admit clients epoch=1 lsn=0/153E720 reason=\"it is so\"";

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_line_is_told_by_how_long_after_the_loss_it_came() {
        let (lost, until) = (at("2026-11-22T13:24:55.500438Z"), at("2026-11-22T13:24:56Z"));
        let text = "order: admit clients".to_owned();
        let expected = Event { after: Duration::from_millis(5), host: "db1".to_owned(), text };
        assert_eq!(event(LINE, "db1", lost, until), Some(expected));
    }

    #[test]
    fn what_came_before_or_later_or_is_a_detail_is_left_out() {
        let (lost, until) = (at("2026-11-22T13:24:55.500438Z"), at("2026-11-22T13:24:56Z"));
        assert_eq!(event(LINE, "db1", until, until), None);
        assert_eq!(event(LINE, "db1", lost, lost), None);
        assert_eq!(event(&LINE.replace(" INFO ", " DEBUG "), "db1", lost, until), None);
        assert_eq!(event("no line of a log", "db1", lost, until), None);
    }
}
