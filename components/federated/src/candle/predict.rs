//! Predictions of a trained network, and how uncertain they are.

use super::FederatedNetwork;
use crate::{
    config::UncertaintyMethod,
    state::GlobalModel,
    training::FederatedTraining,
    uncertainty::{Moments, Predictions, SwagModel, Uncertainty},
};
use std::any::Any;
use superduper::{Artifact, Error, Result, Tensors};
use superduper_candle::{Architecture, Mode, NetworkModel};

impl FederatedNetwork {
    /// Class probabilities of rows, with their uncertainty, by the method of the training:
    /// `None` uses the newest model alone, whose variance is 0; `Ensemble` that model and those that
    /// `keep` kept; `McDropout` draws dropout masks while batch norm stays as it is; `Swag` draws
    /// weights. Draws are a function of the training's seed.
    ///
    /// # Errors
    /// `InvalidInput` for a training of another model, for a method whose models are missing, and
    /// for rows of another width; `NotFound` before the training has begun.
    pub async fn predict(
        training: &FederatedTraining,
        rows: &[impl AsRef<[f32]>],
    ) -> Result<Uncertainty> {
        let model = training.resolved_model()?;
        let any: &dyn Any = &*model;
        let network = any.downcast_ref::<FederatedNetwork>().ok_or_else(|| {
            let text = format!("the model of this training is a `{}`", training.model.0.kind());
            Error::invalid(text).with_hint("`predict` needs a `FederatedNetwork`")
        })?;
        let sizes = network.sized(training.num_classes());
        let global = training.global.get()?;
        let drawn = draws(training, &sizes, &global, rows).await?;
        let classes = sizes.classes().ok_or_else(|| {
            Error::invalid("a network that predicts a value has no class probabilities")
        })?;
        let samples = drawn.len();
        let values = drawn.into_iter().flatten().flatten().map(f64::from).collect();
        Ok(Predictions::new(samples, rows.len(), classes, values)?.uncertainty())
    }
}

/// The probabilities of each drawn model.
async fn draws(
    training: &FederatedTraining,
    sizes: &Architecture,
    global: &GlobalModel,
    rows: &[impl AsRef<[f32]>],
) -> Result<Vec<Vec<Vec<f32>>>> {
    let newest = opened(sizes, &global.weights).await?;
    let seed = training.seed;
    match training.uncertainty {
        UncertaintyMethod::None => {
            // One model never disagrees with itself: the variance is 0.
            let one = newest.probabilities(rows)?;
            Ok(vec![one.clone(), one])
        }
        UncertaintyMethod::Ensemble => {
            let mut all = vec![newest.probabilities(rows)?];
            for kept in &global.kept {
                all.push(opened(sizes, &kept.weights).await?.probabilities(rows)?);
            }
            if all.len() < 2 {
                return Err(Error::invalid("an ensemble needs at least two models")
                    .with_hint("set `federation.keep.last`"));
            }
            Ok(all)
        }
        UncertaintyMethod::McDropout { samples } => (0..samples as u64)
            .map(|sample| newest.probabilities_in(rows, Mode::Sample { seed, sample }))
            .collect(),
        UncertaintyMethod::Swag { samples } => {
            let missing = || Error::invalid("no moments of the weights are on record");
            let first = global.first_moment.as_ref().ok_or_else(missing)?.get().await?;
            let second = global.second_moment.as_ref().ok_or_else(missing)?.get().await?;
            let moments = Moments { mean: Tensors::clone(&first), square: Tensors::clone(&second) };
            let swag = SwagModel::new(moments)?;
            let mut all = Vec::with_capacity(samples);
            for sample in 0..samples as u64 {
                // What has no moments, as the statistics of a batch norm, is that of the newest model.
                let mut weights = newest.to_tensors()?;
                let drawn = swag.draw(seed, sample).await?;
                for name in drawn.names() {
                    weights.insert(name, drawn.get(name).await?)?;
                }
                all.push(sizes.with_tensors(&weights).await?.probabilities(rows)?);
            }
            Ok(all)
        }
    }
}

async fn opened(sizes: &Architecture, weights: &Artifact<Tensors>) -> Result<NetworkModel> {
    sizes.with_tensors(&*weights.get().await?).await
}
