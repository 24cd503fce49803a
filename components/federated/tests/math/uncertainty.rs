//! How certain a model is.

use crate::support::*;
use superduper::{ErrorKind, Tensors};
use superduper_federated::{MomentUpdate, Moments, Predictions, SwagModel, dropout, softmax};

fn moments(mean: &[f64], square: &[f64]) -> Moments {
    Moments { mean: model(mean), square: model(square) }
}

#[tokio::test]
async fn g16_moments_are_weighted_with_samples() {
    let same = moments(&[0.0, 0.0], &[1.0, 1.0]);
    let updates =
        [MomentUpdate::new("a", 1000, same.clone()), MomentUpdate::new("b", 1000, same.clone())];
    let merged = Moments::merge(&updates).await.unwrap();
    assert_eq!(merged.mean.to_vec::<f64>("w").await.unwrap(), [0.0, 0.0]);
    assert_eq!(merged.square.to_vec::<f64>("w").await.unwrap(), [1.0, 1.0]);
    let updates = [
        MomentUpdate::new("b", 3, moments(&[5.0], &[20.0])),
        MomentUpdate::new("a", 1, moments(&[1.0], &[4.0])),
    ];
    let merged =
        tokio::spawn(async move { Moments::merge(&updates).await }).await.unwrap().unwrap();
    assert_eq!(merged.mean.to_vec::<f64>("w").await.unwrap(), [4.0]);
    assert_eq!(merged.square.to_vec::<f64>("w").await.unwrap(), [16.0]);
}

#[tokio::test]
async fn g16_lengths_that_differ_are_refused() {
    let refused = async |updates: &[MomentUpdate], text: &str| {
        let error = Moments::merge(updates).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text), "{error}");
    };
    let good = MomentUpdate::new("a", 1, moments(&[0.0; 3], &[1.0; 3]));
    let update = |mean: &[f64], square: &[f64]| MomentUpdate::new("b", 1, moments(mean, square));
    refused(
        &[good.clone(), update(&[0.0; 2], &[1.0; 2])],
        "first moments: site `b`, tensor `w`: it is F64[2], that of the first moment of site `a`",
    )
    .await;
    // (3, 3, 2) and (3, 2, 2): each of two lengths is compared, not only the outer ones.
    refused(&[good.clone(), update(&[0.0; 3], &[1.0; 2])], "second moments: site `b`").await;
    refused(&[update(&[0.0; 3], &[1.0; 2])], "second moments: site `b`").await;
    refused(&[], "no moments").await;
    refused(&[good.clone(), good.clone()], "two updates").await;
    refused(&[good.clone(), update(&[0.0, 1.0, f64::NAN], &[1.0; 3])], "element 2 is NaN").await;
    refused(&[MomentUpdate { samples: 0, ..good }], "0 samples").await;
    assert!(SwagModel::new(moments(&[0.0; 2], &[0.0])).is_err());
    let more = Moments { square: model(&[0.0]), mean: Tensors::new() };
    let error = SwagModel::new(more).unwrap_err().to_string();
    assert!(error.contains("first moment of tensor `w` is missing"), "{error}");
}

#[tokio::test]
async fn g16_draws_have_the_deviation_of_the_moments() {
    let swag = SwagModel::new(moments(&[1.0, 2.0], &[1.04, 4.25])).unwrap();
    let count = 200_000;
    let (mut sums, mut squares) = ([0.0; 2], [0.0; 2]);
    let mut before = Vec::new();
    for index in 0..count {
        let drawn: Vec<f64> = swag.draw(16, index).await.unwrap().to_vec("w").await.unwrap();
        assert_ne!(drawn, before, "two draws are equal");
        for place in 0..2 {
            sums[place] += drawn[place];
            squares[place] += drawn[place] * drawn[place];
        }
        before = drawn;
    }
    for (place, (mean, std)) in [(1.0, 0.2), (2.0, 0.5)].into_iter().enumerate() {
        let found_mean = sums[place] / count as f64;
        let found_std = (squares[place] / count as f64 - found_mean * found_mean).sqrt();
        assert!((found_mean - mean).abs() < 0.01 * std, "{found_mean}");
        assert!((found_std / std - 1.0).abs() < 0.01, "{found_std}");
    }
    let again: Vec<f64> = swag.draw(16, count - 1).await.unwrap().to_vec("w").await.unwrap();
    assert_eq!(again, before);
}

#[tokio::test]
async fn g16_a_variance_below_zero_draws_the_mean() {
    let mean = model(&[1.0, -3.0]).with("steps", &[], &[7_i64]).unwrap();
    let square = model(&[1.0 - 1e-9, 9.0]).with("steps", &[], &[49_i64]).unwrap();
    let swag = SwagModel::new(Moments { mean: mean.clone(), square }).unwrap();
    assert_eq!(content(&swag.draw(0, 0).await.unwrap()).await, content(&mean).await);
}

#[test]
fn g17_equal_models_have_no_variance() {
    let row = [0.1, 0.2, 0.7];
    for samples in [2, 3, 7, 10] {
        let report = Predictions::new(samples, 1, 3, row.repeat(samples)).unwrap().uncertainty();
        let row_report = &report.rows[0];
        assert_eq!(row_report.mean, row);
        assert_eq!(row_report.variance, [0.0; 3]);
        assert_eq!(row_report.std, [0.0; 3]);
        assert!(row_report.entropies.unwrap().mutual_information < 1e-15);
    }
}

