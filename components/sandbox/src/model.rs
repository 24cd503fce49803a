//! A model whose code is a guest: it is trained over sites as a native one.

use crate::{
    declared::{Declared, DeclaredModel},
    engine::{Compiled, compiled},
    guest::Guest,
    limits::Limits,
    running::{Running, weights_of},
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc};
use superduper::{Digest, prelude::*};
use superduper_candle::{Anchor, Model, Optimizer, Sgd, Table, TrainLoop, Weights, go_on};
use superduper_federated::{
    __private::FederatedEntry, CarriedCode, FederatedModel, SiteContext, Tested, Trained,
    candle::TableData,
};

/// A model whose code is a module of WebAssembly.
///
/// The host owns parameters, batches and optimizer: the guest gives the loss and the gradients of a
/// batch, and the outputs of rows. So strategies, filters, FedProx, seeds and limits hold as for native
/// models. The data of a site is a [`TableData`].
///
/// `local_epochs`, `batch_size` and `learning_rate` of the training count as for
/// `FederatedNetwork`.
#[derive(Component)]
#[component(kind = "superduper.SandboxedModel", source)]
pub struct SandboxedModel {
    identifier: String,
    /// The module.
    #[component(breaking)]
    pub module: Artifact<Bytes>,
    /// The digest of the module, for which a grant is given.
    #[component(breaking)]
    pub digest: Digest,
    /// Values of the hyperparameters that the module declares.
    #[component(breaking, default)]
    pub hyperparameters: Map<String, Value>,
    /// How the parameters move at a site; plain stochastic gradient descent if not given.
    #[component(breaking, default)]
    pub optimizer: Option<Box<dyn Optimizer>>,
    /// What the module says of itself, for the owners of sites.
    #[component(default)]
    pub about: String,
    /// How much the guest may use: at most what the process allows that runs it
    /// ([`limit_models`](crate::limit_models)).
    #[component(default)]
    pub limits: Limits,
}
superduper_federated::__private::inventory::submit! {
    FederatedEntry::of_sandbox::<SandboxedModel>()
}

impl SandboxedModel {
    /// A model of this module. The module and the hyperparameters are checked.
    ///
    /// # Errors
    /// `InvalidInput` with all that is wrong with the module, for a module that is no model, and with
    /// all hyperparameters that are unknown, missing or of another type.
    pub fn new(
        identifier: impl Into<String>,
        module: impl Into<Bytes>,
        hyperparameters: Map<String, Value>,
    ) -> Result<Self> {
        let (module, limits): (Bytes, Limits) = (module.into(), Limits::default());
        let compiled = compiled(&module, &limits)?;
        model_of(&compiled.declared)?.settings(&hyperparameters)?;
        let digest = Digest::of(&module);
        let declared = serde_json::to_string_pretty(&compiled.declared)?;
        let about =
            format!("WebAssembly, {} bytes, digest {digest}, declares:\n{declared}", module.len());
        Ok(SandboxedModel {
            identifier: identifier.into(),
            digest,
            about,
            module: Artifact::new(module),
            hyperparameters,
            optimizer: None,
            limits,
        })
    }

    /// A model of the module in a file; its identifier is the name of the file without `.wasm`.
    ///
    /// # Errors
    /// `NotFound` for a file that cannot be read; as for [`new`](SandboxedModel::new).
    pub fn from_file(
        path: impl AsRef<std::path::Path>,
        hyperparameters: Map<String, Value>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let code = std::fs::read(path).map_err(|error| {
            let text = format!("the module `{}` cannot be read", path.display());
            Error::not_found(text).with_source(error)
        })?;
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        SandboxedModel::new(name.unwrap_or_default(), code, hyperparameters)
    }

    /// The module, checked and compiled. Its bytes have to be those that a grant was given for.
    async fn open(&self) -> Result<Arc<Compiled>> {
        let code = self.module.get().await?;
        let found = Digest::of(&code);
        if found != self.digest {
            return Err(Error::integrity(format!(
                "the module of `{}` has the digest {found}, not {}",
                self.identifier, self.digest
            )));
        }
        compiled(&code, &self.limits.within_process())
    }

