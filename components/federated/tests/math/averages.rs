//! Means of sites: numbers, types, what is refused, and that order does not matter.

use crate::support::*;
use superduper::{Dtype, ErrorKind, Tensors};
use superduper_federated::{FedAvg, FedDC, FedProx, Update};
use superduper_train::Rng;

#[tokio::test]
async fn g06_the_mean_is_weighted_with_samples() {
    let ten: Vec<Update> =
        (0..10).map(|site| update(&format!("{site}"), 1, &[f64::from(site)])).collect();
    assert_eq!(values(&FedAvg {}, &ten).await, [4.5]);
    let three: Vec<Update> =
        (0..3).map(|site| update(&format!("{site}"), site, &[site as f64])).collect();
    assert_eq!(values(&FedAvg {}, &three).await, [5.0 / 3.0]);
    // The server's side of both is the same.
    assert_eq!(values(&FedProx { mu: 0.1 }, &three).await, [5.0 / 3.0]);
    assert_eq!(values(&FedDC { daisy_chain_period: 3 }, &three).await, [5.0 / 3.0]);
    // In 32 bits too.
    let model = |value: f32| Tensors::new().with("w", &[1], &[value]).unwrap();
    let ten: Vec<Update> =
        (0..10_u8).map(|site| Update::new(format!("{site}"), 1, model(site.into()))).collect();
    let next = aggregate(&FedAvg {}, &model(0.0), &ten).await.unwrap();
    assert_eq!(next.weights.to_vec::<f32>("w").await.unwrap(), [4.5]);
    assert!(next.state.is_empty());
}

#[tokio::test]
async fn g06_no_samples_at_all_are_an_error() {
    let updates = [update("a", 0, &[1.0]), update("b", 0, &[2.0])];
    for strategy in strategies().iter().filter(|strategy| !strategy.needs_single_updates()) {
        let error = aggregate(&**strategy, &model(&[0.0]), &updates).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{strategy:?}");
        assert!(error.to_string().contains("0 samples"), "{error}");
    }
}

#[tokio::test]
async fn g12_other_tensors_are_refused_with_site_and_tensor() {
    let global = model(&[0.0, 0.0]).with("b", &[1], &[0.0_f32]).unwrap();
    let good = global.clone();
    let with = |name: &str, tensors: Tensors| {
        let tensor = tensors.with(name, &[2], &[0_i32; 2]).unwrap();
        Update::new("south", 1, tensor)
    };
    let mut missing = global.clone();
    missing.remove("b");
    let cases = [
        (Update::new("south", 1, missing), "tensor `b`: it is missing"),
        (with("more", good.clone()), "tensor `more`: the global model has no such tensor"),
        (with("w", good.clone()), "tensor `w`: it is I32[2], that of the global model is F64[2]"),
        (with("b", good.clone()), "tensor `b`: it is I32[2], that of the global model is F32[1]"),
    ];
    for (bad, text) in cases {
        let text = format!("site `south`, {text}");
        let error = bad.check(&global).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(&text), "{error}");
        // A strategy refuses it too, where nothing checked it before.
        let updates = [Update::new("north", 1, good.clone()), bad];
        for strategy in strategies() {
            let error = aggregate(&*strategy, &global, &updates).await.unwrap_err();
            assert!(error.to_string().starts_with(&text), "{error}");
        }
    }
    Update::new("south", 1, good).check(&global).await.unwrap();
}

#[tokio::test]
async fn g12_updates_that_are_none_or_twice_are_refused() {
    let twice = [update("a", 1, &[1.0]), update("b", 1, &[1.0]), update("a", 1, &[1.0])];
    for strategy in strategies() {
        let error = aggregate(&*strategy, &model(&[0.0]), &[]).await.unwrap_err();
        assert!(error.to_string().contains("no updates"), "{error}");
        let error = aggregate(&*strategy, &model(&[0.0]), &twice).await.unwrap_err();
        assert!(error.to_string().contains("site `a` has two updates"), "{error}");
    }
    // What cannot be averaged is named.
    let odd = Tensors::new().with_bytes("scale", Dtype::F8E4M3, &[1], [0]).unwrap();
    let updates = [Update::new("a", 1, odd.clone()), Update::new("b", 1, odd.clone())];
    for strategy in strategies().iter().filter(|strategy| strategy.check(2, 2).is_ok()) {
        let error = aggregate(&**strategy, &odd, &updates).await.unwrap_err();
        assert!(error.to_string().contains("tensor `scale` of type F8_E4M3"), "{error}");
    }
}

