//! Optimizers beside steps computed by hand.

use super::*;
use crate::weights::Weights;
use candle_core::{Device, Tensor, Var, backprop::GradStore};
use std::collections::BTreeMap;
use superduper::Result;

/// Values and gradients of one parameter, `w`.
fn problem(values: &[f32], gradient: &[f32]) -> (BTreeMap<String, Var>, GradStore) {
    let var = Var::new(values, &Device::Cpu).unwrap();
    let slope = Tensor::new(gradient, &Device::Cpu).unwrap();
    let grads = (var.as_tensor() * slope).unwrap().sum_all().unwrap().backward().unwrap();
    (BTreeMap::from([("w".to_owned(), var)]), grads)
}

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
    }
}

#[test]
fn adamw_steps_are_those_computed_by_hand() -> Result<()> {
    let optimizer =
        AdamW { learning_rate: 0.1, weight_decay: 0.5, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
    let mut state = optimizer.init();
    let (params, grads) = problem(&[1.0, -2.0], &[0.5, -4.0]);
    optimizer.step(&mut state, &params, &grads, 1.0)?;
    // Step 1: decay to 0.95 θ; the corrected moments are g and g², so each moves by 0.1 against
    // its sign.
    close(Weights::of(&params)?.get("w").unwrap().data(), &[0.95 - 0.1, -1.9 + 0.1]);
    close(state.moments().get("m.w").unwrap().data(), &[0.05, -0.4]);
    close(state.moments().get("v.w").unwrap().data(), &[0.0025, 0.16]);
    // Step 2 with gradient (-1, 0) and half the learning rate. Decay by 1 - 0.05 · 0.5 = 0.975.
    // m = (0.9 · 0.05 - 0.1, 0.9 · -0.4) = (-0.055, -0.36), corrected by 1 - 0.81 = 0.19. v =
    // (0.99 · 0.0025 + 0.01, 0.99 · 0.16) = (0.012475, 0.1584), corrected by 1 - 0.9801 =
    // 0.0199.
    let again =
        params["w"].as_tensor().mul(&Tensor::new(&[-1_f32, 0.0], &Device::Cpu).unwrap()).unwrap();
    optimizer.step(&mut state, &params, &again.sum_all().unwrap().backward().unwrap(), 0.5)?;
    let moved = |value: f64, m: f64, v: f64| {
        value * 0.975 - 0.05 * (m / 0.19) / ((v / 0.0199).sqrt() + 1e-8)
    };
    close(
        Weights::of(&params)?.get("w").unwrap().data(),
        &[moved(0.85, -0.055, 0.012475), moved(-1.8, -0.36, 0.1584)],
    );
    assert_eq!(state.step(), 2);
    Ok(())
}

#[test]
fn sgd_steps_are_those_computed_by_hand() -> Result<()> {
    let optimizer = Sgd { learning_rate: 0.1, momentum: 0.5, weight_decay: 0.1 };
    let mut state = optimizer.init();
    let (params, grads) = problem(&[1.0], &[2.0]);
    // Step 1: b = 2 + 0.1 · 1 = 2.1, θ = 1 - 0.21 = 0.79. Step 2: b = 0.5 · 2.1 + 2 + 0.079 =
    // 3.129.
    optimizer.step(&mut state, &params, &grads, 1.0)?;
    close(Weights::of(&params)?.get("w").unwrap().data(), &[0.79]);
    optimizer.step(&mut state, &params, &grads, 1.0)?;
    close(Weights::of(&params)?.get("w").unwrap().data(), &[0.79 - 0.3129]);
    let plain = Sgd { learning_rate: 0.1, ..Sgd::default() };
    let mut state = plain.init();
    plain.step(&mut state, &params, &grads, 1.0)?;
    assert!(state.moments().is_empty(), "without momentum nothing is remembered");
    Ok(())
}

#[test]
fn optimizers_are_fields_with_defaults() {
    let optimizer: Box<dyn Optimizer> =
        serde_json::from_str(r#"{"type": "candle.AdamW", "learning_rate": 0.01}"#).unwrap();
    let text = serde_json::to_string(&optimizer).unwrap();
    assert_eq!(
        text,
        r#"{"type":"candle.AdamW","learning_rate":0.01,"beta1":0.9,"beta2":0.999,"epsilon":1e-8,"weight_decay":0.01}"#
    );
    let sgd: Box<dyn Optimizer> = Box::new(Sgd::default());
    assert_eq!(
        serde_json::to_string(&sgd).unwrap(),
        r#"{"type":"candle.Sgd","learning_rate":0.01,"momentum":0.0,"weight_decay":0.0}"#
    );
}

#[test]
fn bad_settings_and_foreign_states_are_refused() {
    let (params, grads) = problem(&[1.0, 2.0], &[1.0, 1.0]);
    let bad = AdamW { beta1: 1.0, ..AdamW::default() };
    let error = bad.step(&mut bad.init(), &params, &grads, 1.0).unwrap_err();
    assert_eq!(error.to_string(), "AdamW: `beta1` must be at least 0 and below 1, not 1");
    assert!(error.is_fatal());

    let optimizer = AdamW::default();
    let (other, other_grads) = problem(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0]);
    let mut state = optimizer.init();
    optimizer.step(&mut state, &other, &other_grads, 1.0).unwrap();
    let error = optimizer.step(&mut state, &params, &grads, 1.0).unwrap_err();
    assert_eq!(error.to_string(), "moment `m.w` has shape [3], its parameter has shape [2]");
    assert_eq!(state.step(), 1);
    assert_eq!(state.moments().len(), 2, "a refused state is kept whole");
}

#[test]
fn parameters_without_gradient_stay() -> Result<()> {
    let (mut params, grads) = problem(&[1.0], &[1.0]);
    params.insert("frozen".to_owned(), Var::new(&[5_f32], &Device::Cpu).unwrap());
    let optimizer = AdamW::default();
    optimizer.step(&mut optimizer.init(), &params, &grads, 1.0)?;
    assert_eq!(Weights::of(&params)?.get("frozen").unwrap().data(), [5.0]);
    Ok(())
}
