//! Dropout and batch norm: what they compute in each mode, and that a training with them goes on
//! from any step with the same bits.

#[path = "table/digits.rs"]
mod table;

use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;
use superduper::{Dtype, Result};
use superduper_candle::{
    AdamW, Anchor, Architecture, Array, Batch, Cnn, CnnSpec, Convolution, LoopState, Mlp, MlpSpec,
    Mode, Model, Moments, NetworkModel, Optimizer, Rng, Sgd, TrainLoop, TrainingState, Weights,
    go_on, is_buffer, metrics::Prediction, stop,
};
use table::digits;

const TRAIN: Mode = Mode::Train { seed: 1, step: 0, part: 0 };

fn perceptron(dropout: f64, batch_norm: bool) -> Architecture {
    let hidden = vec![24, 16];
    Architecture::Mlp(MlpSpec { inputs: 64, hidden, classes: 10, dropout, batch_norm })
}

fn convolutional(dropout: f64, batch_norm: bool) -> Architecture {
    Architecture::Cnn(CnnSpec {
        image: [1, 8, 8],
        convolutions: vec![
            Convolution { filters: 4, kernel: 3, padding: 1, pool: 2 },
            Convolution { filters: 3, kernel: 2, padding: 0, pool: 1 },
        ],
        hidden: vec![12],
        classes: 10,
        dropout,
        batch_norm,
    })
}

fn data(weights: &Weights, name: &str) -> Vec<f32> {
    weights.get(name).unwrap().data().to_vec()
}

fn near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0));
    assert!(close, "{found:?} is not {expected:?}");
}

/// Bits of all parameters, and the counters.
fn bits(model: &NetworkModel) -> (Vec<u32>, Vec<i64>) {
    let weights = model.weights().unwrap();
    (
        weights.iter().flat_map(|(_, array)| array.data().to_vec()).map(f32::to_bits).collect(),
        weights.iter_integers().flat_map(|(_, array)| array.data().to_vec()).collect(),
    )
}

/// A perceptron whose logits are those of a batch norm of the features, with γ = (2, 0.5) and
/// β = (3, 1). They are above 0, so the rectifier changes nothing.
fn only_norm(dropout: f64) -> Result<Mlp> {
    let spec = MlpSpec { inputs: 2, hidden: vec![2], classes: 2, dropout, batch_norm: true };
    let model = Mlp::init(spec, 1)?;
    let mut weights = model.weights()?;
    for layer in ["l1", "l2"] {
        weights.insert(format!("{layer}.weight"), Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0])?);
        weights.insert(format!("{layer}.bias"), Array::zeros([2]));
    }
    weights.insert("l1_bn.weight", Array::new([2], vec![2.0, 0.5])?);
    weights.insert("l1_bn.bias", Array::new([2], vec![3.0, 1.0])?);
    weights.assign(model.params())?;
    Ok(model)
}

#[test]
fn batch_norm_computes_what_pytorch_does() -> Result<()> {
    let model = only_norm(0.0)?;
    let rows =
        |rows: &[[f32; 2]]| Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap();
    let first = rows(&[[1.0, -1.0], [2.0, 0.0], [3.0, 1.0], [6.0, 0.0]]);
    let flat = |logits: Tensor| logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    // The numbers are those of the formula of `torch.nn.BatchNorm1d` in f64: a batch of mean (3, 0)
    // and biased variance (3.5, 0.5).
    near(
        &flat(model.logits_in(&first, TRAIN)?),
        &[0.861_913_1, 0.292_900_3, 1.930_956_6, 1.0, 3.0, 1.707_099_7, 6.207_130_3, 1.0],
    );
    let weights = model.weights()?;
    near(&data(&weights, "l1_bn.running_mean"), &[0.3, 0.0]);
    near(&data(&weights, "l1_bn.running_var"), &[1.366_666_7, 0.966_666_7]);
    // A batch of two rows, which have an unbiased variance of (2, 2).
    near(
        &flat(model.logits_in(&rows(&[[0.0, 4.0], [2.0, 2.0]]), TRAIN)?),
        &[1.000_01, 1.499_997_5, 4.999_99, 0.500_002_5],
    );
    let weights = model.weights()?;
    near(&data(&weights, "l1_bn.running_mean"), &[0.37, 0.3]);
    near(&data(&weights, "l1_bn.running_var"), &[1.43, 1.07]);
    let counter = weights.get_integers("l1_bn.num_batches_tracked").unwrap();
    assert_eq!((counter.shape(), counter.data()), ([].as_slice(), [2_i64].as_slice()));

    let expected = [
        4.053_661_2,
        0.371_624_2,
        5.726_139_4,
        0.854_990_2,
        7.398_617_6,
        1.338_356_2,
        12.416_052,
        0.854_990_2,
    ];
    near(&flat(model.logits(&first)?), &expected);
    // A single row has no variance: it is computed with the running statistics.
    let one = model.logits_in(&rows(&[[1.0, -1.0]]), TRAIN)?;
    near(&flat(one), &expected[..2]);
    assert_eq!(model.weights()?, weights, "neither it nor `Eval` changes them");
    Ok(())
}