#[tokio::test]
async fn g15_the_order_of_arrival_changes_no_bit() {
    let mut rng = Rng::new(15);
    for strategy in strategies() {
        let mut updates = random_updates(&mut rng, 7, [1030, 2049, 130, 7]);
        let global = random_model(&mut rng, [1030, 2049, 130, 7]);
        let first = aggregate(&*strategy, &global, &updates).await.unwrap();
        for _ in 0..5 {
            rng.shuffle(&mut updates);
            let again = aggregate(&*strategy, &global, &updates).await.unwrap();
            assert_eq!(content(&first.weights).await, content(&again.weights).await);
            assert_eq!(content(&first.state).await, content(&again.state).await);
        }
    }
}

#[tokio::test]
async fn g15_the_mean_is_that_of_a_naive_oracle() {
    let mut rng = Rng::new(6);
    for sites in 1..12 {
        let lengths = [rng.below(1100), rng.below(3000), rng.below(300), rng.below(30)];
        let lengths = lengths.map(|length| length as usize);
        let updates = random_updates(&mut rng, sites, lengths);
        let global = random_model(&mut rng, lengths);
        let next = aggregate(&FedAvg {}, &global, &updates).await.unwrap().weights;
        let total: u64 = updates.iter().map(|update| update.samples).sum();
        for (dtype, precision) in FLOATS.into_iter().zip([1e-15, 6e-8, 5e-4, 4e-3]) {
            let found = numbers(dtype, &next.get(dtype.name()).await.unwrap().bytes);
            let mut wanted = vec![0.0; found.len()];
            for update in &updates {
                let tensor = update.tensors.get(dtype.name()).await.unwrap();
                for (sum, value) in wanted.iter_mut().zip(numbers(dtype, &tensor.bytes)) {
                    *sum += update.samples as f64 * value;
                }
            }
            for (found, sum) in found.iter().zip(wanted) {
                let wanted = sum / total as f64;
                // Cancellation of values up to 32 leaves an error of the type of the sums.
                let near = precision * wanted.abs() + 32.0 * precision * 1e-3 + 1e-14;
                assert!((found - wanted).abs() <= near, "{dtype}: {found} {wanted}");
            }
        }
    }
}

#[tokio::test]
async fn g15_large_tensors_are_the_same_on_other_threads() {
    let length = 400_001;
    let updates: Vec<Update> = (0..3_u8)
        .map(|site| {
            let values: Vec<f32> = (0..length).map(|i| i as f32 * f32::from(site + 1)).collect();
            let tensors = Tensors::new().with("w", &[length], &values).unwrap();
            Update::new(format!("{site}"), 1, tensors)
        })
        .collect();
    let run = async move {
        let global = updates[0].tensors.clone();
        let mut found = Vec::new();
        for strategy in strategies().iter().filter(|strategy| strategy.check(3, 3).is_ok()) {
            let next = aggregate(&**strategy, &global, &updates).await.unwrap();
            found.push((strategy.name(), next.weights.to_vec::<f32>("w").await.unwrap()));
        }
        found
    };
    // The future can move between threads.
    for (name, found) in tokio::spawn(run).await.unwrap() {
        let steps = name.starts_with("FedAdam") || name.starts_with("FedYogi");
        let wrong = (0..length).find(|&i| found[i] != 2.0 * i as f32);
        assert_eq!(wrong.is_some(), steps, "{name}: {wrong:?}");
    }
}

