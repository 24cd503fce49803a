//! The training loop by itself: steps in parts, hooks, validation, early stopping, snapshots.

#[path = "table/digits.rs"]
mod table;

use candle_core::{Var, backprop::GradStore};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Mutex};
use superduper::{Error, Result};
use superduper_candle::{
    AdamW, ClipNorm, CosineWarmup, GradientHook, LoopState, Mlp, MlpSpec, Model, Optimizer, Sgd,
    TrainLoop, TrainingState, Weights, go_on, stop,
};
use table::digits;

fn model(hidden: &[usize]) -> Result<Mlp> {
    Mlp::init(MlpSpec { inputs: 64, hidden: hidden.to_vec(), classes: 10, ..MlpSpec::default() }, 1)
}

fn values(weights: &Weights) -> Vec<f32> {
    weights.iter().flat_map(|(_, array)| array.data().to_vec()).collect()
}

fn bits(weights: &Weights) -> Vec<u32> {
    values(weights).into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_step_in_parts_is_that_of_a_big_batch() -> Result<()> {
    // 1438 rows: the last step of an epoch has 30, parts of 16 and 14.
    let (rows, _) = digits()?.split(1, 0.2)?;
    let optimizer = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0 };
    let run = |training: TrainLoop<'_>| {
        let model = model(&[32])?;
        let history =
            training.run(&model, &rows, &optimizer, &mut optimizer.init(), |_| go_on())?;
        Ok::<_, Error>((values(&model.weights()?), history))
    };
    let (big, whole) = run(TrainLoop { epochs: 2, batch: 64, ..TrainLoop::default() })?;
    let (parts, in_parts) =
        run(TrainLoop { epochs: 2, batch: 16, accumulate: 4, ..TrainLoop::default() })?;
    assert_eq!((whole.losses.len(), in_parts.losses.len(), in_parts.steps_per_epoch), (46, 46, 23));
    let largest =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(
        largest(&whole.losses, &in_parts.losses) < 1e-5,
        "{}",
        largest(&whole.losses, &in_parts.losses)
    );
    assert!(largest(&big, &parts) < 1e-5, "{}", largest(&big, &parts));
    // As many parts as there are make one step of all rows.
    let (_, all) =
        run(TrainLoop { epochs: 1, batch: 719, accumulate: usize::MAX, ..TrainLoop::default() })?;
    assert_eq!((all.losses.len(), all.steps_per_epoch), (1, 1));
    // They are not the steps of small batches.
    let (small, _) = run(TrainLoop { epochs: 2, batch: 16, ..TrainLoop::default() })?;
    assert!(largest(&big, &small) > 0.05);
    Ok(())
}

/// Records the norm of the gradients of each step.
#[derive(Debug, Serialize, Deserialize)]
struct Norms {}

static NORMS: Mutex<Vec<(u64, f64)>> = Mutex::new(Vec::new());

#[typetag::serde(name = "test.Norms")]
impl GradientHook for Norms {
    fn change(
        &self,
        step: u64,
        params: &BTreeMap<String, Var>,
        grads: &mut GradStore,
    ) -> Result<()> {
        let squares = params.values().filter_map(|var| grads.get(var)).map(|gradient| {
            let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>()
        });
        NORMS.lock().unwrap().push((step, squares.sum::<f64>().sqrt()));
        Ok(())
    }
}

#[test]
fn hooks_change_the_gradients_before_each_step_in_their_order() -> Result<()> {
    let (rows, _) = digits()?.split(1, 0.9)?;
    let hooks: [Box<dyn GradientHook>; 3] =
        [Box::new(Norms {}), Box::new(ClipNorm { max: 0.125 }), Box::new(Norms {})];
    let training =
        TrainLoop { epochs: 1, batch: 30, accumulate: 2, hooks: &hooks, ..TrainLoop::default() };
    let (model, optimizer) = (model(&[])?, Sgd { learning_rate: 1.0, ..Sgd::default() });
    let before = values(&model.weights()?);
    let mut moved = Vec::new();
    training.run(&model, &rows, &optimizer, &mut optimizer.init(), |step| {
        if step.step == 1 {
            moved = values(&Weights::of(step.params)?);
        }
        go_on()
    })?;
    let norms = NORMS.lock().unwrap().clone();
    assert_eq!(
        norms.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        [0, 0, 1, 1, 2, 2],
        "once for a step, however many parts it has"
    );
    for pair in norms.chunks(2) {
        assert!(pair[0].1 > 0.125 && (pair[1].1 - 0.125).abs() < 1e-6, "{pair:?}");
    }
    // Plain descent at rate 1 moves the parameters by just the clipped gradients.
    let length =
        before.iter().zip(&moved).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    assert!((length - 0.125).abs() < 1e-5, "{length}");
    Ok(())
}

