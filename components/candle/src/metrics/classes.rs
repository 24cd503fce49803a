//! How well a classifier does, by the classes it names.
//!
//! Every row counts the same. Lists without rows are refused, so no score is ever 0 divided by 0.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use superduper::{Error, Result, ResultExt};

/// The scores of a classifier on one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The number of rows.
    pub rows: usize,
    /// See [`accuracy`].
    pub accuracy: f64,
    /// See [`cross_entropy`].
    pub cross_entropy: f64,
    /// See [`macro_f1`].
    pub macro_f1: f64,
    /// See [`confusion_matrix`].
    pub confusion: Vec<Vec<u64>>,
}

/// Compute all scores from logits of shape `[rows, classes]` and the class of each row.
///
/// # Errors
/// `InvalidInput` where the shapes do not fit together or a class is out of range.
pub fn evaluate(logits: &Tensor, labels: &[u32]) -> Result<Evaluation> {
    let cross_entropy = cross_entropy(logits, labels)?;
    let confusion = confusion_matrix(&most_likely(logits)?, labels, logits.dims()[1])?;
    let right: u64 = confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
    Ok(Evaluation {
        rows: labels.len(),
        accuracy: right as f64 / labels.len() as f64,
        cross_entropy,
        macro_f1: macro_f1(&confusion),
        confusion,
    })
}

/// The class with the highest score in each row of logits of shape `[rows, classes]`; the lowest of
/// equals.
///
/// # Errors
/// `InvalidInput` for a tensor of another rank, and for a score that is NaN.
pub fn most_likely(logits: &Tensor) -> Result<Vec<u32>> {
    let rows = rows(logits)?;
    if let Some(row) = rows.iter().position(|row| row.iter().any(|score| score.is_nan())) {
        return Err(Error::invalid(format!("row {row} has a score that is NaN")));
    }
    let first_highest = |row: &Vec<f64>| {
        let mut best = 0;
        for (class, score) in row.iter().enumerate() {
            if *score > row[best] {
                best = class;
            }
        }
        best as u32
    };
    Ok(rows.iter().map(first_highest).collect())
}

/// The part of the rows whose class was predicted, from 0 to 1.
///
/// # Errors
/// `InvalidInput` for lists of different length or without rows.
pub fn accuracy(predicted: &[u32], labels: &[u32]) -> Result<f64> {
    same_length("predictions", predicted.len(), labels.len())?;
    let right =
        predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    Ok(right as f64 / labels.len() as f64)
}

/// How many rows of each true class (outer index) were predicted as each class (inner index).
///
/// # Errors
/// `InvalidInput` for lists of different length or without rows, or a class that is not below
/// `classes`.
pub fn confusion_matrix(
    predicted: &[u32],
    labels: &[u32],
    classes: usize,
) -> Result<Vec<Vec<u64>>> {
    same_length("predictions", predicted.len(), labels.len())?;
    let mut matrix = vec![vec![0; classes]; classes];
    for (row, (&predicted, &label)) in predicted.iter().zip(labels).enumerate() {
        let cell = matrix.get_mut(label as usize).and_then(|line| line.get_mut(predicted as usize));
        *cell.ok_or_else(|| {
            Error::invalid(format!("row {row} is of class {label} and predicted as {predicted}, there are {classes} classes"))
        })? += 1;
    }
    Ok(matrix)
}

/// The mean over the classes of `F₁ = 2 TP / (2 TP + FP + FN)`, from 0 to 1.
///
/// Classes that neither occur nor are predicted are left out. Source: the arithmetic mean of F1 of
/// J. Opitz and S. Burst, "Macro F1 and Macro F1", 2019, equation 1; scikit-learn's
/// `f1_score(average="macro")` gives the same.
pub fn macro_f1(confusion: &[Vec<u64>]) -> f64 {
    let (mut sum, mut classes) = (0.0, 0_u32);
    for (class, row) in confusion.iter().enumerate() {
        let right = row[class];
        let actual: u64 = row.iter().sum();
        let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
        if actual + predicted > 0 {
            // 2 TP + FP + FN is the number of rows of the class plus the number of rows predicted
            // as it.
            sum += 2.0 * right as f64 / (actual + predicted) as f64;
            classes += 1;
        }
    }
    if classes == 0 { 0.0 } else { sum / f64::from(classes) }
}

