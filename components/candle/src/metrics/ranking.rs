//! How well a classifier ranks: the area under the receiver operating characteristic.

use super::classes::{probable_rows, same_length};
use candle_core::Tensor;
use superduper::{Error, Result};

/// The area under the ROC curve of scores: how often a positive row is above a negative one, a tie
/// counting one half.
///
/// With the ranks of all scores, from 1 and averaged over ties:
/// `(Σ ranks of positives - p (p + 1) / 2) / (p n)` for `p` positive and `n` negative rows. Source:
/// T. Fawcett, "An introduction to ROC analysis", 2006, section 7; J. Hanley and B. McNeil, "The
/// meaning and use of the area under a receiver operating characteristic (ROC) curve", 1982.
///
/// # Errors
/// `InvalidInput` for lists of different length, a score that is not finite, or where all rows are
/// on one side.
pub fn binary_auc(scores: &[f64], positive: &[bool]) -> Result<f64> {
    same_length("scores", scores.len(), positive.len())?;
    if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::invalid(format!(
            "the score of row {row} is {}, not a finite number",
            scores[row]
        )));
    }
    area(scores, positive)
}

/// The area for scores that may be infinite; none of them is NaN.
fn area(scores: &[f64], positive: &[bool]) -> Result<f64> {
    let positives = positive.iter().filter(|positive| **positive).count();
    let negatives = positive.len() - positives;
    if positives == 0 || negatives == 0 {
        return Err(Error::invalid(format!(
            "the AUC is not defined for {positives} positive and {negatives} negative rows"
        )));
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut ranks, mut from) = (0.0, 0);
    // `chunk_by` compares with `==`, so that -0.0 ties with 0.0.
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let rank = from as f64 + (tied.len() + 1) as f64 / 2.0;
        ranks += rank * tied.iter().filter(|row| positive[**row]).count() as f64;
        from += tied.len();
    }
    let (p, n) = (positives as f64, negatives as f64);
    Ok((ranks - p * (p + 1.0) / 2.0) / (p * n))
}

/// The mean over the classes of the area under the ROC curve of each class against all others.
///
/// The score of a class is its log-odds under the softmax of the logits, which ranks as its
/// probability does but never rounds to 1. Of two classes both areas are the same, that of the
/// usual binary case. Classes that do not occur are left out. scikit-learn's
/// `roc_auc_score(multi_class="ovr", average="macro")` gives the same. Source: Fawcett, see
/// [`binary_auc`], section 9.2, with every class weighted the same.
///
/// # Errors
/// `InvalidInput` where logits are not of shape `[labels, classes]` or have no softmax, a class is
/// out of range, or fewer than two occur.
pub fn auc(logits: &Tensor, labels: &[u32]) -> Result<f64> {
    let rows = probable_rows(logits)?;
    same_length("rows of logits", rows.len(), labels.len())?;
    let classes = rows[0].len();
    if let Some(row) = labels.iter().position(|label| *label as usize >= classes) {
        return Err(Error::invalid(format!(
            "row {row} is of class {}, there are {classes} classes",
            labels[row]
        )));
    }
    let occurring: Vec<usize> =
        (0..classes).filter(|class| labels.contains(&(*class as u32))).collect();
    let mut sum = 0.0;
    for &class in &occurring {
        let scores: Vec<f64> = rows.iter().map(|row| log_odds(row, class)).collect();
        let positive: Vec<bool> = labels.iter().map(|label| *label as usize == class).collect();
        sum += area(&scores, &positive)?;
    }
    Ok(sum / occurring.len() as f64)
}

/// `z - ln Σ exp z'` over the other classes; infinite where one side has no score above -∞.
fn log_odds(row: &[f64], class: usize) -> f64 {
    let others =
        || row.iter().enumerate().filter(|(other, _)| *other != class).map(|(_, score)| *score);
    let largest = others().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    row[class] - largest - others().map(|score| (score - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn areas_are_those_computed_by_hand() -> Result<()> {
        // scikit-learn's documentation: roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) is 0.75.
        assert_eq!(binary_auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true])?, 0.75);
        // Of six pairs four are in order and one is tied.
        assert_eq!(
            binary_auc(&[0.5, 0.1, 0.5, 0.7, 0.3], &[false, false, true, true, false])?,
            5.5 / 6.0
        );
        assert_eq!(binary_auc(&[1.0; 5], &[true, false, true, false, false])?, 0.5);
        assert_eq!(binary_auc(&[-0.0, 0.0], &[true, false])?, 0.5);
        assert_eq!(binary_auc(&[2.0, 1.0], &[false, true])?, 0.0);
        Ok(())
    }

    #[test]
    fn classes_count_the_same() -> Result<()> {
        let logits = Tensor::new(
            &[[2_f32, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]],
            &Device::Cpu,
        )
        .unwrap();
        // Row 0 is of class 1: of its pairs with rows 2 and 3 it ties with row 2 and is below row
        // 3.
        let labels = [1, 1, 2, 0];
        let class1 = (2.0 + 0.5 + 0.0) / 4.0;
        // Class 0: row 3 is below row 0, above rows 1 and 2. Class 2: row 2 above all.
        let class0 = 2.0 / 3.0;
        assert!((auc(&logits, &labels)? - (class0 + class1 + 1.0) / 3.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn what_is_not_defined_is_refused() {
        let refused = |scores: &[f64], positive: &[bool]| {
            binary_auc(scores, positive).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&[1.0, 2.0], &[true, true]),
            "the AUC is not defined for 2 positive and 0 negative rows"
        );
        assert_eq!(
            refused(&[1.0, f64::NAN], &[true, false]),
            "the score of row 1 is NaN, not a finite number"
        );
        let logits = Tensor::new(&[[2_f32, 0.0], [0.0, 2.0]], &Device::Cpu).unwrap();
        assert_eq!(
            auc(&logits, &[0, 2]).unwrap_err().to_string(),
            "row 1 is of class 2, there are 2 classes"
        );
        assert!(auc(&logits, &[0, 0]).is_err());
    }
}
