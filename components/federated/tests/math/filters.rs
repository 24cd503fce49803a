//! What is done to updates before they leave their sites.

use crate::support::*;
use superduper::Tensors;
use superduper_federated::{ClipNorm, ExcludeVars, Filter, GaussianNoise, Update, apply_filters};

fn layers(values: [f64; 3]) -> Tensors {
    let [a, b, c] = values;
    let tensors = Tensors::new().with("head.bias", &[1], &[a]).unwrap();
    let tensors = tensors.with("head.weight", &[1], &[b]).unwrap();
    tensors.with("trunk", &[1], &[c]).unwrap()
}

async fn flat(update: &Update) -> Vec<f64> {
    let mut all = Vec::new();
    for name in update.tensors.names() {
        all.extend(update.tensors.to_vec::<f64>(name).await.unwrap());
    }
    all
}

#[tokio::test]
async fn excluded_tensors_go_out_as_those_of_the_global_model() {
    let global = layers([1.0, 2.0, 3.0]);
    let run = async |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let update = Update::new("a", 5, layers([7.0, 8.0, 9.0]));
        ExcludeVars { names }.apply(0, &global, update, 0).await
    };
    assert_eq!(flat(&run(&["trunk"]).await.unwrap()).await, [7.0, 8.0, 3.0]);
    assert_eq!(flat(&run(&["head.*"]).await.unwrap()).await, [1.0, 2.0, 9.0]);
    assert_eq!(flat(&run(&["head.bias", "t*"]).await.unwrap()).await, [1.0, 8.0, 3.0]);
    assert_eq!(flat(&run(&["*"]).await.unwrap()).await, [1.0, 2.0, 3.0]);
    // `head` is no prefix without a star, and what means nothing is refused.
    for names in [&["head"][..], &["trunk", "Head.*"], &[], &[""], &["h*.bias"]] {
        let error = run(names).await.unwrap_err().to_string();
        assert!(error.contains("to exclude") || error.contains("ExcludeVars: "), "{error}");
    }
}

#[tokio::test]
async fn the_difference_is_clipped_over_all_tensors_together() {
    let global = layers([1.0, 1.0, 1.0]).with("steps", &[], &[0_i64]).unwrap();
    let long = layers([1.0, 4.0, -3.0]).with("steps", &[], &[1000_i64]).unwrap();
    let update = || Update::new("a", 5, long.clone());
    // The difference is 0, 3, -4: its length is 5.
    let clipped = ClipNorm { max: 2.5 }.apply(0, &global, update(), 0).await.unwrap();
    let found = ["head.bias", "head.weight", "trunk"];
    for (name, wanted) in found.into_iter().zip([1.0, 2.5, -1.0]) {
        assert_eq!(clipped.tensors.to_vec::<f64>(name).await.unwrap(), [wanted]);
    }
    assert_eq!(clipped.tensors.to_vec::<i64>("steps").await.unwrap(), [1000]);
    assert_eq!((clipped.samples, &*clipped.site), (5, "a"));
    for max in [5.0, 1e9] {
        let same = ClipNorm { max }.apply(0, &global, update(), 0).await.unwrap();
        assert_eq!(content(&same.tensors).await, content(&long).await);
    }
    for max in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(ClipNorm { max }.check().is_err());
        assert!(ClipNorm { max }.apply(0, &global, update(), 0).await.is_err());
    }
    let nan = model(&[f64::NAN]);
    let error = ClipNorm { max: 1.0 }.apply(0, &nan, Update::new("x", 1, nan.clone()), 0).await;
    assert!(error.unwrap_err().to_string().contains("site `x`"));
}

#[tokio::test]
async fn clipping_works_in_each_type_and_for_odd_lengths() {
    for dtype in FLOATS {
        for length in [1, 7, 8, 9, 1001] {
            let values: Vec<f64> = (0..length).map(|at| f64::from(at % 9) - 3.0).collect();
            let tensors = |values: &[f64]| {
                Tensors::new()
                    .with_bytes("w", dtype, &[values.len()], bytes(dtype, values))
                    .unwrap()
            };
            let (global, long) = (tensors(&vec![2.0; values.len()]), tensors(&values));
            let clip = ClipNorm { max: 1.0 };
            let clipped = clip.apply(0, &global, Update::new("a", 1, long), 0).await.unwrap();
            let found = numbers(dtype, &clipped.tensors.get("w").await.unwrap().bytes);
            let length: f64 = found.iter().map(|value| (value - 2.0).powi(2)).sum::<f64>().sqrt();
            let precision = match dtype.bits() {
                64 => 1e-12,
                32 => 1e-5,
                _ => 0.3,
            };
            assert!((length - 1.0).abs() < precision, "{dtype}: {length}");
        }
    }
}