#[test]
fn g17_sampling_drops_values_and_leaves_batch_norm_in_eval() -> Result<()> {
    let (rows, test) = digits()?.split(1, 0.7)?;
    for architecture in [perceptron(0.25, true), convolutional(0.25, true)] {
        let model = architecture.init(1)?;
        let optimizer = AdamW::default();
        let training = TrainLoop { epochs: 1, ..TrainLoop::default() };
        training.run(&model, &rows, &optimizer, &mut optimizer.init(), |_| go_on())?;
        let before = bits(&model);
        let logits = |model: &NetworkModel, mode| match model.prediction_in(&test, mode)? {
            Prediction::Logits(logits) => Ok(logits.to_vec2::<f32>().unwrap()),
            Prediction::Values(_) => Err(superduper::Error::msg("it classifies")),
        };
        let sample = |sample| logits(&model, Mode::Sample { seed: 3, sample });
        let eval = logits(&model, Mode::Eval)?;
        assert!(sample(0)? != sample(1)? && sample(0)? != eval);
        assert_eq!(sample(1)?, sample(1)?, "a function of seed and sample");
        assert_ne!(sample(1)?, logits(&model, Mode::Sample { seed: 4, sample: 1 })?);
        // Batch norm does not look at the batch: a row alone gives what it gives among others.
        let alone = test.select(&[5])?;
        let Prediction::Logits(one) =
            model.prediction_in(&alone, Mode::Sample { seed: 3, sample: 1 })?
        else {
            panic!("it classifies")
        };
        near(&one.to_vec2::<f32>().unwrap()[0], &sample(1)?[5]);
        assert_eq!(bits(&model), before, "and its running statistics stay");
        assert!(model.prediction_in(&test, TRAIN).is_err());

        // Without dropout a sample is the network itself.
        let mut sizes = architecture.clone();
        match &mut sizes {
            Architecture::Mlp(spec) => spec.dropout = 0.0,
            Architecture::Cnn(spec) => spec.dropout = 0.0,
            Architecture::Linear { .. } => {}
        }
        let certain = sizes.with_weights(&model.weights()?)?;
        assert_eq!(logits(&certain, Mode::Sample { seed: 3, sample: 1 })?, eval);
    }
    Ok(())
}

#[test]
fn samples_are_about_the_network() -> Result<()> {
    // Of a layer of values (4, 1.5) in `Eval` with p = 0.25: their mean over samples is the same.
    let model = only_norm(0.25)?;
    let row = Tensor::new(&[[0.5_f32, 1.0]], &Device::Cpu).unwrap();
    let eval = model.logits(&row)?.to_vec2::<f32>().unwrap().concat();
    let count = 20_000;
    let mut sums = [0_f64; 2];
    for sample in 0..count {
        let drawn = model.logits_in(&row, Mode::Sample { seed: 1, sample })?;
        for (sum, value) in sums.iter_mut().zip(&drawn.to_vec2::<f32>().unwrap()[0]) {
            *sum += f64::from(*value) / count as f64;
        }
    }
    for (mean, eval) in sums.iter().zip(eval) {
        assert!((mean / f64::from(eval) - 1.0).abs() < 0.02, "{mean} {eval}");
    }
    Ok(())
}

/// A batch of 4 rows of numbers from -1 to 1, in f64.
fn batch(inputs: usize) -> Batch {
    let mut rng = Rng::named(9, "rows");
    let values: Vec<f64> = (0..4 * inputs).map(|_| rng.next_f64() * 2.0 - 1.0).collect();
    Batch {
        features: Tensor::from_vec(values, (4, inputs), &Device::Cpu).unwrap(),
        labels: Tensor::new(&[0_u32, 2, 1, 2], &Device::Cpu).unwrap(),
    }
}

