//! What predictions say together: how far they differ, and why.

use super::predictions::Predictions;
use serde::{Deserialize, Serialize};

/// How certain predictions are, row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// One for each row.
    pub rows: Vec<RowUncertainty>,
}

/// How certain the predictions for one row are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowUncertainty {
    /// The mean over the samples, class by class.
    pub mean: Vec<f64>,
    /// The variance over the samples, class by class, with the divisor `samples - 1`.
    pub variance: Vec<f64>,
    /// The square root of the variance.
    pub std: Vec<f64>,
    /// The entropies, if the predictions are probabilities: all of all rows lie in 0 to 1, and no
    /// sample of this row is 0 for each class.
    pub entropies: Option<Entropies>,
}

/// The entropies of the predictions for one row, in nats. The probabilities of each sample are
/// divided by their sum first.
///
/// Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
/// 2011, arXiv:1112.5745, section 2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Entropies {
    /// The entropy of the mean, `H(mean p)`: all of the uncertainty.
    pub predictive_entropy: f64,
    /// The mean of the entropies, `mean H(p)`: what more training cannot take away.
    pub expected_entropy: f64,
    /// Their difference, at least 0: how far the samples disagree.
    pub mutual_information: f64,
}

impl Predictions {
    /// How certain these predictions are.
    ///
    /// ```
    /// use superduper_federated::Predictions;
    ///
    /// // Two models, one row, two classes: each is sure, and they disagree.
    /// let report = Predictions::new(2, 1, 2, vec![0.9, 0.1, 0.1, 0.9])?.uncertainty();
    /// let entropies = report.rows[0].entropies.unwrap();
    /// assert!((entropies.predictive_entropy - 0.693147).abs() < 1e-6);
    /// assert!((entropies.expected_entropy - 0.325083).abs() < 1e-6);
    /// assert!((entropies.mutual_information - 0.368064).abs() < 1e-6);
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// # Guarantees
    /// Equal predictions of all samples have a variance of 0, not nearly 0.
    pub fn uncertainty(&self) -> Uncertainty {
        let probabilities = self.values.iter().all(|value| (0.0..=1.0).contains(value));
        let row = |row| {
            let (mean, variance) = self.spread(row);
            RowUncertainty {
                mean,
                std: variance.iter().map(|variance| variance.sqrt()).collect(),
                variance,
                entropies: if probabilities { self.entropies(row) } else { None },
            }
        };
        Uncertainty { rows: (0..self.rows).map(row).collect() }
    }

    /// The mean and the variance of a row.
    fn spread(&self, row: usize) -> (Vec<f64>, Vec<f64>) {
        let class = |class: usize| {
            let values = || (0..self.samples).map(|sample| self.at(sample, row)[class]);
            // From the first one on, so that the mean of equal values is that value.
            let first = self.at(0, row)[class];
            let shift: f64 = values().map(|value| value - first).sum();
            let mean = first + shift / self.samples as f64;
            let squares: f64 = values().map(|value| (value - mean).powi(2)).sum();
            (mean, squares / (self.samples - 1) as f64)
        };
        (0..self.classes).map(class).unzip()
    }

    /// The entropies of a row of probabilities; `None` if a sample has no sum to be divided by.
    fn entropies(&self, row: usize) -> Option<Entropies> {
        let mut mean = vec![0.0; self.classes];
        let mut expected_entropy = 0.0;
        for sample in 0..self.samples {
            let values = self.at(sample, row);
            let sum: f64 = values.iter().sum();
            if sum <= 0.0 {
                return None;
            }
            let parts: Vec<f64> = values.iter().map(|value| value / sum).collect();
            expected_entropy += entropy(&parts) / self.samples as f64;
            mean.iter_mut().zip(parts).for_each(|(mean, part)| *mean += part);
        }
        mean.iter_mut().for_each(|mean| *mean /= self.samples as f64);
        let predictive_entropy = entropy(&mean);
        let mutual_information = (predictive_entropy - expected_entropy).max(0.0);
        Some(Entropies { predictive_entropy, expected_entropy, mutual_information })
    }
}

/// `-sum(p ln p)`, where a probability of 0 adds nothing.
fn entropy(probabilities: &[f64]) -> f64 {
    let some = probabilities.iter().filter(|probability| **probability > 0.0);
    some.map(|probability| -probability * probability.ln()).sum()
}