#[tokio::test]
async fn g15_equal_models_have_themselves_as_their_mean() {
    let mut rng = Rng::new(3);
    let odd = [0.1_f32, -0.0, 1e-40, f32::MAX, -3.3e-7];
    let tensors = random_model(&mut rng, [5, 50, 50, 50]).with("odd", &[5], &odd).unwrap();
    let updates: Vec<Update> = (0..7)
        .map(|site| Update::new(format!("{site}"), 1 + rng.below(99), tensors.clone()))
        .collect();
    for strategy in strategies().iter().filter(|strategy| strategy.name() != "FedAvgM") {
        let next = aggregate(&**strategy, &tensors, &updates).await.unwrap();
        let (found, wanted) = (content(&next.weights).await, content(&tensors).await);
        let same = |name: &str| {
            let of = |all: &[(String, Vec<u8>)]| {
                all.iter().find(|(found, _)| found.starts_with(name)).unwrap().1.clone()
            };
            assert_eq!(of(&found), of(&wanted), "{strategy:?} {name}");
        };
        ["F32", "F16", "BF16", "steps"].into_iter().for_each(same);
        if !["FedAdam", "FedYogi"].contains(&strategy.name()) {
            same("odd");
        }
    }
}

#[tokio::test]
async fn g29_counters_take_the_largest_and_buffers_the_mean() {
    let site = |count: i64, mean: f32, seen: u8| {
        let tensors = Tensors::new().with("bn.num_batches_tracked", &[], &[count]).unwrap();
        let tensors = tensors.with("bn.running_mean", &[1], &[mean]).unwrap();
        let tensors = tensors.with("bn.running_var", &[1], &[mean * 2.0]).unwrap();
        tensors.with_bytes("seen", Dtype::Bool, &[2], vec![seen, 0]).unwrap()
    };
    let sites =
        [("a", 1, site(10, 1.0, 0)), ("b", 2, site(30, 4.0, 1)), ("c", 1, site(20, 3.0, 0))];
    let updates = sites.map(|(name, samples, tensors)| Update::new(name, samples, tensors));
    for strategy in strategies().iter().filter(|strategy| !strategy.needs_single_updates()) {
        let global = site(0, 0.0, 0);
        let next = aggregate(&**strategy, &global, &updates).await.unwrap();
        let next = next.weights;
        assert_eq!(next.to_vec::<i64>("bn.num_batches_tracked").await.unwrap(), [30]);
        assert_eq!(&next.get("seen").await.unwrap().bytes[..], [1, 0]);
        assert_eq!(next.info("seen").unwrap().dtype, Dtype::Bool);
        if !["FedAdam", "FedYogi"].contains(&strategy.name()) {
            assert_eq!(next.to_vec::<f32>("bn.running_mean").await.unwrap(), [3.0]);
            assert_eq!(next.to_vec::<f32>("bn.running_var").await.unwrap(), [6.0]);
        }
        for name in global.names() {
            assert_eq!(next.info(name), global.info(name), "{strategy:?}");
        }
    }
}

#[tokio::test]
async fn g29_integers_keep_all_their_bits() {
    let large = [i64::MAX - 1, i64::MIN, -1];
    let site = |at: usize| {
        let tensors = Tensors::new().with("i64", &[1], &[large[at]]).unwrap();
        let tensors = tensors.with("u64", &[1], &[u64::MAX - at as u64]).unwrap();
        let tensors = tensors.with("i8", &[1], &[at as i8 - 3]).unwrap();
        let tensors = tensors.with("u16", &[1], &[40_000 + at as u16]).unwrap();
        Update::new(format!("{at}"), 1, tensors)
    };
    let updates = [site(0), site(1), site(2)];
    let next = aggregate(&FedAvg {}, &updates[0].tensors, &updates).await.unwrap().weights;
    assert_eq!(next.to_vec::<i64>("i64").await.unwrap(), [i64::MAX - 1]);
    assert_eq!(next.to_vec::<u64>("u64").await.unwrap(), [u64::MAX]);
    assert_eq!(next.to_vec::<i8>("i8").await.unwrap(), [-1]);
    assert_eq!(next.to_vec::<u16>("u16").await.unwrap(), [40_002]);
}

