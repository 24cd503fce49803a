//! Dropout that stays on when a model predicts.

use superduper::{Error, Result};
use superduper_train::Rng;

/// Set each value to 0 with this probability and multiply the others by `1 / (1 - probability)`,
/// so that the expected values stay as they are.
///
/// `index` counts the samples of a prediction: each index has draws of its own, and equal arguments
/// give equal values.
///
/// Sources: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
/// 2014; Gal and Ghahramani, "Dropout as a Bayesian Approximation", 2015, arXiv:1506.02142.
///
/// # Errors
/// `InvalidInput` for a probability that is not at least 0 and below 1.
pub fn dropout(values: &[f64], probability: f64, seed: u64, index: u64) -> Result<Vec<f64>> {
    if !(0.0..1.0).contains(&probability) {
        let text = format!("`probability` must be at least 0 and below 1, not {probability}");
        return Err(Error::invalid(text).fatal());
    }
    let mut rng = Rng::named(seed, &format!("dropout/{index}"));
    let scale = 1.0 / (1.0 - probability);
    let drop = |&value: &f64| if rng.next_f64() < probability { 0.0 } else { value * scale };
    Ok(values.iter().map(drop).collect())
}
