//! What all models that classify have in common: their loss, and the tables they can
//! learn.

use crate::data::{Batch, Table};
use candle_core::Tensor;
use superduper::{Error, Result, ResultExt};

/// The mean cross entropy of a batch, in nats.
pub(crate) fn loss(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
    candle_nn::loss::cross_entropy(logits, &batch.labels).context(format_args!(
        "cross entropy of logits {:?} and labels {:?}",
        logits.dims(),
        batch.labels.dims()
    ))
}

/// Refuse a table of another width.
pub(crate) fn check_width(table: &Table, inputs: usize) -> Result<()> {
    if table.width() == inputs {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the table has shape [{}, {}], the model needs [rows, {inputs}]",
        table.rows(),
        table.width()
    )))
}

/// Refuse a table of another width, without classes, or with a class that the model does not know.
pub(crate) fn check(table: &Table, inputs: usize, classes: usize) -> Result<()> {
    check_width(table, inputs)?;
    if table.targets().is_some() {
        return Err(Error::invalid("the table has values to predict, the model needs classes")
            .with_hint("make it with `Table::new`"));
    }
    if let Some(row) = table.labels().iter().position(|label| *label as usize >= classes) {
        return Err(Error::invalid(format!(
            "row {row} is of class {}, the model has classes 0 to {}",
            table.labels()[row],
            classes - 1
        )));
    }
    Ok(())
}
