//! Models drawn around the mean of a training.

use super::moments::Moments;
use crate::numeric::{FloatFormat, Real, compute, is_float, with_float};
use superduper::{Error, Result, TensorData, TensorInfo, Tensors};
use superduper_train::Rng;

/// Weights that are normally distributed around the mean of a training, each element on its own.
///
/// Source: Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep Learning", 2019,
/// arXiv:1902.02476, "SWAG-Diagonal".
#[derive(Debug, Clone)]
pub struct SwagModel {
    moments: Moments,
}

impl SwagModel {
    /// The model with these moments.
    ///
    /// # Errors
    /// `InvalidInput` where names, shapes or types of the two moments differ.
    pub fn new(moments: Moments) -> Result<Self> {
        let (mean, square) = (&moments.mean, &moments.square);
        let names = mean.names().chain(square.names());
        let text = |info: Option<&TensorInfo>| match info {
            Some(info) => info.to_string(),
            None => "missing".to_owned(),
        };
        for name in names {
            let (first, second) = (mean.info(name), square.info(name));
            if first != second {
                let (first, second) = (text(first), text(second));
                return Err(Error::invalid(format!(
                    "the first moment of tensor `{name}` is {first}, the second is {second}"
                )));
            }
        }
        Ok(SwagModel { moments })
    }

    /// The moments.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Draw weights: `m1 + √max(m2 - m1², 0) · ε` with `ε` of the normal distribution with mean 0
    /// and variance 1, for each element on its own.
    ///
    /// Integers and booleans are those of the first moment.
    ///
    /// # Guarantees
    /// Each `index` has draws of its own; equal seed and index give equal bytes.
    ///
    /// # Errors
    /// Those of [`Tensors::get`].
    pub async fn draw(&self, seed: u64, index: u64) -> Result<Tensors> {
        let Moments { mean, square } = &self.moments;
        let mut drawn = mean.clone();
        for name in mean.names() {
            let first = mean.get(name).await?;
            if is_float(first.info.dtype) {
                let second = square.get(name).await?;
                let rng = Rng::named(seed, &format!("swag/{index}/{name}"));
                // A number takes as long as copying several hundred bytes.
                let work = first.bytes.len() * 64;
                let tensor = compute(work, move || around(&first, &second, rng)).await?;
                drawn.insert(name, tensor)?;
            }
        }
        Ok(drawn)
    }
}

/// A tensor drawn around its mean.
fn around(first: &TensorData, second: &TensorData, mut rng: Rng) -> TensorData {
    fn draw<F: FloatFormat>(bytes: &mut [u8], second: &[u8], rng: &mut Rng) {
        for (place, square) in F::raw_mut(bytes).iter_mut().zip(F::raw(second)) {
            let mean = F::get(*place);
            let deviation = (F::get(*square) - mean * mean).max(0.0).sqrt();
            *place = F::put(F::Sum::from_f64(mean + deviation * rng.normal()));
        }
    }
    let mut bytes = first.bytes.to_vec();
    with_float!(
        first.info.dtype,
        Format => draw::<Format>(&mut bytes, &second.bytes, &mut rng),
        else {},
    );
    TensorData { info: first.info.clone(), bytes: bytes.into() }
}
