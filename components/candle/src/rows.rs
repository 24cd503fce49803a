//! Rows of features on their way into a model.

use candle_core::{Device, Tensor};
use superduper::{Error, Result, ResultExt};

/// Refuse rows of another width, and features that are NaN or infinite, whose prediction would be too.
pub(crate) fn check_features(rows: &[impl AsRef<[f32]>], inputs: usize) -> Result<()> {
    for (index, row) in rows.iter().map(AsRef::as_ref).enumerate() {
        if row.len() != inputs {
            return Err(Error::invalid(format!(
                "row {index} has {} features, the model needs {inputs}",
                row.len()
            )));
        }
        if let Some(column) = row.iter().position(|value| !value.is_finite()) {
            return Err(Error::invalid(format!(
                "row {index}, column {column} is {}, not a finite number",
                row[column]
            )));
        }
    }
    Ok(())
}

/// Rows of features as a tensor of shape `[rows, inputs]`.
pub(crate) fn features(rows: &[impl AsRef<[f32]>], inputs: usize) -> Result<Tensor> {
    let mut features = Vec::with_capacity(rows.len() * inputs);
    rows.iter().for_each(|row| features.extend_from_slice(row.as_ref()));
    Tensor::from_vec(features, (rows.len(), inputs), &Device::Cpu).context("features")
}

/// The only one of a batch of one row.
pub(crate) fn only<T: Copy>(results: &[T]) -> Result<T> {
    results.first().copied().ok_or_else(|| Error::internal("no result for a row"))
}