#[tokio::test]
async fn noise_has_its_deviation_and_is_repeatable() {
    let global = model(&vec![0.5; 50_000]);
    let noise = GaussianNoise { sigma: 0.4, clip: 5.0 };
    let run = async |site: &str, round: u64, seed: u64| {
        let update = Update::new(site, 1, global.clone());
        let update = noise.apply(round, &global, update, seed).await.unwrap();
        update.tensors.to_vec::<f64>("w").await.unwrap()
    };
    let first = run("a", 0, 1).await;
    let mean = first.iter().map(|value| value - 0.5).sum::<f64>() / 50_000.0;
    let variance = first.iter().map(|value| (value - 0.5 - mean).powi(2)).sum::<f64>() / 50_000.0;
    assert!(mean.abs() < 0.04 && (variance.sqrt() - 2.0).abs() < 0.04, "{mean} {variance}");
    assert_eq!(first, run("a", 0, 1).await);
    let equal = |other: &[f64]| first.iter().zip(other).filter(|(a, b)| a == b).count();
    for other in [run("b", 0, 1).await, run("a", 1, 1).await, run("a", 0, 2).await] {
        assert_eq!(equal(&other), 0);
    }
    for (sigma, clip) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1e300, 1e300)] {
        assert!(GaussianNoise { sigma, clip }.check().is_err());
    }
}

#[tokio::test]
async fn noise_is_added_after_clipping_and_tensors_differ() {
    let zeros = || Tensors::new().with("a", &[9], &[0.0_f32; 9]).unwrap();
    let global = zeros().with("b", &[9], &[0.0_f32; 9]).unwrap();
    let long = zeros().with("b", &[9], &[1e6_f32; 9]).unwrap();
    let noise = GaussianNoise { sigma: 0.1, clip: 1.0 };
    let update = noise.apply(0, &global, Update::new("s", 1, long), 3).await.unwrap();
    let a = update.tensors.to_vec::<f32>("a").await.unwrap();
    let b = update.tensors.to_vec::<f32>("b").await.unwrap();
    assert!(b.iter().all(|value| (value - 1.0 / 3.0).abs() < 1.0), "{b:?}");
    assert!(a.iter().zip(&b).all(|(a, b)| (b - a - 1.0 / 3.0).abs() > 1e-6), "{a:?} {b:?}");
}

#[tokio::test]
async fn filters_run_in_their_order_and_errors_name_them() {
    let global = layers([0.0, 0.0, 0.0]);
    let update = || Update::new("a", 5, layers([0.0, 3.0, 4.0]));
    let exclude = || Box::new(ExcludeVars { names: vec!["trunk".to_owned()] }) as Box<dyn Filter>;
    let clip = || Box::new(ClipNorm { max: 1.0 }) as Box<dyn Filter>;
    let run = async |filters: Vec<Box<dyn Filter>>| {
        apply_filters(&filters, 0, &global, update(), 0).await
    };
    assert_eq!(flat(&run(vec![exclude(), clip()]).await.unwrap()).await, [0.0, 1.0, 0.0]);
    let other = flat(&run(vec![clip(), exclude()]).await.unwrap()).await;
    assert!((other[1] - 0.6).abs() < 1e-12 && other[2] == 0.0, "{other:?}");
    assert_eq!(flat(&run(Vec::new()).await.unwrap()).await, [0.0, 3.0, 4.0]);
    let wrong = Box::new(ClipNorm { max: 0.0 });
    let error = run(vec![exclude(), wrong]).await.unwrap_err().to_string();
    assert!(error.starts_with("filter ClipNorm: "), "{error}");
    // The future can move between threads.
    let moved = async move {
        let filters: Vec<Box<dyn Filter>> = vec![Box::new(ClipNorm { max: 1.0 })];
        let global = layers([0.0; 3]);
        apply_filters(&filters, 0, &global, Update::new("a", 1, global.clone()), 0).await
    };
    tokio::spawn(moved).await.unwrap().unwrap();
}