/// Compare the gradients in the mode of a training with finite differences.
fn check_gradients(model: &dyn Model, batch: &Batch) {
    let loss = || model.loss_in(batch, TRAIN).unwrap();
    let grads = loss().backward().unwrap();
    let (width, mut largest) = (1e-6, BTreeMap::<&str, f64>::new());
    for (name, var) in model.params() {
        if is_buffer(name) {
            assert!(grads.get(var).is_none(), "{name} is no parameter");
            continue;
        }
        let gradient = grads.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for index in 0..values.len() {
            let at = |value: f64| {
                let mut moved = values.clone();
                moved[index] = value;
                var.set(&Tensor::from_vec(moved, var.dims(), &Device::Cpu).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let slope = (at(values[index] + width) - at(values[index] - width)) / (2.0 * width);
            at(values[index]);
            assert!(
                (slope - gradient[index]).abs() < 1e-7,
                "{name}[{index}]: {slope} is not {}",
                gradient[index]
            );
            let largest = largest.entry(name).or_default();
            *largest = largest.max(slope.abs());
        }
    }
    for name in ["l1.weight", "l1_bn.weight", "l1_bn.bias"] {
        assert!(largest[name] > 0.01, "{largest:?}");
    }
}

/// Parameters in f64, counters as they are.
fn doubled(params: &BTreeMap<String, Var>) -> BTreeMap<String, Var> {
    let double = |var: &Var| match var.dtype() {
        DType::I64 => var.as_tensor().clone(),
        _ => var.to_dtype(DType::F64).unwrap(),
    };
    params
        .iter()
        .map(|(name, var)| (name.clone(), Var::from_tensor(&double(var)).unwrap()))
        .collect()
}

#[test]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    let spec =
        MlpSpec { inputs: 3, hidden: vec![6, 5], classes: 3, dropout: 0.3, batch_norm: true };
    let params = doubled(Mlp::init(spec.clone(), 4)?.params());
    check_gradients(&Mlp::from_params(spec, params)?, &batch(3));

    let spec = CnnSpec {
        image: [2, 6, 5],
        convolutions: vec![
            Convolution { filters: 4, kernel: 3, padding: 1, pool: 2 },
            Convolution { filters: 3, kernel: 2, padding: 0, pool: 1 },
        ],
        hidden: vec![6],
        classes: 3,
        dropout: 0.2,
        batch_norm: true,
    };
    let params = doubled(Cnn::init(spec.clone(), 4)?.params());
    check_gradients(&Cnn::from_params(spec, params)?, &batch(60));
    Ok(())
}

#[test]
fn a_convolution_is_normalized_before_rectifier_and_pool() -> Result<()> {
    // 5 by 7 pools to 2 by 3: a row and a column are left out of the pools, not of the statistics.
    let spec = CnnSpec {
        image: [2, 5, 7],
        convolutions: vec![Convolution { filters: 3, kernel: 3, padding: 1, pool: 2 }],
        hidden: vec![],
        classes: 2,
        dropout: 0.0,
        batch_norm: true,
    };
    let model = Cnn::init(spec, 5)?;
    model.params()["c1_bn.weight"]
        .set(&Tensor::new(&[1.5_f32, -0.7, 0.2], &Device::Cpu).unwrap())
        .unwrap();
    model.params()["c1_bn.bias"]
        .set(&Tensor::new(&[0.1_f32, 0.3, -0.2], &Device::Cpu).unwrap())
        .unwrap();
    let images = batch(70).features.to_dtype(DType::F32).unwrap();
    let ours = model.logits_in(&images, TRAIN)?.to_vec2::<f32>().unwrap().concat();
    // The same by candle's own operations, channels first.
    let params = model.params();
    let reference = || {
        let channels = |name: &str| params[name].reshape((1, 3, 1, 1));
        let x = images.reshape((4, 2, 5, 7))?.conv2d(&params["c1.weight"], 1, 1, 1, 1)?;
        let x = x.broadcast_add(&channels("c1.bias")?)?;
        let mean = x.mean_keepdim((0, 2, 3))?;
        let away = x.broadcast_sub(&mean)?;
        let var = away.sqr()?.mean_keepdim((0, 2, 3))?;
        let normed = away.broadcast_div(&var.affine(1.0, 1e-5)?.sqrt()?)?;
        let normed = normed
            .broadcast_mul(&channels("c1_bn.weight")?)?
            .broadcast_add(&channels("c1_bn.bias")?)?
            .relu()?;
        let pooled = normed.narrow(2, 0, 4)?.narrow(3, 0, 6)?.contiguous()?.max_pool2d(2)?;
        let logits = pooled.reshape((4, 18))?.matmul(&params["l1.weight"].t()?)?;
        let logits = logits.broadcast_add(&params["l1.bias"])?.to_vec2::<f32>()?.concat();
        // 4 images of 35 values each.
        let unbiased = var.flatten_all()?.affine(140.0 / 139.0 * 0.1, 0.9)?;
        let mean = mean.flatten_all()?.affine(0.1, 0.0)?;
        Ok::<_, candle_core::Error>((logits, mean.to_vec1::<f32>()?, unbiased.to_vec1::<f32>()?))
    };
    let (logits, mean, var) = reference().unwrap();
    near(&ours, &logits);
    let weights = model.weights()?;
    near(&data(&weights, "c1_bn.running_mean"), &mean);
    near(&data(&weights, "c1_bn.running_var"), &var);
    Ok(())
}

#[tokio::test]
async fn a_training_goes_on_in_the_middle_of_an_epoch_with_the_same_bits() -> Result<()> {
    let (rows, kept_aside) = digits()?.split(1, 0.7)?;
    let optimizer = AdamW { learning_rate: 0.01, ..AdamW::default() };
    for architecture in [perceptron(0.2, true), convolutional(0.2, true)] {
        // 539 rows in steps of 2 times 32 make 9 steps.
        let training = TrainLoop {
            epochs: 3,
            seed: 3,
            accumulate: 2,
            validation: Some(&kept_aside),
            patience: Some(100),
            ..TrainLoop::default()
        };
        let whole = architecture.init(1)?;
        let mut state = TrainingState::from(optimizer.init());
        training.run_from(&whole, &rows, &optimizer, &mut state, |_| go_on())?;
        assert_eq!(bits(&whole).1.len(), if matches!(whole, NetworkModel::Mlp(_)) { 2 } else { 3 });
        // 17 parts an epoch, up to the epoch of the best weights.
        assert_eq!(bits(&whole).1[0], 17 * state.best().map_or(0, |best| best.step as i64 / 9));
        for at in [4, 9, 13] {
            let first = architecture.init(1)?;
            let mut begun = TrainingState::from(optimizer.init());
            let mut saved: Option<LoopState> = None;
            training.run_from(&first, &rows, &optimizer, &mut begun, |step| {
                if step.step == at {
                    saved = Some(step.loop_state()?);
                }
                if step.step == at + 2 { stop() } else { go_on() }
            })?;
            let second = architecture.init(99)?;
            let mut restored = saved.unwrap().restore(&second).await?;
            training.run_from(&second, &rows, &optimizer, &mut restored, |_| go_on())?;
            assert_eq!(bits(&second), bits(&whole), "from step {at}");
        }
        // Another seed has other masks and another order.
        let other = architecture.init(1)?;
        let training = TrainLoop { seed: 4, ..training };
        let mut state = TrainingState::from(optimizer.init());
        training.run_from(&other, &rows, &optimizer, &mut state, |_| go_on())?;
        assert_ne!(bits(&other).0, bits(&whole).0);
    }
    Ok(())
}

#[test]
fn the_optimizer_does_not_touch_running_statistics() -> Result<()> {
    let (rows, _) = digits()?.split(1, 0.7)?;
    let after = |optimizer: &dyn Optimizer, anchored: bool| {
        let model = perceptron(0.0, true).init(1)?;
        let at = perceptron(0.0, true).init(2)?.weights()?;
        let anchor = anchored.then_some(Anchor { mu: 1.0, weights: &at });
        let training = TrainLoop { epochs: 1, anchor, ..TrainLoop::default() };
        training.run(&model, &rows, optimizer, &mut optimizer.init(), |_| stop())?;
        model.weights()
    };
    // The statistics of the first batch are those from before the step.
    let still = after(&Sgd { learning_rate: 1e-30, ..Sgd::default() }, false)?;
    let decayed = AdamW { learning_rate: 0.5, weight_decay: 0.9, ..AdamW::default() };
    for (moved, anchored) in [(&decayed, false), (&decayed, true)] {
        let moved = after(moved, anchored)?;
        for (name, array) in still.iter() {
            assert_eq!(moved.get(name) == Some(array), is_buffer(name), "{name}");
        }
        assert_eq!(moved.get_integers("l1_bn.num_batches_tracked").unwrap().data(), [1]);
    }
    Ok(())
}

#[test]
fn networks_with_both_learn() -> Result<()> {
    let (rows, test) = digits()?.split(1, 0.3)?;
    let optimizer = AdamW { learning_rate: 0.01, ..AdamW::default() };
    for architecture in [perceptron(0.1, true), convolutional(0.1, true)] {
        let model = architecture.init(1)?;
        let mut moments = Moments::new();
        let training = TrainLoop { epochs: 8, ..TrainLoop::default() };
        training.run(&model, &rows, &optimizer, &mut optimizer.init(), |step| {
            if step.epoch_done && step.epoch >= 4 {
                moments.add(step.params)?;
            }
            go_on()
        })?;
        let accuracy = model.evaluate(&test)?.accuracy;
        assert!(accuracy > 0.93, "{architecture:?}: {accuracy}");
        // The moments of the last 4 epochs, without the running statistics.
        assert_eq!(moments.count(), 4);
        let (first, variance) = (moments.first(), moments.variance());
        assert!(first.names().eq(architecture.parameters().keys().filter(|name| !is_buffer(name))));
        assert!(data(&variance, "l1.weight").iter().any(|value| *value > 0.0));
    }
    Ok(())
}

#[tokio::test]
async fn buffers_are_tensors_named_as_in_pytorch() -> Result<()> {
    let architecture = convolutional(0.5, true);
    let model = architecture.init(1)?;
    let tensors = model.to_tensors()?;
    let info =
        |name: &str| tensors.info(name).map(|info| (info.dtype, info.shape.clone())).unwrap();
    for (layer, width) in [("c1_bn", 4), ("c2_bn", 3), ("l1_bn", 12)] {
        for name in ["weight", "bias", "running_mean", "running_var"] {
            assert_eq!(info(&format!("{layer}.{name}")), (Dtype::F32, vec![width]));
        }
        assert_eq!(info(&format!("{layer}.num_batches_tracked")), (Dtype::I64, vec![]));
        let at_start = |name: &str| data(&model.weights().unwrap(), &format!("{layer}.{name}"));
        assert_eq!(at_start("weight"), vec![1.0; width]);
        assert_eq!(at_start("bias"), vec![0.0; width]);
        assert_eq!(at_start("running_mean"), vec![0.0; width]);
        assert_eq!(at_start("running_var"), vec![1.0; width]);
    }
    // The other parameters are those of the network without batch norm.
    let plain = convolutional(0.0, false).init(1)?.weights()?;
    let weights = model.weights()?;
    assert!(plain.iter().all(|(name, array)| weights.get(name) == Some(array)));

    let counted = tensors.clone().with("c1_bn.num_batches_tracked", &[], &[41_i64])?;
    model.set_tensors(&counted).await?;
    assert_eq!(model.to_tensors()?.to_vec::<i64>("c1_bn.num_batches_tracked").await?, [41]);
    let wrong = tensors.with("c1_bn.num_batches_tracked", &[], &[41_f32])?;
    assert_eq!(
        model.set_tensors(&wrong).await.unwrap_err().to_string(),
        "tensor `c1_bn.num_batches_tracked` is F32[], the model needs I64[]"
    );
    let mut weights = weights;
    weights.insert("c1_bn.num_batches_tracked", Array::zeros([]));
    assert_eq!(
        architecture.with_weights(&weights).unwrap_err().to_string(),
        "parameter `c1_bn.num_batches_tracked` is F32, the model needs an integer"
    );
    Ok(())
}

#[test]
fn sizes_of_before_are_read_and_written_as_they_were() -> Result<()> {
    for stored in [
        r#"{"type":"mlp","inputs":64,"hidden":[16],"classes":10}"#,
        r#"{"type":"cnn","image":[1,8,8],"convolutions":[],"hidden":[12],"classes":10}"#,
        r#"{"type":"linear","inputs":3}"#,
        r#"{"type":"mlp","inputs":64,"hidden":[16],"classes":10,"dropout":0.25,"batch_norm":true}"#,
    ] {
        let read: Architecture = serde_json::from_str(stored)?;
        assert_eq!(serde_json::to_string(&read)?, stored);
        assert_eq!(stored.contains("batch"), read.parameters().contains_key("l1_bn.weight"));
    }
    let wrong = perceptron(1.0, false).init(1).unwrap_err();
    assert_eq!(wrong.to_string(), "`dropout` is a probability, at least 0 and below 1, not 1");
    Ok(())
}
