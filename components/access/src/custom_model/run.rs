//! What a site and the coordinator do with a custom model.

use super::CustomModel;
use std::{collections::BTreeMap, sync::Arc};
use superduper::{Error, Result, Tensors};
use superduper_candle::{
    Anchor, Batch, Mode, Model, Scores, Table, Tensor, TrainLoop, Var, Weights, go_on,
};
use superduper_federated::{SiteContext, Tested, Trained, candle::TableData};

/// A custom model with its parameters, for the training loop.
struct Running<'a, M> {
    model: &'a M,
    params: BTreeMap<String, Var>,
}

impl<M: CustomModel> Model for Running<'_, M> {
    fn params(&self) -> &BTreeMap<String, Var> {
        &self.params
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.model.forward(&self.params, batch, Mode::Eval)?.loss)
    }

    fn loss_in(&self, batch: &Batch, mode: Mode) -> Result<Tensor> {
        self.model.training_step(&self.params, batch, mode)
    }

    fn scores(&self, table: &Table) -> Result<Scores> {
        let step = |batch: &Batch| self.model.validation_step(&self.params, batch);
        let mut metrics = means(table, table.rows(), step)?;
        let loss = metrics.remove("loss").ok_or_else(|| {
            Error::invalid(format!("`validation_step` of `{}` gives no `loss`", M::__kind()))
        })?;
        Ok(Scores { loss, metrics })
    }
}

/// The parameters before the first round.
///
/// # Errors
/// `InvalidInput` where no site says which shape its rows have; those of the model.
pub fn initial<M: CustomModel>(
    model: &M,
    input: &[usize],
    classes: usize,
    seed: u64,
) -> Result<Tensors> {
    if input.is_empty() {
        let text = format!("the shape of the input of `{}` is not known", M::__kind());
        return Err(Error::invalid(text)
            .with_hint("train over sites whose data is a `TableData`, or says its `input_shape`"));
    }
    model.construct()?;
    model.create_model(input, classes, seed)?.to_tensors()
}

/// Train from these weights on the rows of a site.
///
/// # Errors
/// Those of the model; `InvalidInput` for data that is no table, and for settings that do not fit.
pub fn train<M: CustomModel>(
    model: &M,
    weights: &Tensors,
    ctx: &mut SiteContext<'_>,
) -> Result<Trained> {
    let table = rows_of(ctx)?;
    model.construct()?;
    let running = running(model, weights, ctx)?;
    let samples = table.rows() as u64;
    let as_they_are = |running: Running<'_, M>, metrics| {
        let weights = Weights::of(&running.params)?.to_tensors()?;
        Ok(Trained { weights, samples, metrics })
    };
    if table.is_empty() {
        return as_they_are(running, BTreeMap::new());
    }
    let (learn, validate) = held_back(&table, ctx)?;
    let optimizer = model.configure_optimizers()?;
    let start = Weights::of(&running.params)?;
    let mu = ctx.client().proximal_mu;
    let training = TrainLoop {
        epochs: ctx.arg("local_epochs")?,
        batch: ctx.arg("batch_size")?,
        seed: ctx.seed(),
        anchor: (mu > 0.0).then_some(Anchor { mu, weights: &start }),
        ..TrainLoop::default()
    };
    let mut metrics = BTreeMap::new();
    let done = training.run(&running, &learn, &*optimizer, &mut optimizer.init(), |step| {
        ctx.check_abort()?;
        ctx.beat();
        if let (true, Some(rows)) = (step.epoch_done, &validate) {
            let scores = running.scores(rows)?;
            metrics.insert("validation_loss".to_owned(), scores.loss);
            let named = scores.metrics.into_iter();
            metrics.extend(named.map(|(name, value)| (format!("validation_{name}"), value)));
        }
        go_on()
    })?;
    metrics.extend(done.final_loss().map(|loss| ("loss".to_owned(), loss)));
    as_they_are(running, metrics)
}

