//! What was measured, for people and for programs.
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Loss;
use super::log::Event;

/// Below so many runs the 99th percentile is nothing but the maximum, and is called that.
const RUNS_OF_A_PERCENTILE: usize = 100;
/// What happens in a failover, and what the log says of it.
const MILESTONES: [(&str, &str); 12] = [
    ("PostgreSQL is ended", "order: close the gate"),
    ("frozen by the record", "failover: the primary is suspected"),
    ("a voter has stopped", "PostgreSQL here is a standby, stopped for freeze"),
    ("nominated", "failover: a candidate may take the next epoch"),
    ("epoch taken", "the record: this node is the holder of the lease"),
    ("PostgreSQL is ordered to promote", "order: promote"),
    ("PostgreSQL is ordered to start", "order: start as the primary"),
    ("PostgreSQL begins", "PostgreSQL begins as process"),
    ("promoted", "PostgreSQL writes timeline"),
    ("the primary again", "PostgreSQL is the primary again"),
    ("clients are admitted", "PostgreSQL admits clients"),
    ("the writer VIP is on", " is on eth0"),
];

/// One loss.
#[derive(Debug)]
pub struct Run {
    /// For how long nobody could write.
    pub gap: Duration,
    /// Which node is the primary afterwards.
    pub primary: String,
    /// What was logged meanwhile.
    pub(super) events: Vec<Event>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nobody could write for {} ms, then {} wrote",
            self.gap.as_millis(),
            self.primary
        )?;
        for Event { after, host, text } in &self.events {
            write!(f, "\n  {:>7.1} ms  {host:<4} {text}", milliseconds(*after))?;
        }
        Ok(())
    }
}

/// Losses of one kind.
#[derive(Debug, Default)]
pub(super) struct Series {
    runs: Vec<Run>,
    loads: Vec<f64>,
    /// Commits of which a client was told, and that are not there.
    pub(super) missing: usize,
}

impl Series {
    pub(super) fn add(&mut self, run: Run, load: f64) {
        self.runs.push(run);
        self.loads.push(load);
    }

    fn gaps(&self) -> Vec<f64> {
        sorted(self.runs.iter().map(|run| milliseconds(run.gap)))
    }

    /// When each thing that can be told was logged first, in the median of the runs in which it was.
    fn milestones(&self) -> Vec<(&'static str, f64)> {
        let first = |run: &Run, text: &str| {
            let event = run.events.iter().find(|event| event.text.contains(text))?;
            Some(milliseconds(event.after))
        };
        let found = MILESTONES.iter().filter_map(|(name, text)| {
            let times = sorted(self.runs.iter().filter_map(|run| first(run, text)));
            (!times.is_empty()).then(|| (*name, quantile(&times, 0.5)))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        found
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Figures(Vec<(Loss, Series)>);

impl Figures {
    pub(super) fn add(&mut self, loss: Loss, series: Series) {
        self.0.push((loss, series));
    }

    /// How many commits of which a client was told are missing.
    pub fn missing(&self) -> usize {
        self.0.iter().map(|(_, series)| series.missing).sum()
    }

    /// One object, with an entry for each kind of loss that was measured.
    pub fn json(&self) -> Value {
        let entry = |(loss, series): &(Loss, Series)| {
            let gaps = series.gaps();
            let figures = json!({
                "p50_ms": quantile(&gaps, 0.5).round(),
                "max_ms": quantile(&gaps, 1.0).round(),
                "missing": series.missing,
                "runs": gaps.len(),
            });
            (loss.name().to_owned(), figures)
        };
        Value::Object(self.0.iter().map(entry).collect::<Map<_, _>>())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (loss, series) in &self.0 {
            let gaps = series.gaps();
            let loads = sorted(series.loads.iter().copied());
            let (median, most) = loss.aim();
            let (name, worst) = if gaps.len() < RUNS_OF_A_PERCENTILE {
                ("maximum", quantile(&gaps, 1.0))
            } else {
                ("p99", quantile(&gaps, 0.99))
            };
            writeln!(
                f,
                "{}: nobody could write for {:.0} ms at least, {:.0} ms in the median, {worst:.0} ms {name}, \
                 in {} runs; missing: {}; load {:.1} to {:.1}",
                loss.name(),
                quantile(&gaps, 0.0),
                quantile(&gaps, 0.5),
                gaps.len(),
                series.missing,
                quantile(&loads, 0.0),
                quantile(&loads, 1.0),
            )?;
            let aim = median.map_or_else(String::new, |median| format!("median {median} ms, "));
            writeln!(f, "  aim on an idle machine: {aim}p99 {most} ms")?;
            for (name, after) in series.milestones() {
                writeln!(f, "  {after:>7.1} ms  {name}")?;
            }
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The least of sorted values that so great a part of them does not exceed (nearest rank).
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(gap: u64, events: &[(u64, &str)]) -> Run {
        let event = |(after, text): &(u64, &str)| Event {
            after: Duration::from_millis(*after),
            host: "db1".to_owned(),
            text: (*text).to_owned(),
        };
        Run {
            gap: Duration::from_millis(gap),
            primary: "db1".to_owned(),
            events: events.iter().map(event).collect(),
        }
    }

    fn series(gaps: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::default();
        gaps.into_iter().for_each(|gap| series.add(run(gap, &[]), 0.5));
        series
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let gaps = series((1..=100).rev()).gaps();
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|part| quantile(&gaps, part)),
            [1.0, 50.0, 99.0, 100.0]
        );
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn few_runs_have_a_maximum_and_no_percentile() {
        let mut few = Figures::default();
        few.add(Loss::Crash, series(1..=99));
        assert!(
            few.to_string().contains("50 ms in the median, 99 ms maximum, in 99 runs"),
            "{few}"
        );
        let mut many = Figures::default();
        many.add(Loss::Crash, series(1..=100));
        assert!(many.to_string().contains("50 ms in the median, 99 ms p99, in 100 runs"), "{many}");
    }

    #[test]
    fn programs_are_told_the_median_the_maximum_and_what_is_missing() {
        let mut figures = Figures::default();
        figures.add(Loss::Crash, series([100, 300, 200]));
        figures.add(Loss::HostLossLease, Series { missing: 2, ..series([2_500]) });
        let lease = json!({"p50_ms": 2500.0, "max_ms": 2500.0, "missing": 2, "runs": 1});
        let crash = json!({"p50_ms": 200.0, "max_ms": 300.0, "missing": 0, "runs": 3});
        assert_eq!(figures.json(), json!({"crash": crash, "host_loss_lease": lease}));
        assert_eq!(figures.missing(), 2);
    }

    #[test]
    fn a_milestone_is_the_first_of_its_kind_in_the_median() {
        let mut series = Series::default();
        for offset in [10, 30, 20] {
            let events = [(offset, "PostgreSQL admits clients"), (90, "PostgreSQL admits clients")];
            series.add(run(100, &events), 0.5);
        }
        series.add(run(100, &[(5, "order: promote to timeline 2")]), 0.5);
        let expected = [("PostgreSQL is ordered to promote", 5.0), ("clients are admitted", 20.0)];
        assert_eq!(series.milestones(), expected);
    }
}