#[test]
fn g35_the_entropies_of_two_models() {
    let report = Predictions::new(2, 1, 2, vec![0.9, 0.1, 0.1, 0.9]).unwrap().uncertainty();
    let entropies = report.rows[0].entropies.unwrap();
    assert!((entropies.predictive_entropy - 2_f64.ln()).abs() < 1e-6);
    assert!((entropies.expected_entropy - 0.325083).abs() < 1e-6);
    assert!((entropies.mutual_information - 0.368064).abs() < 1e-6);
}

#[test]
fn g35_the_entropies_and_deviations_of_three_models() {
    let values = vec![0.7, 0.2, 0.1, 0.5, 0.3, 0.2, 0.2, 0.2, 0.6];
    // A second row beside it must not mix with it.
    let two_rows = values.chunks(3).flat_map(|row| [row, &[1.0, 0.0, 0.0]].concat()).collect();
    let report = Predictions::new(3, 2, 3, two_rows).unwrap().uncertainty();
    assert_eq!(report.rows[0], Predictions::new(3, 1, 3, values).unwrap().uncertainty().rows[0]);
    let row = &report.rows[0];
    let entropies = row.entropies.unwrap();
    assert!((entropies.predictive_entropy - 1.056424).abs() < 1e-6);
    assert!((entropies.expected_entropy - 0.927247).abs() < 1e-6);
    for (found, wanted) in row.std.iter().zip([0.251661, 0.057735, 0.264575]) {
        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
    }
    for (variance, std) in row.variance.iter().zip(&row.std) {
        assert!((variance - std * std).abs() < 1e-15);
    }
    let sure = report.rows[1].entropies.unwrap();
    assert_eq!((sure.predictive_entropy, sure.expected_entropy), (0.0, 0.0));
}

#[test]
fn g35_what_is_no_probability_has_no_entropy() {
    let report = Predictions::new(2, 2, 2, vec![0.5, 0.5, 0.1, 0.9, 0.5, 0.5, 0.1, 1.1]).unwrap();
    let report = report.uncertainty();
    assert!(report.rows.iter().all(|row| row.entropies.is_none()));
    assert!((report.rows[1].mean[1] - 1.0).abs() < 1e-15);
    // Probabilities that do not add up to 1 are divided by their sum.
    let half = Predictions::new(2, 1, 2, vec![0.45, 0.05, 0.05, 0.45]).unwrap().uncertainty();
    let entropies = half.rows[0].entropies.unwrap();
    assert!((entropies.expected_entropy - 0.325083).abs() < 1e-6);
    let none = Predictions::new(2, 1, 2, vec![0.0, 0.0, 1.0, 0.0]).unwrap().uncertainty();
    assert!(none.rows[0].entropies.is_none());
}

#[test]
fn g35_softmax_makes_probabilities() {
    assert_eq!(softmax(&[0.0, 0.0]), [0.5, 0.5]);
    let large = softmax(&[1000.0, 1000.0 + 3_f64.ln(), -1e300]);
    for (found, wanted) in large.iter().zip([0.25, 0.75, 0.0]) {
        assert!((found - wanted).abs() < 1e-12, "{large:?}");
    }
    let logits = vec![9_f64.ln(), 0.0, 0.0, 9_f64.ln()];
    let report = Predictions::new(2, 1, 2, logits).unwrap().softmax().uncertainty();
    assert!((report.rows[0].entropies.unwrap().mutual_information - 0.368064).abs() < 1e-6);
}

#[test]
fn g35_predictions_of_another_shape_are_refused() {
    let refused = |samples, rows, classes, count, text: &str| {
        let error = Predictions::new(samples, rows, classes, vec![0.5; count]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(1, 1, 2, 2, "at least 2 samples");
    refused(2, 1, 0, 0, "at least 1 class");
    refused(2, 3, 2, 11, "are not 11 values");
    refused(usize::MAX, 2, 2, 4, "are not 4 values");
    let values = vec![0.0, 0.0, 0.0, 0.0, 0.0, f64::NAN, 0.0, 0.0];
    let error = Predictions::new(2, 2, 2, values).unwrap_err().to_string();
    assert!(error.contains("sample 1, row 0, class 1 is NaN"), "{error}");
    assert!(Predictions::new(2, 0, 2, Vec::new()).unwrap().uncertainty().rows.is_empty());
}

#[test]
fn g35_dropout_keeps_the_mean() {
    let values = [1.0, 2.0, 3.0, 4.0];
    let means: Vec<f64> = (0..100_000)
        .map(|index| dropout(&values, 0.25, 35, index).unwrap().iter().sum::<f64>() / 4.0)
        .collect();
    let mean = means.iter().sum::<f64>() / 100_000.0;
    let variance = means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 99_999.0;
    assert!((mean / 2.5 - 1.0).abs() < 0.01, "{mean}");
    assert!((variance / 0.625 - 1.0).abs() < 0.02, "{variance}");
    assert_eq!(dropout(&values, 0.0, 1, 1).unwrap(), values);
    assert_eq!(dropout(&values, 0.5, 1, 1).unwrap(), dropout(&values, 0.5, 1, 1).unwrap());
    for probability in [1.0, -0.1, f64::NAN] {
        assert!(dropout(&values, probability, 0, 0).is_err());
    }
}
