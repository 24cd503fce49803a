//! What several models, or one model several times, predict for the same rows.

use superduper::{Error, Result};

/// Predictions of the shape samples x rows x classes: a sample is a model of an ensemble, a draw of
/// SWAG, or a pass with dropout.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    pub(super) samples: usize,
    pub(super) rows: usize,
    pub(super) classes: usize,
    pub(super) values: Vec<f64>,
}

impl Predictions {
    /// Predictions of this shape; the values sample by sample, in each row by row.
    ///
    /// # Errors
    /// `InvalidInput` for fewer than two samples, of which there is no variance, for no class, for
    /// another number of values, and for a value that is NaN or infinite.
    pub fn new(samples: usize, rows: usize, classes: usize, values: Vec<f64>) -> Result<Self> {
        if samples < 2 {
            let text = format!("an uncertainty needs at least 2 samples, not {samples}");
            return Err(Error::invalid(text).with_hint("predict with more models or draws"));
        }
        if classes == 0 {
            return Err(Error::invalid("predictions need at least 1 class"));
        }
        let count = samples.checked_mul(rows).and_then(|count| count.checked_mul(classes));
        if count != Some(values.len()) {
            let found = values.len();
            return Err(Error::invalid(format!(
                "{samples} samples of {rows} rows of {classes} classes are not {found} values"
            )));
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let per_sample = rows * classes;
            return Err(Error::invalid(format!(
                "sample {}, row {}, class {} is {}",
                index / per_sample,
                index % per_sample / classes,
                index % classes,
                values[index]
            )));
        }
        Ok(Predictions { samples, rows, classes, values })
    }

    /// The number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Turn logits into probabilities; see [`softmax`].
    pub fn softmax(mut self) -> Self {
        self.values.chunks_exact_mut(self.classes).for_each(softmax_in_place);
        self
    }

    /// What a sample predicts for a row, class by class. Sample and row must be in range.
    pub(super) fn at(&self, sample: usize, row: usize) -> &[f64] {
        &self.values[(sample * self.rows + row) * self.classes..][..self.classes]
    }
}

/// The probabilities of logits: `exp(x_i) / sum(exp(x_j))`.
///
/// The largest is subtracted first, so that no exponential is infinite.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let mut values = logits.to_vec();
    softmax_in_place(&mut values);
    values
}

fn softmax_in_place(values: &mut [f64]) {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}
