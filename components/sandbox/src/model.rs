//! A model whose code is a guest: it is trained over sites as a native one.

use crate::{
    declared::{Declared, DeclaredModel, Labels},
    engine::{Compiled, compiled},
    guest::{Guest, Place},
    limits::Limits,
};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use superduper::{Digest, prelude::*};
use superduper_candle::{
    Anchor, Array, Batch, CandleError, Mode, Model, Optimizer, Scores, Sgd, Table, Tensor,
    TrainLoop, Var, Weights, go_on,
};
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
        let guest = self.guest(&compiled, ctx.seed())?;
        let room = Mutex::new(Room { guest, batch: 0, places: None });
        Ok(Running { declared, params, room })
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
            let start = Weights::of(&running.params)?;
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
        let weights = Weights::of(&running.params)?.to_tensors()?;
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
        let bytes = table.rows().checked_mul(running.declared.outputs.saturating_mul(4));
        let most = self.limits.within_process().output;
        if bytes.is_none_or(|bytes| bytes > most) {
            return Err(Error::invalid(format!(
                "{} outputs for {} rows are more than {most} bytes, which is the limit",
                running.declared.outputs,
                table.rows()
            )));
        }
        let mut outputs = Vec::new();
        for batch in batches(&table) {
            outputs.extend(running.forward(&table.batch(&batch)?, batch.len())?);
        }
        Tensors::new().with("outputs", &[table.rows(), running.declared.outputs], &outputs)
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

/// Parameters by name, from their numbers in order.
fn weights_of(declared: &DeclaredModel, numbers: &[f32]) -> Result<Weights> {
    let (mut weights, mut at) = (Weights::new(), 0);
    for tensor in &declared.parameters {
        let size = tensor.size().unwrap_or_default();
        let values = numbers
            .get(at..at + size)
            .ok_or_else(|| Error::internal("a guest has fewer parameters than it declares"))?;
        weights.insert(&tensor.name, Array::new(tensor.shape.clone(), values.to_vec())?);
        at += size;
    }
    Ok(weights)
}

/// The optimizers of this library.
const OPTIMIZERS: [&str; 2] = ["candle.Sgd", "candle.AdamW"];

/// So many rows are evaluated at once.
const ROWS: usize = 256;

/// The rows of a table in batches, in their order.
fn batches(table: &Table) -> impl Iterator<Item = Vec<usize>> {
    let rows = table.rows();
    (0..rows).step_by(ROWS).map(move |from| (from..rows.min(from + ROWS)).collect())
}

/// A guest, and the places of a batch in its memory.
struct Room {
    guest: Guest,
    /// For how many rows the places are.
    batch: usize,
    places: Option<Places>,
}

#[derive(Clone, Copy)]
struct Places {
    parameters: Place,
    features: Place,
    labels: Place,
    gradients: Place,
    outputs: Place,
}

/// A guest with its parameters, for the training loop.
struct Running {
    declared: DeclaredModel,
    params: BTreeMap<String, Var>,
    room: Mutex<Room>,
}

impl Running {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places for so many rows: those of before, if they are large enough.
    fn places(&self, room: &mut Room, rows: usize) -> Result<Places> {
        if let Some(places) = room.places.filter(|_| room.batch >= rows) {
            return Ok(places);
        }
        let (size, guest) = (self.declared.size().unwrap_or_default(), &mut room.guest);
        let bytes = |numbers: usize| numbers.saturating_mul(4);
        let places = Places {
            parameters: guest.place(bytes(size))?,
            features: guest.place(bytes(rows.saturating_mul(self.declared.features)))?,
            labels: guest.place(bytes(rows))?,
            gradients: guest.place(bytes(size))?,
            outputs: guest.place(bytes(rows.saturating_mul(self.declared.outputs)))?,
        };
        (room.batch, room.places) = (rows, Some(places));
        Ok(places)
    }

    /// Write parameters and features of a batch.
    fn bring(&self, room: &mut Room, batch: &Batch, rows: usize) -> Result<Places> {
        let places = self.places(room, rows)?;
        let mut bytes = Vec::with_capacity(self.declared.size().unwrap_or_default() * 4);
        for tensor in &self.declared.parameters {
            let var = self.params.get(&tensor.name).ok_or_else(|| {
                Error::invalid(format!("there are no values for parameter `{}`", tensor.name))
            })?;
            push(&mut bytes, Array::of(var)?.data());
        }
        room.guest.write(places.parameters, &bytes)?;
        bytes.clear();
        push(&mut bytes, Array::of(&batch.features)?.data());
        room.guest.write(places.features, &bytes)?;
        Ok(places)
    }

