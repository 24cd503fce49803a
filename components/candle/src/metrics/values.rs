//! How well a model predicts values.

use super::classes::same_length;
use serde::{Deserialize, Serialize};
use superduper::{Error, Result};

/// How close the values of a model are to those of a table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegressionMetrics {
    /// The number of rows.
    pub rows: usize,
    /// See [`mean_squared_error`].
    pub mean_squared_error: f64,
    /// The mean of `|predicted - value|`.
    pub mean_absolute_error: f64,
    /// The coefficient of determination, `1 - Σ (predicted - value)² / Σ (value - mean)²`: 1 for a
    /// model that is right, 0 for one that always says the mean; `None` where all values are the
    /// same.
    pub r2: Option<f64>,
}

/// Compute all scores of predicted values.
///
/// # Errors
/// `InvalidInput` for lists of different length or without rows, and for a number that is not
/// finite.
pub fn regression_metrics(predicted: &[f32], values: &[f32]) -> Result<RegressionMetrics> {
    let mean_squared_error = mean_squared_error(predicted, values)?;
    let rows = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / rows;
    let variance =
        values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / rows;
    Ok(RegressionMetrics {
        rows: values.len(),
        mean_squared_error,
        mean_absolute_error: errors(predicted, values).map(f64::abs).sum::<f64>() / rows,
        // The variance of equal numbers need not be 0: their mean is rounded.
        r2: (variance > 0.0 && values.iter().any(|value| *value != values[0]))
            .then(|| 1.0 - mean_squared_error / variance),
    })
}

/// The mean of `(predicted - value)²`; computed in f64.
///
/// Source: C. Bishop, "Pattern Recognition and Machine Learning", 2006, equation 3.12, times 2 and
/// divided by the number of rows.
///
/// # Errors
/// `InvalidInput` for lists of different length or without rows, and for a number that is not
/// finite.
pub fn mean_squared_error(predicted: &[f32], values: &[f32]) -> Result<f64> {
    same_length("predictions", predicted.len(), values.len())?;
    if let Some(row) = predicted
        .iter()
        .zip(values)
        .position(|(predicted, value)| !predicted.is_finite() || !value.is_finite())
    {
        let text = format!(
            "row {row} has a number that is not finite: predicted is {}, the value is {}",
            predicted[row], values[row]
        );
        return Err(Error::invalid(text));
    }
    Ok(errors(predicted, values).map(|error| error * error).sum::<f64>() / values.len() as f64)
}

fn errors<'a>(predicted: &'a [f32], values: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
    predicted.iter().zip(values).map(|(predicted, value)| f64::from(*predicted) - f64::from(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_computed_by_hand() -> Result<()> {
        // scikit-learn's user guide: mean_squared_error([3, -0.5, 2, 7], [2.5, 0.0, 2, 8]) is
        // 0.375, the mean absolute error 0.5, r2_score 0.948….
        let scores = regression_metrics(&[2.5, 0.0, 2.0, 8.0], &[3.0, -0.5, 2.0, 7.0])?;
        assert_eq!(
            (scores.rows, scores.mean_squared_error, scores.mean_absolute_error),
            (4, 0.375, 0.5)
        );
        // The mean is 2.875, the sum of squares around it 29.1875.
        assert!(scores.r2.is_some_and(|r2| (r2 - (1.0 - 1.5 / 29.1875)).abs() < 1e-12));
        assert_eq!(regression_metrics(&[1.0, 2.0], &[5.0, 5.0])?.r2, None);
        assert!(
            mean_squared_error(&[], &[]).is_err()
                && mean_squared_error(&[1.0], &[1.0, 2.0]).is_err()
        );
        Ok(())
    }
}