/// Test these weights on the rows of a site.
///
/// # Errors
/// As for [`train`].
pub fn test<M: CustomModel>(
    model: &M,
    weights: &Tensors,
    ctx: &mut SiteContext<'_>,
) -> Result<Tested> {
    let table = rows_of(ctx)?;
    model.construct()?;
    if table.is_empty() {
        return Ok(Tested::default());
    }
    let running = running(model, weights, ctx)?;
    let step = |batch: &Batch| model.test_step(&running.params, batch);
    let metrics = means(&table, ctx.arg("batch_size")?, step)?;
    Ok(Tested { samples: table.rows() as u64, metrics })
}

/// The tensor `outputs`: what [`CustomModel::forward`] gives for each row.
///
/// # Errors
/// As for [`train`]; `InvalidInput` for outputs without an entry for each row.
pub fn predict<M: CustomModel>(
    model: &M,
    weights: &Tensors,
    ctx: &mut SiteContext<'_>,
) -> Result<Tensors> {
    let table = rows_of(ctx)?;
    model.construct()?;
    let running = running(model, weights, ctx)?;
    let (mut shape, mut values): (Vec<usize>, Vec<f32>) = (vec![0], Vec::new());
    for batch in batches(&table, ctx.arg("batch_size")?) {
        let outputs = model.forward(&running.params, &table.batch(&batch)?, Mode::Eval)?.outputs;
        if outputs.dims().first() != Some(&batch.len()) {
            return Err(Error::invalid(format!(
                "`forward` of `{}` gives outputs of shape {:?} for {} rows",
                M::__kind(),
                outputs.dims(),
                batch.len()
            )));
        }
        let array = superduper_candle::Array::of(&outputs)?;
        shape = array.shape().to_vec();
        values.extend_from_slice(array.data());
    }
    shape[0] = table.rows();
    Tensors::new().with("outputs", &shape, &values)
}

/// The rows of a site.
fn rows_of(ctx: &SiteContext<'_>) -> Result<Arc<Table>> {
    ctx.block_on(ctx.data_as::<TableData>()?.table().get())
}

fn running<'a, M: CustomModel>(
    model: &'a M,
    weights: &Tensors,
    ctx: &SiteContext<'_>,
) -> Result<Running<'a, M>> {
    let params = ctx.block_on(Weights::from_tensors(weights))?.to_vars()?;
    Ok(Running { model, params })
}

/// The rows to learn from, and those that are held back by the setting `validation`.
fn held_back(table: &Arc<Table>, ctx: &SiteContext<'_>) -> Result<(Arc<Table>, Option<Table>)> {
    if !ctx.args().contains_key("validation") {
        return Ok((table.clone(), None));
    }
    let share: f64 = ctx.arg("validation")?;
    if share <= 0.0 || table.rows() < 2 {
        return Ok((table.clone(), None));
    }
    // The same rows in each round: they are never learned.
    let (learn, validate) = table.split(HELD_BACK, share)?;
    match learn.is_empty() || validate.is_empty() {
        true => Ok((table.clone(), None)),
        false => Ok((Arc::new(learn), Some(validate))),
    }
}

/// The seed of the choice of the rows that are held back.
const HELD_BACK: u64 = 1;

/// The rows of a table in batches, in their order.
fn batches(table: &Table, size: usize) -> impl Iterator<Item = Vec<usize>> {
    let (rows, size) = (table.rows(), size.max(1));
    (0..rows).step_by(size).map(move |from| (from..rows.min(from + size)).collect())
}

/// The means of the metrics of batches, weighted by their rows.
fn means(
    table: &Table,
    size: usize,
    step: impl Fn(&Batch) -> Result<BTreeMap<String, f64>>,
) -> Result<BTreeMap<String, f64>> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for batch in batches(table, size.min(1024)) {
        for (name, value) in step(&table.batch(&batch)?)? {
            *sums.entry(name).or_default() += value * batch.len() as f64;
        }
    }
    let rows = table.rows().max(1) as f64;
    Ok(sums.into_iter().map(|(name, sum)| (name, sum / rows)).collect())
}
