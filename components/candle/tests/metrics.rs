//! Metrics at their edges beside scipy and scikit-learn: `data/metrics/cases.json`, which `make.py`
//! beside it made.

use candle_core::{Device, Tensor};
use serde_json::Value;
use std::path::Path;
use superduper::{Error, ErrorKind, Result};
use superduper_candle::metrics;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn singles(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|value| value as f32).collect()
}

fn classes(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|value| value as u32).collect()
}

fn logits(value: &Value) -> Tensor {
    let rows: Vec<Vec<f32>> = value.as_array().unwrap().iter().map(singles).collect();
    let shape = (rows.len(), rows.first().map_or(2, Vec::len));
    Tensor::from_vec(rows.concat(), shape, &Device::Cpu).unwrap()
}

fn score(case: &Value) -> Result<f64> {
    let (a, b) = (&case["a"], &case["b"]);
    match case["metric"].as_str().unwrap() {
        "pearson" => metrics::pearson(&numbers(a), &numbers(b)),
        "spearman" => metrics::spearman(&numbers(a), &numbers(b)),
        "binary_auc" => metrics::binary_auc(
            &numbers(a),
            &classes(b).iter().map(|class| *class == 1).collect::<Vec<bool>>(),
        ),
        "mean_squared_error" => metrics::mean_squared_error(&singles(a), &singles(b)),
        "mean_absolute_error" => {
            Ok(metrics::regression_metrics(&singles(a), &singles(b))?.mean_absolute_error)
        }
        "r2" => metrics::regression_metrics(&singles(a), &singles(b))?
            .r2
            .ok_or_else(|| Error::invalid("not defined")),
        "cross_entropy" => metrics::cross_entropy(&logits(a), &classes(b)),
        "perplexity" => metrics::perplexity(&logits(a), &classes(b)),
        "auc" => metrics::auc(&logits(a), &classes(b)),
        "accuracy" => metrics::accuracy(&classes(a), &classes(b)),
        "macro_f1" => {
            Ok(metrics::macro_f1(&metrics::confusion_matrix(&classes(a), &classes(b), 3)?))
        }
        other => panic!("no metric {other}"),
    }
}

#[test]
fn b21_metrics_are_those_of_scipy_and_scikit_learn() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/metrics/cases.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() > 140, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (found, expected) = (score(case), &case["expected"]);
        // Of numbers that differ by 1e-9 of their size, half of the digits are left; scipy rounds
        // the mean of subnormal ones.
        let most = match case["name"].as_str() {
            Some("constant but for one") => 1e-6,
            Some("subnormal") => 1e-4,
            _ => 1e-9,
        };
        let fits = match &found {
            // Where they say that a score is not defined, it is an error here.
            Err(error) => {
                error.kind() == ErrorKind::InvalidInput
                    && (expected == "nan" || expected == "error")
            }
            Ok(found) if expected == "inf" => *found == f64::INFINITY,
            Ok(found) => expected.as_f64().is_some_and(|expected| {
                (found - expected).abs() <= most * expected.abs().max(1e-290)
            }),
        };
        if !fits {
            wrong.push(format!(
                "{} of {}: {found:?} is not {expected}",
                case["metric"], case["name"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn b21_what_is_nan_is_no_class() {
    let scores = Tensor::new(&[[0_f32, 1.0], [1.0, f32::NAN]], &Device::Cpu).unwrap();
    assert_eq!(
        metrics::most_likely(&scores).unwrap_err().to_string(),
        "row 1 has a score that is NaN"
    );
    assert!(metrics::evaluate(&scores, &[1, 0]).is_err());
    let (sum, largest) = ([f64::MAX, f64::MAX, 0.0, -f64::MAX], f64::MAX);
    let found = metrics::pearson(&sum, &[1.0, 1.0, 0.0, -1.0]).unwrap();
    assert!(
        (found
            - metrics::pearson(&sum.map(|value| value / largest), &[1.0, 1.0, 0.0, -1.0]).unwrap())
        .abs()
            < 1e-12,
        "{found}"
    );
}