    /// An instance with the hyperparameters.
    fn guest(&self, compiled: &Arc<Compiled>, seed: u64) -> Result<Guest> {
        let settings = model_of(&compiled.declared)?.settings(&self.hyperparameters)?;
        let mut guest = Guest::of(compiled, &self.limits.within_process(), seed)?;
        if guest.has("configure") {
            let text = serde_json::to_vec(&settings)?;
            let place = guest.place(text.len())?;
            guest.write(place, &text)?;
            guest.call::<_, ()>("configure", (place.at, text.len() as i32))?;
        }
        Ok(guest)
    }

    fn running(&self, weights: &Tensors, ctx: &SiteContext<'_>) -> Result<Running> {
        let compiled = ctx.block_on(self.open())?;
        let declared = model_of(&compiled.declared)?.clone();
        let params = ctx.block_on(Weights::from_tensors(weights))?.to_vars()?;
        Ok(Running::new(declared, params, self.guest(&compiled, ctx.seed())?))
    }
}

#[source]
impl FederatedModel for SandboxedModel {
    fn initial(&self, _num_classes: usize, seed: u64) -> Result<Tensors> {
        let compiled = tokio::runtime::Handle::current().block_on(self.open())?;
        let declared = model_of(&compiled.declared)?.clone();
        let mut guest = self.guest(&compiled, seed)?;
        let size = declared.size().unwrap_or_default();
        let place = guest.place(size * 4)?;
        guest.call::<_, ()>("initial", (seed.cast_signed(), place.at))?;
        let numbers = guest.numbers(place, "initial")?;
        weights_of(&declared, &numbers)?.to_tensors()
    }

    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let table = rows_of(ctx)?;
        let running = self.running(&weights, ctx)?;
        running.check(&table)?;
        let samples = table.rows() as u64;
        let mut metrics = BTreeMap::new();
        if !table.is_empty() {
            let start = running.weights()?;
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
            let done = training.run(&running, &table, optimizer, &mut optimizer.init(), |_| {
                ctx.check_abort()?;
                ctx.beat();
                go_on()
            })?;
            metrics.extend(done.final_loss().map(|loss| ("loss".to_owned(), loss)));
        }
        let weights = running.weights()?.to_tensors()?;
        Ok(Trained { weights, samples, metrics })
    }

    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested> {
        let table = rows_of(ctx)?;
        let running = self.running(&weights, ctx)?;
        running.check(&table)?;
        if table.is_empty() {
            return Ok(Tested::default());
        }
        let scores = running.scores(&table)?;
        let mut metrics = scores.metrics;
        metrics.insert("loss".to_owned(), scores.loss);
        Ok(Tested { samples: table.rows() as u64, metrics })
    }

    /// The tensor `outputs` of shape (rows, outputs).
    fn predict(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tensors> {
        let table = rows_of(ctx)?;
        let running = self.running(&weights, ctx)?;
        running.check(&table)?;
        let outputs = running.outputs(&table)?;
        Tensors::new().with("outputs", &[table.rows(), running.outputs_of_row()], &outputs)
    }

    fn carried_code(&self) -> Option<CarriedCode> {
        // An optimizer of somebody's own runs beside the guest: the model is custom code then.
        let optimizer = self.optimizer.as_deref().map(Optimizer::typetag_name);
        if optimizer.is_some_and(|name| !OPTIMIZERS.contains(&name)) {
            return None;
        }
        Some(CarriedCode { digest: self.digest, about: self.about.clone() })
    }
}

/// What a module declares as a model.
fn model_of(declared: &Declared) -> Result<&DeclaredModel> {
    declared
        .model
        .as_ref()
        .ok_or_else(|| Error::invalid(format!("the module `{}` declares no model", declared.name)))
}

fn rows_of(ctx: &SiteContext<'_>) -> Result<Arc<Table>> {
    ctx.block_on(ctx.data_as::<TableData>()?.table().get())
}

/// The optimizers of this library.
const OPTIMIZERS: [&str; 2] = ["candle.Sgd", "candle.AdamW"];
