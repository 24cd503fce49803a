//! A network as the model of a federated training.

use super::TableData;
use crate::{
    federates,
    model::{FederatedModel, SiteMoments, Tested, Trained},
    site_context::SiteContext,
};
use std::{collections::BTreeMap, sync::Arc};
use superduper::{Component, Error, Result, Tensors};
use superduper_candle::{
    Anchor, Architecture, CnnSpec, MlpSpec, Moments, NetworkModel, Optimizer, Sgd, Table,
    TrainLoop, Weights, go_on,
};

/// A network that is trained over sites, each with a [`TableData`].
///
/// It takes `local_epochs`, `batch_size` and `learning_rate` from the training's settings; the
/// learning rate is that of [`Sgd`], unless `optimizer` is given, whose own learning rate then
/// holds. The number of classes of `architecture` is replaced by that of the training, unless that
/// is 0. With FedProx the weights are pulled towards the global ones.
///
/// The batch statistics of a batch norm and its counters are part of the weights: the server
/// averages the statistics, and takes the largest counter.
#[derive(Component)]
#[component(kind = "superduper.FederatedNetwork")]
pub struct FederatedNetwork {
    identifier: String,
    /// The sizes of the network.
    #[component(breaking)]
    pub architecture: Architecture,
    /// How the parameters move at a site; plain stochastic gradient descent if not given.
    #[component(breaking, default)]
    pub optimizer: Option<Box<dyn Optimizer>>,
}
federates!(FederatedNetwork);

impl FederatedNetwork {
    /// A network of these sizes, trained by stochastic gradient descent.
    pub fn new(identifier: impl Into<String>, architecture: Architecture) -> Self {
        FederatedNetwork { identifier: identifier.into(), architecture, optimizer: None }
    }

    /// The sizes, with this number of classes.
    pub(super) fn sized(&self, classes: usize) -> Architecture {
        match (&self.architecture, classes) {
            (Architecture::Mlp(spec), 1..) => {
                Architecture::Mlp(MlpSpec { classes, ..spec.clone() })
            }
            (Architecture::Cnn(spec), 1..) => {
                Architecture::Cnn(CnnSpec { classes, ..spec.clone() })
            }
            (other, _) => other.clone(),
        }
    }

    fn table(ctx: &SiteContext<'_>) -> Result<Arc<Table>> {
        ctx.block_on(ctx.data_as::<TableData>()?.table().get())
    }

    /// Train from these weights; `moments` takes the weights after each epoch.
    fn learn(
        &self,
        weights: &Tensors,
        ctx: &SiteContext<'_>,
        mut moments: Option<&mut Moments>,
    ) -> Result<(NetworkModel, Arc<Table>, Option<f64>)> {
        let table = Self::table(ctx)?;
        let network = ctx.block_on(self.sized(ctx.num_classes()).with_tensors(weights))?;
        let start: Weights = network.weights()?;
        let sgd = Sgd { learning_rate: ctx.arg("learning_rate")?, ..Sgd::default() };
        let optimizer = self.optimizer.as_deref().unwrap_or(&sgd);
        let mu = ctx.client().proximal_mu;
        let training = TrainLoop {
            epochs: ctx.arg("local_epochs")?,
            batch: ctx.arg("batch_size")?,
            seed: ctx.seed(),
            anchor: (mu > 0.0).then_some(Anchor { mu, weights: &start }),
            ..TrainLoop::default()
        };
        if table.is_empty() {
            return Ok((network, table, None));
        }
        let done = training.run(&network, &table, optimizer, &mut optimizer.init(), |step| {
            ctx.check_abort()?;
            ctx.beat();
            if step.epoch_done
                && let Some(moments) = moments.as_deref_mut()
            {
                moments.add(step.params)?;
            }
            go_on()
        })?;
        Ok((network, table, done.final_loss()))
    }
}

impl FederatedModel for FederatedNetwork {
    fn initial(&self, num_classes: usize, seed: u64) -> Result<Tensors> {
        let architecture = self.sized(num_classes);
        if architecture.classes() == Some(0) {
            return Err(Error::invalid("the number of classes is not known")
                .with_hint("set `config.num_classes`, or that of the architecture"));
        }
        architecture.init(seed)?.to_tensors()
    }

    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let (network, table, loss) = self.learn(&weights, ctx, None)?;
        let metrics = loss.into_iter().map(|loss| ("loss".to_owned(), loss)).collect();
        Ok(Trained { weights: network.to_tensors()?, samples: table.rows() as u64, metrics })
    }

    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested> {
        let table = Self::table(ctx)?;
        let network = ctx.block_on(self.sized(ctx.num_classes()).with_tensors(&weights))?;
        let samples = table.rows() as u64;
        if table.is_empty() {
            return Ok(Tested::default());
        }
        let metrics = match network.architecture().classes() {
            Some(_) => {
                let found = network.evaluate(&table)?;
                BTreeMap::from([
                    ("accuracy".to_owned(), found.accuracy),
                    ("loss".to_owned(), found.cross_entropy),
                ])
            }
            None => {
                let found = network.regression_metrics(&table)?;
                BTreeMap::from([("loss".to_owned(), found.mean_squared_error)])
            }
        };
        Ok(Tested { samples, metrics })
    }

    /// For classes the tensor `probabilities` of shape (rows, classes); else `values` of shape (rows).
    fn predict(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tensors> {
        let table = Self::table(ctx)?;
        let network = ctx.block_on(self.sized(ctx.num_classes()).with_tensors(&weights))?;
        let rows: Vec<&[f32]> = (0..table.rows()).map(|row| table.row(row)).collect();
        match network.architecture().classes() {
            Some(classes) => {
                let found = network.probabilities(&rows)?.concat();
                Tensors::new().with("probabilities", &[rows.len(), classes], &found)
            }
            None => {
                let found = network.predict_values(&rows)?;
                Tensors::new().with("values", &[rows.len()], &found)
            }
        }
    }

    fn moments(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<SiteMoments> {
        let mut moments = Moments::new();
        let (network, table, _) = self.learn(&weights, ctx, Some(&mut moments))?;
        if moments.count() == 0 {
            moments.add(superduper_candle::Model::params(&network))?;
        }
        Ok(SiteMoments {
            first: moments.first().to_tensors()?,
            second: moments.second().to_tensors()?,
            samples: table.rows() as u64,
        })
    }
}
