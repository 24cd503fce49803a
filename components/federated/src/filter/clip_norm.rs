//! Updates of bounded length.

use super::contract::Filter;
use crate::{
    numeric::{FloatFormat, Real, compute, is_float, vectorized, with_float},
    update::{GLOBAL, Update},
};
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Error, Result, TensorData, Tensors};

/// Shortens the difference `d` of an update to the global model to the length `max`: `d` becomes
/// `d * min(1, max / ||d||)`, where `||d||` is the Euclidean norm over all tensors of floats.
///
/// An update that is no longer than that goes out byte for byte. Else each element is rounded to
/// its type, so the length is `max` but for that.
///
/// Source: McMahan et al., "Learning Differentially Private Recurrent Language Models", 2017,
/// arXiv:1710.06963, "flat clipping".
///
/// # Errors
/// Beside those of every filter: `InvalidInput` where the length is NaN or infinite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipNorm {
    /// The largest length; above 0.
    pub max: f64,
}

#[typetag::serde(name = "federated.ClipNorm")]
impl Filter for ClipNorm {
    fn name(&self) -> &'static str {
        "ClipNorm"
    }

    fn check(&self) -> Result<()> {
        positive("ClipNorm", "max", self.max)
    }

    fn apply<'a>(
        &'a self,
        _round: u64,
        global: &'a Tensors,
        update: Update,
        _seed: u64,
    ) -> BoxFuture<'a, Result<Update>> {
        Box::pin(async move {
            self.check()?;
            clip(global, update, self.max).await
        })
    }
}

/// Refuse a setting that is not above 0.
pub(super) fn positive(filter: &str, setting: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(format!("{filter}: `{setting}` must be above 0, not {value}")).fatal())
}

/// Shorten the difference to the global model to this length.
pub(super) async fn clip(global: &Tensors, mut update: Update, max: f64) -> Result<Update> {
    update.check_layout(global, GLOBAL)?;
    let mut square = 0.0;
    for name in floats(global) {
        let (tensor, base) = (read(&update, name).await?, global.get(name).await?);
        let size = tensor.bytes.len() * 2;
        square += compute(size, move || squared(&tensor, &base)).await?;
    }
    let norm = square.sqrt();
    if !norm.is_finite() {
        let text =
            format!("the difference of site `{}` to the global model is {norm}", update.site);
        return Err(Error::invalid(text).with_hint(
            "the training of this site diverged: try a lower learning rate, or clip its gradients",
        ));
    }
    if norm <= max {
        return Ok(update);
    }
    for name in floats(global) {
        let (tensor, base) = (read(&update, name).await?, global.get(name).await?);
        let size = tensor.bytes.len() * 2;
        let clipped = compute(size, move || shortened(&tensor, &base, max / norm)).await?;
        update.tensors.insert(name, clipped)?;
    }
    Ok(update)
}

/// The names of the tensors of floats.
pub(super) fn floats(tensors: &Tensors) -> impl Iterator<Item = &str> {
    let is_float = |name: &&str| tensors.info(name).is_some_and(|info| is_float(info.dtype));
    tensors.names().filter(is_float)
}

/// A tensor of the update.
pub(super) async fn read(update: &Update, name: &str) -> Result<TensorData> {
    update.tensors.get(name).await.map_err(|error| update.at(name, error))
}

/// The squared length of the difference of two tensors, in eight sums side by side.
fn squared(tensor: &TensorData, base: &TensorData) -> f64 {
    fn sum<F: FloatFormat>(one: &[u8], other: &[u8]) -> f64 {
        vectorized(
            #[inline(always)]
            || {
                let mut sums = [0.0; 8];
                let (ones, one_rest) = F::raw(one).as_chunks::<8>();
                let (others, other_rest) = F::raw(other).as_chunks::<8>();
                for (one, other) in ones.iter().zip(others) {
                    for (sum, (one, other)) in sums.iter_mut().zip(one.iter().zip(other)) {
                        let difference = F::get(*one) - F::get(*other);
                        *sum += difference * difference;
                    }
                }
                let rest = one_rest.iter().zip(other_rest);
                let rest = rest.map(|(one, other)| (F::get(*one) - F::get(*other)).powi(2));
                sums.iter().sum::<f64>() + rest.sum::<f64>()
            },
        )
    }
    with_float!(tensor.info.dtype, Format => sum::<Format>(&tensor.bytes, &base.bytes), else 0.0)
}

/// The tensor whose difference to another one is multiplied by a factor.
fn shortened(tensor: &TensorData, base: &TensorData, factor: f64) -> TensorData {
    fn shorten<F: FloatFormat>(bytes: &mut [u8], base: &[u8], factor: f64) {
        vectorized(
            #[inline(always)]
            || {
                for (place, base) in F::raw_mut(bytes).iter_mut().zip(F::raw(base)) {
                    let base = F::get(*base);
                    let value = base + (F::get(*place) - base) * factor;
                    *place = F::put(F::Sum::from_f64(value));
                }
            },
        );
    }
    let mut bytes = tensor.bytes.to_vec();
    with_float!(
        tensor.info.dtype,
        Format => shorten::<Format>(&mut bytes, &base.bytes, factor),
        else {},
    );
    TensorData { info: tensor.info.clone(), bytes: bytes.into() }
}
