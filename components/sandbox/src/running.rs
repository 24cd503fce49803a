//! A guest in the training loop: parameters and batches go in, losses and gradients come out.

use crate::{
    declared::{DeclaredModel, Labels},
    guest::{Guest, Place},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use superduper::prelude::*;
use superduper_candle::{
    Array, Batch, CandleError, Device, Mode, Model, Scores, Table, Tensor, Var, Weights, metrics,
};

/// Parameters by name, from their numbers in order.
pub(crate) fn weights_of(declared: &DeclaredModel, numbers: &[f32]) -> Result<Weights> {
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
pub(crate) struct Running {
    declared: DeclaredModel,
    params: BTreeMap<String, Var>,
    room: Mutex<Room>,
}

impl Running {
    pub(crate) fn new(
        declared: DeclaredModel,
        params: BTreeMap<String, Var>,
        guest: Guest,
    ) -> Self {
        let room = Mutex::new(Room { guest, batch: 0, places: None });
        Running { declared, params, room }
    }

    /// How many outputs a row has.
    pub(crate) fn outputs_of_row(&self) -> usize {
        self.declared.outputs
    }

    /// The parameters as they are.
    pub(crate) fn weights(&self) -> Result<Weights> {
        Weights::of(&self.params)
    }

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

    /// The outputs of all rows of a table.
    pub(crate) fn outputs(&self, table: &Table) -> Result<Vec<f32>> {
        let (rows, each) = (table.rows(), self.declared.outputs);
        let bytes = rows.checked_mul(each.saturating_mul(4));
        let most = self.room().guest.most_output();
        if bytes.is_none_or(|bytes| bytes > most) {
            return Err(Error::invalid(format!(
                "{each} outputs for {rows} rows are more than {most} bytes, which is the limit"
            )));
        }
        let mut outputs = Vec::new();
        for batch in batches(table) {
            outputs.extend(self.forward(&table.batch(&batch)?, batch.len())?);
        }
        Ok(outputs)
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
                None => Tensor::new(loss, &Device::Cpu),
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
        let (outputs, each) = (self.outputs(table)?, self.declared.outputs);
        if let Some(targets) = table.targets() {
            let first: Vec<f32> = outputs.iter().step_by(each).copied().collect();
            let loss = metrics::mean_squared_error(&first, targets)?;
            return Ok(Scores { loss, metrics: BTreeMap::new() });
        }
        let logits = Tensor::from_vec(outputs, (table.rows(), each), &Device::Cpu);
        let (logits, labels) = (logits.map_err(Error::other)?, table.labels());
        // Not `evaluate`: its confusion matrix is as large as the square of what a guest declares.
        let loss = metrics::cross_entropy(&logits, labels)?;
        let accuracy = metrics::accuracy(&metrics::most_likely(&logits)?, labels)?;
        Ok(Scores { loss, metrics: BTreeMap::from([("accuracy".to_owned(), accuracy)]) })
    }
}
