//! Inverted dropout, by masks that are a function of a seed and where they are used.
//!
//! Source: N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
//! Overfitting", JMLR 2014, section 10 for the scale at training time; as `torch.nn.Dropout`.

use crate::{Rng, mode::Mode};
use candle_core::{Result, Tensor};
use superduper::Error;

/// Refuse what is no probability to drop a value.
pub(crate) fn check(probability: f64) -> superduper::Result<()> {
    if (0.0..1.0).contains(&probability) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`dropout` is a probability, at least 0 and below 1, not {probability}"
    ))
    .fatal())
}

/// Whether nothing is dropped.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) fn is_off(probability: &f64) -> bool {
    *probability == 0.0
}

/// Keep each value with probability `1 - p`, multiplied by `1 / (1 - p)`; the others become 0. The
/// first dimension of `x` is that of the rows.
///
/// With a probability of 0, and in `Mode::Eval`, the values stay as they are.
pub(crate) fn dropout(x: Tensor, probability: f64, mode: Mode, layer: &str) -> Result<Tensor> {
    if probability == 0.0 {
        return Ok(x);
    }
    let mut shape = x.dims().to_vec();
    let mut rng = match mode {
        Mode::Eval => return Ok(x),
        Mode::Train { seed, step, part } => {
            Rng::named(seed, &format!("dropout {layer} step {step} part {part}"))
        }
        Mode::Sample { seed, sample } => {
            if let Some(rows) = shape.first_mut() {
                *rows = 1;
            }
            Rng::named(seed, &format!("dropout {layer} sample {sample}"))
        }
    };
    let kept = (1.0 / (1.0 - probability)) as f32;
    let mask: Vec<f32> = (0..shape.iter().product())
        .map(|_| if rng.next_f64() < probability { 0.0 } else { kept })
        .collect();
    let mask = Tensor::from_vec(mask, shape, x.device())?.to_dtype(x.dtype())?;
    x.broadcast_mul(&mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    const TRAIN: Mode = Mode::Train { seed: 1, step: 2, part: 0 };

    fn ones(rows: usize, width: usize) -> Tensor {
        Tensor::ones((rows, width), DType::F32, &Device::Cpu).unwrap()
    }

    fn masks(mode: Mode, layer: &str) -> Vec<Vec<f32>> {
        dropout(ones(3, 50), 0.5, mode, layer).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn g35_dropout_keeps_the_mean_and_has_the_variance_of_theory() -> Result<()> {
        // The mean of 1, 2, 3, 4 with p = 0.25: Σ x² p / (1 - p) / 16 = 30 / 48 = 0.625.
        let draws = 100_000;
        let rows =
            ones(draws, 4).broadcast_mul(&Tensor::new(&[1_f32, 2., 3., 4.], &Device::Cpu)?)?;
        let one_each = dropout(rows, 0.25, TRAIN, "l1")?.mean(1)?.to_vec1::<f32>()?;
        let row = Tensor::new(&[[1_f32, 2.0, 3.0, 4.0]], &Device::Cpu)?;
        let sampled = (0..draws as u64).map(|sample| {
            let mode = Mode::Sample { seed: 5, sample };
            dropout(row.clone(), 0.25, mode, "l1")?.mean_all()?.to_scalar::<f32>()
        });
        for values in [one_each, sampled.collect::<Result<_>>()?] {
            let values = || values.iter().map(|value| f64::from(*value));
            let mean = values().sum::<f64>() / draws as f64;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / draws as f64;
            assert!((mean - 2.5).abs() < 0.01, "{mean}");
            assert!((variance / 0.625 - 1.0).abs() < 0.02, "{variance}");
        }
        Ok(())
    }

    #[test]
    fn masks_are_a_function_of_seed_place_and_layer() {
        let train = |seed, step, part| masks(Mode::Train { seed, step, part }, "l1");
        assert_eq!(train(1, 2, 3), train(1, 2, 3));
        let others = [train(2, 2, 3), train(1, 3, 3), train(1, 2, 4)];
        assert!(others.iter().all(|other| *other != train(1, 2, 3)));
        assert_ne!(masks(TRAIN, "l1"), masks(TRAIN, "l2"));
        let rows = train(1, 2, 3);
        assert!(rows[0] != rows[1] && rows.concat().iter().all(|value| [0.0, 2.0].contains(value)));

        let sample = |seed, sample| masks(Mode::Sample { seed, sample }, "l1");
        let rows = sample(1, 0);
        assert!(rows[0] == rows[1] && rows[1] == rows[2], "one sample is one network");
        assert!(sample(1, 0) == sample(1, 0) && sample(1, 0) != sample(1, 1));
        assert_ne!(sample(1, 0), sample(2, 0));
        assert_eq!(masks(Mode::Eval, "l1"), vec![vec![1.0; 50]; 3]);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert!(check(0.0).is_ok() && check(0.99).is_ok());
        for wrong in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
