//! Durations of one thing, and their median.

/// What was measured of one thing, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<u32>);

impl Samples {
    pub(super) fn push(&mut self, nanoseconds: u32) {
        self.0.push(nanoseconds);
    }

    /// The median to a tenth of a nanosecond. A clock has steps, here often of 10 ns, and many samples
    /// are equal: the place of the middle among them says how near it is to the steps beside (the
    /// median of grouped data).
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let Some(&middle) = sorted.get(sorted.len() / 2) else { return f64::NAN };
        let first = sorted.partition_point(|sample| *sample < middle);
        let end = sorted.partition_point(|sample| *sample <= middle);
        let neighbour = |index: Option<usize>| {
            f64::from(index.and_then(|index| sorted.get(index)).copied().unwrap_or(middle))
        };
        let half_way = |other: f64| f64::midpoint(other, f64::from(middle));
        let lower = half_way(neighbour(first.checked_sub(1)));
        let upper = half_way(neighbour(Some(end)));
        let within = (sorted.len() as f64 / 2.0 - first as f64) / (end - first) as f64;
        ((lower + (upper - lower) * within) * 10.0).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    fn median(samples: &[u32]) -> f64 {
        Samples(samples.to_vec()).median()
    }

    #[test]
    fn the_median_lies_between_the_steps_of_the_clock() {
        assert_eq!(median(&[70]), 70.0);
        assert_eq!(median(&[80, 70, 90]), 80.0);
        assert_eq!(median(&[70, 80, 80, 80, 80, 90]), 80.0);
        // Half of the samples are at most 80: the middle is at the edge between the two steps.
        assert_eq!(median(&[80, 80, 90, 90]), 85.0);
        assert_eq!(median(&[70, 80, 80, 90, 90, 90]), 85.0);
    }
}