#[tokio::test]
async fn g29_16_bit_floats_are_summed_in_32_bits() {
    // In 16 bits the sum would stay at 256, and four times 60 000 would be infinite.
    for (dtype, precision) in [(Dtype::BF16, 256.0), (Dtype::F16, 2048.0)] {
        let site = |site: usize| {
            let bytes = bytes(dtype, &[if site == 0 { 256.0 } else { 1.0 }]);
            let tensors = Tensors::new().with_bytes("w", dtype, &[1], bytes).unwrap();
            Update::new(format!("{site:03}"), 1, tensors)
        };
        let updates: Vec<Update> = (0..257).map(site).collect();
        let next = aggregate(&FedAvg {}, &updates[0].tensors, &updates).await.unwrap();
        let tensor = next.weights.get("w").await.unwrap();
        let wanted = (512.0_f64 / 257.0 * precision / 2.0).round() / precision * 2.0;
        assert_eq!(numbers(dtype, &tensor.bytes), [wanted]);
        assert_eq!(tensor.info.dtype, dtype);
    }
    let large = Tensors::new().with_bytes("w", Dtype::F16, &[1], vec![0x53, 0x7b]).unwrap();
    let updates: Vec<Update> =
        (0..4).map(|site| Update::new(format!("{site}"), 9, large.clone())).collect();
    let next = aggregate(&FedAvg {}, &large, &updates).await.unwrap().weights;
    assert_eq!(numbers(Dtype::F16, &next.get("w").await.unwrap().bytes), [60_000.0]);
}

#[tokio::test]
async fn g30_nan_and_infinity_are_refused_with_tensor_and_index() {
    let good = [update("a", 1, &[1.0, 2.0, 3.0]), update("c", 3, &[5.0, 6.0, 7.0])];
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let bad = update("b", 1, &[0.0, 1.0, value]);
        let error = bad.check(&model(&[0.0; 3])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = format!("site `b`, tensor `w`: element 2 is {text}");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
    for update in &good {
        update.check(&model(&[0.0; 3])).await.unwrap();
    }
    assert_eq!(values(&FedAvg {}, &good).await, [4.0, 5.0, 6.0]);
    // In each type of floats, behind many finite elements.
    for (dtype, infinite) in FLOATS.into_iter().zip([
        f64::INFINITY.to_le_bytes().to_vec(),
        f32::INFINITY.to_le_bytes().to_vec(),
        vec![0x00, 0x7c],
        vec![0x80, 0x7f],
    ]) {
        let mut bytes = bytes(dtype, &vec![-256.0; 9_000]);
        let size = infinite.len();
        bytes[8_191 * size..8_192 * size].copy_from_slice(&infinite);
        let tensors = Tensors::new().with_bytes("w", dtype, &[90, 100], bytes).unwrap();
        let error = Update::new("b", 1, tensors.clone()).check(&tensors).await.unwrap_err();
        assert!(error.to_string().contains("element 8191 is inf"), "{dtype}: {error}");
    }
}

#[tokio::test]
async fn g06_a_site_without_samples_has_no_weight() {
    let updates = [update("a", 0, &[1e300]), update("b", 2, &[3.0]), update("c", 2, &[5.0])];
    assert_eq!(values(&FedAvg {}, &updates).await, [4.0]);
    // Not even as many samples as there can be are too many.
    let updates = [update("a", u64::MAX, &[1.0]), update("b", u64::MAX, &[3.0])];
    assert_eq!(values(&FedAvg {}, &updates).await, [2.0]);
    let texts = model(&[0.0]).with_metadata("format", "pt");
    let next = aggregate(&FedAvg {}, &texts, &updates).await.unwrap();
    assert_eq!(next.weights.metadata(), texts.metadata());
}
