//! How well one list of numbers follows another.

use super::classes::same_length;
use serde::{Deserialize, Serialize};
use superduper::{Error, Result};

/// How well similarities follow the given ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// The number of pairs.
    pub pairs: usize,
    /// See [`spearman`]: what the STS benchmark reports.
    pub spearman: f64,
    /// See [`pearson`].
    pub pearson: f64,
}

/// Compute both correlations.
///
/// # Errors
/// Those of [`pearson`].
pub fn similarity(found: &[f64], given: &[f64]) -> Result<Similarity> {
    Ok(Similarity {
        pairs: found.len(),
        spearman: spearman(found, given)?,
        pearson: pearson(found, given)?,
    })
}

/// Pearson's correlation coefficient, `Σ (x - x̄)(y - ȳ) / √(Σ (x - x̄)² Σ (y - ȳ)²)`, from -1 to
/// 1.
///
/// Source: K. Pearson, "Notes on regression and inheritance in the case of two parents", 1895.
///
/// # Errors
/// `InvalidInput` for lists of different length, fewer than two numbers, one that is not finite,
/// and where all numbers of a list are the same.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<f64> {
    same_length("similarities", x.len(), y.len())?;
    if x.len() < 2 {
        return Err(Error::invalid(format!("a correlation is not defined for {} pairs", x.len())));
    }
    if let Some(place) = x.iter().zip(y).position(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return Err(Error::invalid(format!(
            "pair {place} has a number that is not finite: {} and {}",
            x[place], y[place]
        )));
    }
    // The mean of equal numbers need not be that number, so their spread need not be 0.
    if [x, y].iter().any(|values| values.iter().all(|value| *value == values[0])) {
        return Err(Error::invalid("a correlation is not defined where all numbers are the same"));
    }
    let (x, y) = (centered(x), centered(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let spread = (dot(&x, &x) * dot(&y, &y)).sqrt();
    if spread == 0.0 {
        return Err(Error::invalid(
            "a correlation is not defined where all numbers are the same, up to rounding",
        ));
    }
    Ok((dot(&x, &y) / spread).clamp(-1.0, 1.0))
}

/// Numbers without their mean, multiplied by a power of 2 so that neither their sum nor their
/// squares leave the range of f64.
fn centered(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    // By halves, each of which is a number also where the whole is not.
    let exponent = if largest > 0.0 { -largest.log2().floor() as i32 } else { 0 };
    let (half, rest) = (2_f64.powi(exponent / 2), 2_f64.powi(exponent - exponent / 2));
    let scaled: Vec<f64> = values.iter().map(|value| value * half * rest).collect();
    let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
    scaled.iter().map(|value| value - mean).collect()
}

/// Spearman's rank correlation: [`pearson`] of the ranks, those of equal numbers averaged. Infinite
/// numbers have ranks.
///
/// Source: C. Spearman, "The proof and measurement of association between two things", 1904.
///
/// # Errors
/// Those of [`pearson`], of numbers that are infinite apart.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64> {
    pearson(&ranks(x), &ranks(y))
}

/// The ranks from 1; equal numbers share the mean of theirs, and NaN stays NaN.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![f64::NAN; values.len()];
    let mut from = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = from as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter()
            .filter(|place| !values[**place].is_nan())
            .for_each(|place| ranks[*place] = rank);
        from += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_those_computed_by_hand() -> Result<()> {
        // Deviations (-1.5, -0.5, 0.5, 1.5) and (-1, 0, -1, 2): 3.0 - 0.5 ... / √(5 · 6).
        let found = pearson(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 1.0, 4.0])?;
        assert!((found - 4.0 / 30_f64.sqrt()).abs() < 1e-12, "{found}");
        // Ranks (1.5, 3, 1.5, 4): deviations (-1, 0.5, -1, 1.5), sum of products 1.5 + -0.25 - 0.5
        // + 2.25 = 3, √(5 · 4.5).
        let found = spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 1.0, 40.0])?;
        assert!((found - 3.0 / 22.5_f64.sqrt()).abs() < 1e-12, "{found}");
        assert_eq!(spearman(&[1.0, 10.0, 100.0], &[-3.0, -2.0, -1.0])?, 1.0);
        assert_eq!(spearman(&[1.0, 10.0, 100.0], &[3.0, 2.0, 1.0])?, -1.0);
        Ok(())
    }

    #[test]
    fn what_has_no_correlation_is_refused() {
        for (x, y, what) in [
            (vec![1.0], vec![1.0], "not defined for 1 pairs"),
            (vec![1.0, 2.0], vec![1.0], "different"),
            (vec![1.0, 1.0], vec![1.0, 2.0], "all numbers are the same"),
            (vec![1.0, f64::NAN], vec![1.0, 2.0], "pair 1 has a number that is not finite"),
        ] {
            let error = similarity(&x, &y).unwrap_err().to_string();
            assert!(error.contains(what) || what == "different", "{error}");
        }
    }
}