/// The mean over the rows of `-ln softmax(logits)[label]`, in nats; computed in f64. It is infinite
/// where the score of a row's class is -∞.
///
/// Source: C. Bishop, "Pattern Recognition and Machine Learning", 2006, equation 4.108, divided by
/// the number of rows.
///
/// # Errors
/// `InvalidInput` where logits are not of shape `[labels, classes]` or have no softmax (NaN, ∞, or
/// nothing but -∞), or a class is out of range.
pub fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<f64> {
    let rows = probable_rows(logits)?;
    same_length("rows of logits", rows.len(), labels.len())?;
    let mut sum = 0.0;
    for (index, (row, &label)) in rows.iter().zip(labels).enumerate() {
        let score = row.get(label as usize).ok_or_else(|| {
            Error::invalid(format!(
                "row {index} is of class {label}, there are {} classes",
                row.len()
            ))
        })?;
        // The largest score is taken out so that no exponential overflows.
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        sum += largest + row.iter().map(|score| (score - largest).exp()).sum::<f64>().ln() - score;
    }
    Ok(sum / labels.len() as f64)
}

/// The perplexity: e to the power of the [`cross_entropy`], at least 1; as many classes as the
/// model hesitates between.
///
/// Source: F. Jelinek, R. Mercer, L. Bahl and J. Baker, "Perplexity, a measure of the difficulty of
/// speech recognition tasks", 1977, with e in place of 2 on both sides.
///
/// # Errors
/// Those of [`cross_entropy`].
pub fn perplexity(logits: &Tensor, labels: &[u32]) -> Result<f64> {
    cross_entropy(logits, labels).map(f64::exp)
}

/// The rows of logits, each of which has a softmax.
pub(super) fn probable_rows(logits: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = rows(logits)?;
    let unfit = |score: f64| score.is_nan() || score == f64::INFINITY;
    for (index, row) in rows.iter().enumerate() {
        if let Some(class) = row.iter().position(|score| unfit(*score)) {
            return Err(Error::invalid(format!(
                "row {index} has the score {} for class {class}",
                row[class]
            )));
        }
        if row.iter().all(|score| *score == f64::NEG_INFINITY) {
            return Err(Error::invalid(format!("row {index} has no score above -inf")));
        }
    }
    Ok(rows)
}

fn rows(logits: &Tensor) -> Result<Vec<Vec<f64>>> {
    if logits.rank() != 2 || logits.dims()[1] == 0 {
        return Err(Error::invalid(format!(
            "logits have shape {:?}, needed is [rows, classes]",
            logits.dims()
        )));
    }
    logits
        .to_dtype(DType::F64)
        .and_then(|logits| logits.to_vec2())
        .context(format_args!("logits of shape {:?}", logits.dims()))
}

pub(super) fn same_length(what: &str, found: usize, labels: usize) -> Result<()> {
    if found != labels || labels == 0 {
        return Err(Error::invalid(format!(
            "{found} {what} for {labels} labels: the numbers must be equal and not 0"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn scores_are_those_computed_by_hand() -> Result<()> {
        // scikit-learn's user guide: f1_score([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1],
        // average="macro") is 0.26…
        let (labels, predicted) = ([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]);
        let confusion = confusion_matrix(&predicted, &labels, 3)?;
        assert_eq!(confusion, [[2, 0, 0], [1, 0, 1], [0, 2, 0]]);
        assert!((macro_f1(&confusion) - 0.8 / 3.0).abs() < 1e-12);
        assert!((accuracy(&predicted, &labels)? - 1.0 / 3.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn absent_classes_do_not_count() -> Result<()> {
        assert_eq!(macro_f1(&confusion_matrix(&[0, 2], &[0, 2], 5)?), 1.0);
        Ok(())
    }

    #[test]
    fn cross_entropy_is_exact_and_does_not_overflow() -> Result<()> {
        let logits = Tensor::new(&[[0_f32, 0.0], [1000.0, 0.0]], &Device::Cpu).unwrap();
        assert!((cross_entropy(&logits, &[1, 0])? - 2_f64.ln() / 2.0).abs() < 1e-12);
        assert!((cross_entropy(&logits, &[1, 1])? - (2_f64.ln() + 1000.0) / 2.0).abs() < 1e-9);
        // Two equal scores are a perplexity of 2, one certainty one of 1; the mean is that of the
        // logarithms.
        assert!((perplexity(&logits, &[1, 0])? - 2_f64.sqrt()).abs() < 1e-12);
        let scores = evaluate(&logits, &[1, 0])?;
        assert_eq!(
            (scores.rows, scores.accuracy, scores.confusion),
            (2, 0.5, vec![vec![1, 0], vec![1, 0]])
        );
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let logits = Tensor::new(&[[0_f32, 0.0]], &Device::Cpu).unwrap();
        assert_eq!(
            evaluate(&logits, &[2]).unwrap_err().to_string(),
            "row 0 is of class 2, there are 2 classes"
        );
        assert!(evaluate(&logits, &[0, 0]).is_err());
        assert!(accuracy(&[], &[]).is_err());
        assert!(confusion_matrix(&[4], &[0], 2).is_err());
    }
}
