//! What was measured, made small enough to look at; and stopping when it gets no better.

use crate::checkpoints::Direction;
use serde::{Deserialize, Serialize};
use superduper::store::MetricRow;

/// The numbers of one metric, by step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Steps and values, ascending by step.
    pub points: Vec<(u64, f64)>,
}

impl Series {
    /// The series of a name among the rows of a job.
    pub fn of(rows: &[MetricRow], name: &str) -> Self {
        Series {
            points: rows
                .iter()
                .filter(|row| row.name == name)
                .map(|row| (row.step, row.value))
                .collect(),
        }
    }

    /// The newest value.
    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|(_, value)| *value)
    }

    /// The best value and its step.
    pub fn best(&self, direction: Direction) -> Option<(u64, f64)> {
        self.points
            .iter()
            .copied()
            .reduce(|best, next| if direction.better(next.1, best.1) { next } else { best })
    }

    /// At most so many points that look the same: of each stretch of steps the smallest and the
    /// largest value, and the first and last point of all. Spikes stay.
    pub fn downsample(&self, at_most: usize) -> Self {
        if self.points.len() <= at_most.max(4) {
            return self.clone();
        }
        let stretches = at_most.max(4) / 2 - 1;
        let inner = &self.points[1..self.points.len() - 1];
        let mut points = vec![self.points[0]];
        for index in 0..stretches {
            let part =
                &inner[index * inner.len() / stretches..(index + 1) * inner.len() / stretches];
            let by_value = |a: &&(u64, f64), b: &&(u64, f64)| a.1.total_cmp(&b.1);
            let ends = part.iter().min_by(by_value).zip(part.iter().max_by(by_value));
            if let Some((low, high)) = ends {
                points.push(if low.0 <= high.0 { *low } else { *high });
                if low.0 != high.0 {
                    points.push(if low.0 <= high.0 { *high } else { *low });
                }
            }
        }
        points.extend(self.points.last());
        Series { points }
    }
}

/// Tells when a number has got no better for some time. Part of the loop's state: keep it in the
/// checkpoint.
///
/// ```
/// use superduper_train::{Direction, EarlyStopping};
///
/// let mut stopping = EarlyStopping::new(Direction::Lower, 2).min_delta(0.01);
/// let verdicts: Vec<bool> = [0.5, 0.4, 0.395, 0.41].into_iter().map(|loss| stopping.update(loss)).collect();
/// assert_eq!(verdicts, [false, false, false, true]);
/// assert_eq!(stopping.best(), Some(0.4));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    direction: Direction,
    patience: u64,
    min_delta: f64,
    warmup: u64,
    best: Option<f64>,
    since: u64,
    seen: u64,
}

impl EarlyStopping {
    /// Stop after so many values in a row without a better one.
    pub fn new(direction: Direction, patience: u64) -> Self {
        EarlyStopping {
            direction,
            patience: patience.max(1),
            min_delta: 0.0,
            warmup: 0,
            best: None,
            since: 0,
            seen: 0,
        }
    }

    /// How much better a value must be to count.
    pub fn min_delta(mut self, delta: f64) -> Self {
        self.min_delta = delta;
        self
    }

    /// Never stop among the first values.
    pub fn warmup(mut self, values: u64) -> Self {
        self.warmup = values;
        self
    }

    /// Take the next value; returns whether it is time to stop. NaN and infinity are never better.
    pub fn update(&mut self, value: f64) -> bool {
        self.seen = self.seen.saturating_add(1);
        let bar = self.best.map(|best| match self.direction {
            Direction::Lower => best - self.min_delta,
            Direction::Higher => best + self.min_delta,
        });
        if value.is_finite() && bar.is_none_or(|bar| self.direction.better(value, bar)) {
            self.best = Some(value);
            self.since = 0;
        } else {
            self.since = self.since.saturating_add(1);
        }
        self.since >= self.patience && self.seen > self.warmup
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// How many values in a row were no better.
    pub fn since_best(&self) -> u64 {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downsampling_keeps_ends_and_spikes() {
        let mut points: Vec<(u64, f64)> =
            (0..10_000).map(|step| (step, (step as f64 / 500.0).sin())).collect();
        points[7_321].1 = 50.0;
        let series = Series { points };
        let small = series.downsample(100);
        assert!(small.points.len() <= 100 && small.points.len() > 60, "{}", small.points.len());
        assert!(small.points.is_sorted_by_key(|(step, _)| *step));
        assert_eq!(
            (small.points.first(), small.points.last()),
            (series.points.first(), series.points.last())
        );
        assert_eq!(small.best(Direction::Higher), Some((7_321, 50.0)));
        assert_eq!(series.downsample(20_000), series);
        assert_eq!(Series::default().downsample(10), Series::default());
    }

    #[test]
    fn early_stopping_goes_on_from_a_checkpoint() {
        let values = [3.0, 2.0, f64::NAN, 2.5, 1.9, 2.0, 2.1, 2.2];
        let mut whole = EarlyStopping::new(Direction::Lower, 3).warmup(2);
        let verdicts: Vec<bool> = values.iter().map(|value| whole.update(*value)).collect();
        assert_eq!(verdicts, [false, false, false, false, false, false, false, true]);
        let mut halves = EarlyStopping::new(Direction::Lower, 3).warmup(2);
        assert!(values[..5].iter().all(|value| !halves.update(*value)));
        let mut halves: EarlyStopping =
            serde_json::from_str(&serde_json::to_string(&halves).expect("JSON")).expect("JSON");
        assert_eq!(values[5..].iter().filter(|value| halves.update(**value)).count(), 1);
        assert_eq!(halves, whole);
    }
}