#[test]
fn the_best_weights_are_kept() -> Result<()> {
    let (rows, kept_aside) = digits()?.split(1, 0.8)?;
    let (model, optimizer) = (model(&[16])?, AdamW { learning_rate: 0.05, ..AdamW::default() });
    let training = TrainLoop {
        epochs: 500,
        validation: Some(&kept_aside),
        validate_every: Some(5),
        patience: Some(6),
        ..TrainLoop::default()
    };
    let mut state = TrainingState::from(optimizer.init());
    let mut seen = Vec::new();
    let history = training.run_from(&model, &rows, &optimizer, &mut state, |step| {
        assert_eq!(step.scores.is_some(), step.step.is_multiple_of(5));
        seen.extend(step.scores.map(|scores| (step.step, scores.loss)));
        go_on()
    })?;
    let best = seen
        .iter()
        .copied()
        .reduce(|best, next| if next.1 < best.1 { next } else { best })
        .unwrap();
    assert_eq!(
        seen.last().unwrap().0,
        best.0 + 6 * 5,
        "six validations after the best one: {seen:?}"
    );
    assert!(history.stopped && state.is_ended());
    assert_eq!(state.best().map(|found| (found.step, found.scores.loss)), Some(best));
    assert_eq!(model.scores(&kept_aside)?.loss, best.1, "the model has the best parameters");
    let again = training.run_from(&model, &rows, &optimizer, &mut state, |_| go_on())?;
    assert_eq!((again.losses.len(), model.scores(&kept_aside)?.loss), (0, best.1), "it is over");

    let blind = TrainLoop { patience: Some(1), ..TrainLoop::default() };
    let error =
        blind.run(&model, &rows, &optimizer, &mut optimizer.init(), |_| go_on()).unwrap_err();
    assert!(
        error.to_string().starts_with("a training with patience needs rows to validate on"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_training_goes_on_from_a_snapshot_with_the_same_bits() -> Result<()> {
    let (rows, kept_aside) = digits()?.split(1, 0.5)?;
    let (schedule, optimizer) = (
        CosineWarmup { warmup: 20, floor: 0.1 },
        AdamW { learning_rate: 0.01, ..AdamW::default() },
    );
    let hooks: [Box<dyn GradientHook>; 1] = [Box::new(ClipNorm { max: 0.5 })];
    let training = TrainLoop {
        epochs: 8,
        seed: 3,
        accumulate: 2,
        schedule: &schedule,
        hooks: &hooks,
        validation: Some(&kept_aside),
        patience: Some(100),
        ..TrainLoop::default()
    };
    let whole = model(&[24])?;
    let mut state = TrainingState::from(optimizer.init());
    training.run_from(&whole, &rows, &optimizer, &mut state, |_| go_on())?;

    // Of 8 times 15 steps: in the middle of an epoch, at its end, at the very end.
    for at in [7, 40, 60, 120] {
        let first = model(&[24])?;
        let mut begun = TrainingState::from(optimizer.init());
        let mut saved: Option<LoopState> = None;
        training.run_from(&first, &rows, &optimizer, &mut begun, |step| {
            if step.step == at {
                saved = Some(step.loop_state()?);
            }
            // The snapshot is of its step, whatever is done to the parameters after it.
            if step.step == 120.min(at + 3) { stop() } else { go_on() }
        })?;
        let saved = saved.unwrap();
        assert_eq!(saved.step(), at);
        let second = Mlp::init(first.spec().clone(), 99)?;
        let mut restored = saved.restore(&second).await?;
        training.run_from(&second, &rows, &optimizer, &mut restored, |_| go_on())?;
        assert_eq!(bits(&second.weights()?), bits(&whole.weights()?), "from step {at}");
        assert_eq!((restored.step(), restored.loss()), (state.step(), state.loss()));
        assert_eq!(
            restored.best().map(|best| (best.step, best.scores.clone())),
            state.best().map(|best| (best.step, best.scores.clone()))
        );
    }

    let narrow = model(&[23])?;
    let saved = LoopState::of(whole.params(), &state)?;
    let error = saved.restore(&narrow).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the values for parameter `l1.bias` have shape [24], the model needs [23]"
    );
    Ok(())
}
