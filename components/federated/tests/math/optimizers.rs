//! Optimizers on the server.

use crate::support::*;
use superduper::{Dtype, Tensors};
use superduper_federated::{FedAdam, FedAvgM, FedYogi, Strategy, Update};

/// The values after each of three rounds, in a type of floats.
async fn three_rounds<E: superduper::artifact::Element>(
    strategy: &dyn Strategy,
    from: fn(f64) -> E,
    to: fn(E) -> f64,
) -> Vec<Vec<f64>> {
    let model = |values: [f64; 2]| Tensors::new().with("w", &[2], &values.map(from)).unwrap();
    let (mut global, mut state) = (model([1.0, 2.0]), Tensors::new());
    let mut all = Vec::new();
    for round in 0..3 {
        let x: Vec<f64> = global.to_vec("w").await.unwrap().into_iter().map(to).collect();
        let updates = [
            Update::new("one", 1, model([x[0] + 0.1, x[1] - 0.2])),
            Update::new("two", 3, model([x[0] + 0.3, x[1] + 0.2])),
        ];
        let next = strategy.aggregate(round, &global, &state, &updates).await.unwrap();
        (global, state) = (next.weights, next.state);
        all.push(global.to_vec("w").await.unwrap().into_iter().map(to).collect());
    }
    assert!(state.names().all(|name| state.info(name).unwrap().dtype == E::DTYPE));
    all
}

async fn agrees(strategy: &dyn Strategy, wanted: [[f64; 2]; 3]) {
    let near = |found: &[Vec<f64>], precision: f64| {
        for (found, wanted) in found.iter().flatten().zip(wanted.iter().flatten()) {
            let error = ((found - wanted) / wanted).abs();
            assert!(error <= precision, "{strategy:?}: {found} {wanted} {error:e}");
        }
    };
    near(&three_rounds::<f64>(strategy, |x| x, |x| x).await, 1e-12);
    near(&three_rounds::<f32>(strategy, |x| x as f32, f64::from).await, 1e-6);
}

#[tokio::test]
async fn g32_fed_adam_is_that_of_flower() {
    let wanted = [
        [1.0713903642695641, 2.067496344400315],
        [1.154681759853363, 2.147479623828675],
        [1.2433885610860298, 2.2332674744875725],
    ];
    agrees(&FedAdam::default(), wanted).await;
}

#[tokio::test]
async fn g32_fed_yogi_is_that_of_flower() {
    let wanted = [
        [1.0096153846153846, 2.0090909090909093],
        [1.022680865842911, 2.0216386767718584],
        [1.0379738810794092, 2.0364308429541715],
    ];
    agrees(&FedYogi::default(), wanted).await;
}

#[tokio::test]
async fn g32_momentum_is_that_of_flower() {
    agrees(&FedAvgM::default(), [[1.25, 2.1], [1.725, 2.29], [2.4025, 2.561]]).await;
}

#[tokio::test]
async fn g32_16_bit_models_keep_their_moments_in_32_bits() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let model = |value: f64| {
            Tensors::new().with_bytes("w", dtype, &[1], bytes(dtype, &[value])).unwrap()
        };
        let updates = [Update::new("a", 1, model(0.25)), Update::new("b", 1, model(0.75))];
        let next = aggregate(&FedAvgM::default(), &model(0.0), &updates).await.unwrap();
        assert_eq!(next.state.info("momentum/w").unwrap().dtype, Dtype::F32);
        assert_eq!(next.state.to_vec::<f32>("momentum/w").await.unwrap(), [0.5]);
        assert_eq!(numbers(dtype, &next.weights.get("w").await.unwrap().bytes), [0.5]);
    }
}

#[tokio::test]
async fn g32_a_state_of_another_model_or_strategy_is_refused() {
    let updates = [update("a", 1, &[1.0, 2.0])];
    let global = model(&[0.0, 0.0]);
    let state = aggregate(&FedAdam::default(), &global, &updates).await.unwrap().state;
    assert_eq!(state.names().collect::<Vec<_>>(), ["m/w", "v/w"]);
    let run = async |strategy: &dyn Strategy, state: &Tensors| {
        strategy.aggregate(1, &global, state, &updates).await.map_err(|error| error.to_string())
    };
    run(&FedYogi::default(), &state).await.unwrap();
    let error = run(&FedAvgM::default(), &state).await.unwrap_err();
    assert!(error.contains("the server's state: there is no tensor `momentum/w`"), "{error}");
    let other = Tensors::new().with("momentum/w", &[3], &[0.0_f64; 3]).unwrap();
    let error = run(&FedAvgM::default(), &other).await.unwrap_err();
    assert!(error.contains("tensor `momentum/w` is F64[3], not F64[2]"), "{error}");
}

#[tokio::test]
async fn g32_what_becomes_infinite_is_refused() {
    let strategy = FedAvgM { server_learning_rate: 10.0, momentum: 0.0 };
    let model = |values: [f32; 2]| Tensors::new().with("w", &[2], &values).unwrap();
    let updates = [Update::new("a", 1, model([0.0, f32::MAX]))];
    let error = aggregate(&strategy, &model([0.0; 2]), &updates).await.unwrap_err().to_string();
    assert!(error.contains("FedAvgM: element 1 of tensor `w` became inf"), "{error}");
}