    /// Loss and gradients of a batch.
    fn step(&self, batch: &Batch) -> Result<(f32, Vec<f32>)> {
        let rows = batch.labels.dims().first().copied().unwrap_or_default();
        let mut room = self.room();
        let places = self.bring(&mut room, batch, rows)?;
        let mut bytes = Vec::with_capacity(rows * 4);
        match self.declared.labels {
            Labels::Classes => {
                let labels = Array::of_integers(&batch.labels)?;
                let labels = labels.data().iter().map(|label| *label as u32);
                labels.for_each(|label| bytes.extend_from_slice(&label.to_le_bytes()));
            }
            Labels::Values => push(&mut bytes, Array::of(&batch.labels)?.data()),
        }
        room.guest.write(places.labels, &bytes)?;
        let rows = rows as i32;
        let at = (places.parameters.at, places.features.at, places.labels.at, rows);
        let loss: f32 = room.guest.call("step", (at.0, at.1, at.2, at.3, places.gradients.at))?;
        if !loss.is_finite() {
            return Err(
                Error::new(ErrorKind::User, format!("`step` gives the loss {loss}")).fatal()
            );
        }
        Ok((loss, room.guest.numbers(places.gradients, "step")?))
    }

    /// The outputs of a batch.
    fn forward(&self, batch: &Batch, rows: usize) -> Result<Vec<f32>> {
        let mut room = self.room();
        let places = self.bring(&mut room, batch, rows)?;
        let outputs = places.outputs;
        let at = (places.parameters.at, places.features.at, rows as i32, outputs.at);
        room.guest.call::<_, ()>("forward", at)?;
        let mut outputs = room.guest.numbers(outputs, "forward")?;
        outputs.truncate(rows * self.declared.outputs);
        Ok(outputs)
    }
}

fn push(bytes: &mut Vec<u8>, numbers: &[f32]) {
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
}

impl Model for Running {
    fn params(&self) -> &BTreeMap<String, Var> {
        &self.params
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let (loss, gradients) = self.step(batch)?;
        let weights = weights_of(&self.declared, &gradients)?;
        // A sum whose gradients are those of the guest, and whose value is the guest's loss.
        let sum = || -> std::result::Result<Tensor, CandleError> {
            let mut sum: Option<Tensor> = None;
            for (name, gradient) in weights.iter() {
                let Some(var) = self.params.get(name) else { continue };
                let gradient = Tensor::from_slice(gradient.data(), var.shape(), var.device())?;
                let term = (var.as_tensor() * gradient)?.sum_all()?;
                sum = Some(match sum {
                    Some(sum) => (sum + term)?,
                    None => term,
                });
            }
            match sum {
                Some(sum) => {
                    let value = sum.detach();
                    (sum - value)? + f64::from(loss)
                }
                None => Tensor::new(loss, &superduper_candle::Device::Cpu),
            }
        };
        sum().map_err(Error::other)
    }

    fn loss_in(&self, batch: &Batch, _: Mode) -> Result<Tensor> {
        self.loss(batch)
    }

    fn check(&self, table: &Table) -> Result<()> {
        if table.width() != self.declared.features {
            return Err(Error::invalid(format!(
                "the rows have {} features, the guest needs {}",
                table.width(),
                self.declared.features
            )));
        }
        let has_classes = table.targets().is_none();
        if has_classes != (self.declared.labels == Labels::Classes) {
            return Err(Error::invalid(
                "the guest needs rows with other labels: classes or values",
            ));
        }
        let outputs = self.declared.outputs;
        match table.labels().iter().find(|label| **label as usize >= outputs) {
            Some(label) => Err(Error::invalid(format!(
                "a row has the class {label}, but the guest has {outputs} outputs"
            ))),
            None => Ok(()),
        }
    }

    fn scores(&self, table: &Table) -> Result<Scores> {
        let (mut loss, mut right) = (0.0, 0_usize);
        let outputs_of_row = self.declared.outputs;
        for rows in batches(table) {
            let batch = table.batch(&rows)?;
            let outputs = self.forward(&batch, rows.len())?;
            for (row, outputs) in rows.iter().zip(outputs.chunks(outputs_of_row)) {
                match table.targets() {
                    Some(targets) => loss += f64::from(outputs[0] - targets[*row]).powi(2),
                    None => {
                        let label = table.labels()[*row] as usize;
                        loss += cross_entropy(outputs, label);
                        right += usize::from(best(outputs) == label);
                    }
                }
            }
        }
        let rows = table.rows() as f64;
        let mut metrics = BTreeMap::new();
        if table.targets().is_none() {
            metrics.insert("accuracy".to_owned(), right as f64 / rows);
        }
        Ok(Scores { loss: loss / rows, metrics })
    }
}

/// The cross entropy of logits, in nats.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(logits[label] - largest)
}

/// The place of the largest output; the first one of equal ones.
fn best(outputs: &[f32]) -> usize {
    let mut best = 0;
    for (place, output) in outputs.iter().enumerate() {
        if *output > outputs[best] {
            best = place;
        }
    }
    best
}
