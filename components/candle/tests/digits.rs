//! The perceptron learns the handwritten digits of `examples/data`, and does so the same way each
//! time.

#[path = "table/digits.rs"]
mod table;

use std::time::Instant;
use superduper::{Error, Result};
use superduper_candle::{
    AdamW, CosineWarmup, Evaluation, Mlp, MlpSpec, Optimizer, OptimizerState, Sgd, Table,
    TrainLoop, Weights, go_on, metrics, stop,
};
use table::digits;

fn model(hidden: &[usize]) -> Result<Mlp> {
    Mlp::init(MlpSpec { inputs: 64, hidden: hidden.to_vec(), classes: 10, ..MlpSpec::default() }, 1)
}

fn bits(weights: &Weights) -> Vec<(String, Vec<u32>)> {
    weights
        .iter()
        .map(|(name, array)| {
            (name.to_owned(), array.data().iter().map(|value| value.to_bits()).collect())
        })
        .collect()
}

fn learn(model: &Mlp, training: &TrainLoop<'_>, optimizer: &dyn Optimizer) -> Result<Evaluation> {
    let (train, test) = digits()?.split(1, 0.2)?;
    let started = Instant::now();
    training.run(model, &train, optimizer, &mut optimizer.init(), |_| go_on())?;
    let scores = metrics::evaluate(&model.logits(&test.features()?)?, test.labels())?;
    eprintln!(
        "{:?} hidden: accuracy {:.4}, macro F1 {:.4}, {:?}",
        model.spec().hidden,
        scores.accuracy,
        scores.macro_f1,
        started.elapsed()
    );
    Ok(scores)
}

#[test]
fn perceptron_learns() -> Result<()> {
    let training = TrainLoop {
        epochs: 30,
        seed: 1,
        schedule: &CosineWarmup { warmup: 45, floor: 0.0 },
        ..TrainLoop::default()
    };
    let scores =
        learn(&model(&[64])?, &training, &AdamW { learning_rate: 3e-3, ..AdamW::default() })?;
    assert_eq!(scores.rows, 359);
    assert!(scores.accuracy >= 0.95, "{scores:?}");
    assert!(scores.macro_f1 >= 0.95 && scores.cross_entropy < 0.3, "{scores:?}");
    Ok(())
}

#[test]
fn logistic_regression_learns() -> Result<()> {
    let training = TrainLoop { epochs: 40, seed: 1, ..TrainLoop::default() };
    let scores = learn(
        &model(&[])?,
        &training,
        &Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4 },
    )?;
    assert!(scores.accuracy >= 0.93, "{scores:?}");
    Ok(())
}

#[test]
fn two_trainings_are_bit_identical() -> Result<()> {
    let (train, _) = digits()?.split(1, 0.2)?;
    let run = |seed| {
        let (model, optimizer) = (model(&[32])?, AdamW::default());
        let mut state = optimizer.init();
        let history = TrainLoop { epochs: 2, seed, ..TrainLoop::default() }.run(
            &model,
            &train,
            &optimizer,
            &mut state,
            |_| go_on(),
        )?;
        Ok::<_, Error>((bits(&model.weights()?), bits(state.moments()), history))
    };
    assert_eq!(run(5)?, run(5)?);
    assert_ne!(run(5)?.0, run(6)?.0);
    Ok(())
}

#[test]
fn continued_training_ends_with_the_same_bits() -> Result<()> {
    let (train, _) = digits()?.split(1, 0.2)?;
    let training = TrainLoop {
        epochs: 3,
        seed: 2,
        schedule: &CosineWarmup { warmup: 20, floor: 0.1 },
        ..TrainLoop::default()
    };
    let optimizers: [&dyn Optimizer; 2] =
        [&AdamW::default(), &Sgd { momentum: 0.9, ..Sgd::default() }];
    for optimizer in optimizers {
        let whole = model(&[32])?;
        let mut state = optimizer.init();
        let history = training.run(&whole, &train, optimizer, &mut state, |_| go_on())?;
        assert_eq!((history.losses.len(), history.stopped, state.step()), (3 * 45, false, 3 * 45));

        // Ended in the middle of the second epoch; weights and state go through JSON.
        let first = model(&[32])?;
        let mut saved = optimizer.init();
        let begun = training.run(&first, &train, optimizer, &mut saved, |step| {
            if step.step == 61 { stop() } else { go_on() }
        })?;
        assert!(begun.stopped);
        let text = serde_json::to_string(&(first.weights()?, &saved))?;
        let (weights, mut restored): (Weights, OptimizerState) = serde_json::from_str(&text)?;
        let second = Mlp::from_weights(first.spec().clone(), &weights)?;
        let ended = training.run(&second, &train, optimizer, &mut restored, |_| go_on())?;

        assert_eq!(bits(&second.weights()?), bits(&whole.weights()?), "{optimizer:?}");
        assert_eq!(restored, state);
        assert_eq!([begun.losses, ended.losses].concat(), history.losses);
        assert_eq!(
            training.run(&second, &train, optimizer, &mut restored, |_| go_on())?.losses,
            [0.0; 0],
            "nothing is left to do"
        );
    }
    Ok(())
}

#[test]
fn each_step_is_reported() -> Result<()> {
    let (train, _) = digits()?.split(1, 0.9)?;
    let (model, optimizer) = (model(&[])?, AdamW::default());
    let mut seen = Vec::new();
    let training = TrainLoop { epochs: 2, batch: 100, ..TrainLoop::default() };
    let history = training.run(&model, &train, &optimizer, &mut optimizer.init(), |step| {
        assert_eq!((step.epochs, step.steps, step.state.step()), (2, 4, step.step));
        seen.push((step.epoch, step.step, step.epoch_done));
        go_on()
    })?;
    assert_eq!(seen, [(0, 1, false), (0, 2, true), (1, 3, false), (1, 4, true)]);
    assert!(
        history.final_loss().is_some_and(|loss| loss > 0.0 && loss < f64::from(history.losses[0]))
    );
    Ok(())
}

#[test]
fn what_cannot_be_trained_is_refused() -> Result<()> {
    let (train, _) = digits()?.split(1, 0.2)?;
    let run = |model: &Mlp, training: TrainLoop<'_>, optimizer: &dyn Optimizer, table: &Table| {
        training.run(model, table, optimizer, &mut optimizer.init(), |_| go_on()).unwrap_err()
    };
    let narrow =
        Mlp::init(MlpSpec { inputs: 60, hidden: vec![], classes: 10, ..MlpSpec::default() }, 1)?;
    let error = run(&narrow, TrainLoop::default(), &AdamW::default(), &train);
    assert_eq!(error.to_string(), "the table has shape [1438, 64], the model needs [rows, 60]");
    let error = run(
        &model(&[])?,
        TrainLoop { batch: 0, ..TrainLoop::default() },
        &AdamW::default(),
        &train,
    );
    assert_eq!(error.to_string(), "cannot train on 1438 rows in batches of 0");
    let error = run(
        &model(&[16])?,
        TrainLoop::default(),
        &Sgd { learning_rate: 1e30, ..Sgd::default() },
        &train,
    );
    assert!(
        error.is_fatal() && error.to_string().contains("the loss is") && error.hint().is_some(),
        "{error}"
    );
    Ok(())
}
