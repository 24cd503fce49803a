//! Noise on updates.

use super::{
    clip_norm::{clip, floats, positive, read},
    contract::Filter,
};
use crate::{
    numeric::{FloatFormat, Real, compute, with_float},
    update::Update,
};
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Error, Result, TensorData, Tensors};
use superduper_train::Rng;

/// Adds normal noise to each element of the tensors of floats.
///
/// The update is first clipped as [`ClipNorm`](crate::ClipNorm) with `max = clip` does. Then a
/// number of the normal distribution with mean 0 and standard deviation `sigma * clip` is added to
/// each element.
///
/// Source: McMahan et al., "Learning Differentially Private Recurrent Language Models", 2017,
/// arXiv:1710.06963; the noise is that of a site, so that the server needs no trust.
///
/// # Guarantees
/// The noise is a function of the seed, the site, the round and the name of the tensor. Equal
/// arguments give equal bytes.
///
/// # Caveats
/// - A program that knows the seed can subtract the noise. A training therefore draws a random seed
///   for each attempt of a site's job, and does not record it. Two attempts of one job have
///   different noise.
/// - The generator is not one for secrets, and rounding to the type of a tensor can tell a little
///   (Mironov, "On Significance of the Least Significant Bits for Differential Privacy", 2012). How
///   private a training is as a whole is not computed here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianNoise {
    /// The standard deviation of the noise, as a multiple of `clip`; above 0.
    pub sigma: f64,
    /// The largest length of an update before the noise; above 0.
    pub clip: f64,
}

#[typetag::serde(name = "federated.GaussianNoise")]
impl Filter for GaussianNoise {
    fn name(&self) -> &'static str {
        "GaussianNoise"
    }

    fn check(&self) -> Result<()> {
        positive("GaussianNoise", "sigma", self.sigma)?;
        positive("GaussianNoise", "clip", self.clip)?;
        // Both may be finite and their product not.
        positive("GaussianNoise", "sigma * clip", self.sigma * self.clip)
    }

    fn apply<'a>(
        &'a self,
        round: u64,
        global: &'a Tensors,
        update: Update,
        seed: u64,
    ) -> BoxFuture<'a, Result<Update>> {
        Box::pin(async move {
            self.check()?;
            let mut update = clip(global, update, self.clip).await?;
            let deviation = self.sigma * self.clip;
            for name in floats(global) {
                let tensor = read(&update, name).await?;
                let site = &update.site;
                // The length keeps `a/b` of site `x` apart from `b` of site `x/a`.
                let stream = format!("noise/{round}/{}/{site}/{name}", site.len());
                let rng = Rng::named(seed, &stream);
                // A number takes as long as copying several hundred bytes.
                let work = tensor.bytes.len() * 64;
                let tensor = compute(work, move || noisy(&tensor, deviation, rng)).await?;
                let tensor = tensor.map_err(|error| update.at(name, error))?;
                update.tensors.insert(name, tensor)?;
            }
            Ok(update)
        })
    }
}

/// The tensor with noise.
fn noisy(tensor: &TensorData, deviation: f64, mut rng: Rng) -> Result<TensorData> {
    fn add<F: FloatFormat>(bytes: &mut [u8], deviation: f64, rng: &mut Rng) -> bool {
        F::raw_mut(bytes).iter_mut().fold(true, |finite, place| {
            *place = F::put(F::Sum::from_f64(F::get(*place) + deviation * rng.normal()));
            finite & F::is_finite(*place)
        })
    }
    let mut bytes = tensor.bytes.to_vec();
    let finite = with_float!(
        tensor.info.dtype,
        Format => add::<Format>(&mut bytes, deviation, &mut rng),
        else true,
    );
    if !finite {
        let text = format!("noise of standard deviation {deviation} makes an element infinite");
        return Err(Error::invalid(text).with_hint("lower `sigma` or `clip`"));
    }
    Ok(TensorData { info: tensor.info.clone(), bytes: bytes.into() })
}
