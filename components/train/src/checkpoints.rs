//! Which checkpoints are written, and which of them are kept.

use crate::span::Span;
use serde::{Deserialize, Serialize};

/// Whether more or less of a number is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Less, as of a loss.
    Lower,
    /// More, as of an accuracy.
    Higher,
}

impl Direction {
    /// Whether one number is better than another.
    pub fn better(self, new: f64, old: f64) -> bool {
        match self {
            Direction::Lower => new < old,
            Direction::Higher => new > old,
        }
    }
}

/// Which checkpoints are written, and which of them are kept.
///
/// By default each call of `ctx.checkpoint` writes one, and the last two are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// Keep so many of the last; at least 1.
    pub keep_last: usize,
    /// Also keep the best by a metric.
    pub best: Option<(String, Direction)>,
    /// Write only every so many steps.
    pub every_steps: u64,
    /// Write only so long after the last one.
    pub every: Option<Span>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Checkpoints { keep_last: 2, best: None, every_steps: 1, every: None }
    }
}

/// A checkpoint that is kept: its number and how good it is.
pub(crate) type Kept = (u32, Option<f64>);

impl Checkpoints {
    /// The best of some checkpoints; the later one of two equals.
    pub(crate) fn best_of(&self, kept: &[Kept]) -> Option<u32> {
        let (_, direction) = self.best.as_ref()?;
        // What is not a number is better than nothing by no order.
        let scored = kept.iter().filter_map(|(number, score)| {
            Some((*number, score.filter(|score| score.is_finite())?))
        });
        let best =
            scored.reduce(|best, next| if direction.better(best.1, next.1) { best } else { next });
        best.map(|(number, _)| number)
    }

    /// Which of the kept ones go when another one, of a score, is written.
    pub(crate) fn dropped(&self, kept: &[Kept], score: Option<f64>) -> Vec<u32> {
        let mut all = kept.to_vec();
        all.push((u32::MAX, score));
        let best = self.best_of(&all);
        let from = all.len().saturating_sub(self.keep_last.max(1));
        all[..from]
            .iter()
            .map(|(number, _)| *number)
            .filter(|number| Some(*number) != best)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_and_the_best_are_kept() {
        let last = Checkpoints { keep_last: 2, ..Checkpoints::default() };
        assert_eq!(last.dropped(&[(1, None), (2, None)], None), [1]);
        assert!(last.dropped(&[(1, None)], None).is_empty());
        let best = Checkpoints {
            keep_last: 1,
            best: Some(("loss".into(), Direction::Lower)),
            ..Checkpoints::default()
        };
        assert_eq!(best.dropped(&[(1, Some(0.1)), (2, Some(0.5))], Some(0.3)), [2]);
        assert_eq!(best.dropped(&[(1, Some(0.1)), (3, Some(0.3))], Some(0.05)), [1, 3]);
        assert_eq!(best.best_of(&[(1, Some(0.1)), (2, Some(0.1)), (3, None)]), Some(2));
        assert_eq!(best.best_of(&[(1, Some(0.1)), (2, Some(f64::NAN))]), Some(1));
        assert_eq!(best.best_of(&[(1, Some(f64::NEG_INFINITY)), (2, Some(0.2))]), Some(2));
    }
}
