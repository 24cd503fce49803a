//! Labelled rows, their order and their batches.
//!
//! A [`Table`] is plain data that is checked once, when it is made: each row has the same width,
//! each row has a class or a value to predict, each value is finite. The order of the rows of an
//! epoch depends on nothing but their number, the seed and the epoch, so a training can start again
//! at any step.

use crate::Rng;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use superduper::{Error, Result, ResultExt};

/// Rows of features, each with the class it belongs to, or with a value to predict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Table {
    width: usize,
    features: Vec<f32>,
    /// Empty where there are targets.
    labels: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    targets: Option<Vec<f32>>,
}

/// A [`Table`] as it is read, before it is checked.
#[derive(Deserialize)]
struct Unchecked {
    width: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
    #[serde(default)]
    targets: Option<Vec<f32>>,
}

impl TryFrom<Unchecked> for Table {
    type Error = Error;
    fn try_from(read: Unchecked) -> Result<Self> {
        match read.targets {
            Some(targets) if read.labels.is_empty() => {
                Table::of_values(read.width, read.features, targets)
            }
            Some(_) => Err(Error::invalid("a table has classes or values to predict, not both")),
            None => Table::new(read.width, read.features, read.labels),
        }
    }
}

/// What one step of training sees.
#[derive(Debug, Clone)]
pub struct Batch {
    /// f32, shape `[rows, width]`.
    pub features: Tensor,
    /// Shape `[rows]`: the class of each row as u32, or the value to predict as f32.
    pub labels: Tensor,
}

impl Table {
    /// Make a table of `width` features per row, given row after row, and one label per row.
    ///
    /// # Errors
    /// `InvalidInput` where the lengths do not fit together, or for a value that is not finite,
    /// with its place.
    pub fn new(width: usize, features: Vec<f32>, labels: Vec<u32>) -> Result<Self> {
        check(width, &features, labels.len(), "labels")?;
        Ok(Table { width, features, labels, targets: None })
    }

    /// Make a table of `width` features per row, given row after row, and one value to predict per
    /// row.
    ///
    /// # Errors
    /// Those of [`Table::new`].
    pub fn of_values(width: usize, features: Vec<f32>, values: Vec<f32>) -> Result<Self> {
        check(width, &features, values.len(), "values to predict")?;
        if let Some(row) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::invalid(format!(
                "the value to predict of row {row} is {}, not a finite number",
                values[row]
            )));
        }
        Ok(Table { width, features, labels: Vec::new(), targets: Some(values) })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.features.len() / self.width
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// The number of features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The class of each row; none where the rows have values to predict.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The value to predict of each row; `None` where the rows have classes.
    pub fn targets(&self) -> Option<&[f32]> {
        self.targets.as_deref()
    }

    /// The features of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.features[index * self.width..(index + 1) * self.width]
    }

    /// The features of consecutive rows as a tensor.
    pub(crate) fn features_of(&self, rows: Range<usize>) -> Result<Tensor> {
        let shape = (rows.len(), self.width);
        Tensor::from_slice(
            &self.features[rows.start * self.width..rows.end * self.width],
            shape,
            &Device::Cpu,
        )
        .context(format_args!("features of shape {shape:?}"))
    }

    /// All rows, in chunks that are large enough to be fast and small enough for the memory of a
    /// convolution.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let (rows, length) = (self.rows(), chunk_rows(self.width));
        (0..rows).step_by(length).map(move |from| from..rows.min(from + length))
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.features
    }

    /// All features as a tensor: f32, shape `[rows, width]`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn features(&self) -> Result<Tensor> {
        self.features_of(0..self.rows())
    }

    /// Multiply each feature, for instance by 1/16 for pixels from 0 to 16.
    ///
    /// # Errors
    /// `InvalidInput` for a factor with which a feature is not finite any more.
    pub fn scaled(mut self, factor: f32) -> Result<Self> {
        self.features.iter_mut().for_each(|value| *value *= factor);
        match self.features.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (row, column) = (at / self.width, at % self.width);
                Err(Error::invalid(format!(
                    "row {row}, column {column} is {} when multiplied by {factor}",
                    self.features[at]
                )))
            }
            None => Ok(self),
        }
    }

    /// The rows of these indices, in their order.
    ///
    /// # Errors
    /// `InvalidInput` for an index beyond the last row.
    pub fn select(&self, indices: &[usize]) -> Result<Table> {
        self.check_rows(indices)?;
        let labels = if self.targets.is_none() { pick(&self.labels, indices) } else { Vec::new() };
        let targets = self.targets.as_deref().map(|targets| pick(targets, indices));
        Ok(Table { width: self.width, features: self.gather(indices), labels, targets })
    }

    /// The rows of these indices as tensors.
    ///
    /// # Errors
    /// `InvalidInput` for an index beyond the last row.
    pub fn batch(&self, indices: &[usize]) -> Result<Batch> {
        self.check_rows(indices)?;
        let rows = indices.len();
        let tensors = || {
            let labels = match &self.targets {
                Some(targets) => Tensor::from_vec(pick(targets, indices), rows, &Device::Cpu)?,
                None => Tensor::from_vec(pick(&self.labels, indices), rows, &Device::Cpu)?,
            };
            Ok(Batch {
                features: Tensor::from_vec(self.gather(indices), (rows, self.width), &Device::Cpu)?,
                labels,
            })
        };
        tensors().map_err(|error: candle_core::Error| {
            Error::internal(format!("batch of shape [{rows}, {}]", self.width)).with_source(error)
        })
    }

    /// Part the rows at random into those to train on and those held out, in this order.
    ///
    /// `held_out` is the part of the rows held out, from 0 to 1; their number is rounded to the
    /// nearest integer. Classes are not balanced.
    ///
    /// # Errors
    /// `InvalidInput` where `held_out` is not from 0 to 1.
    pub fn split(&self, seed: u64, held_out: f64) -> Result<(Table, Table)> {
        self.split_named(seed, "split", held_out)
    }

    /// Part the rows as [`split`](Table::split) does, independently of the splits of other names.
    /// The components of this crate take the rows to validate on by the name `validation`.
    ///
    /// # Errors
    /// Those of [`split`](Table::split).
    pub fn split_named(&self, seed: u64, name: &str, held_out: f64) -> Result<(Table, Table)> {
        if !(0.0..=1.0).contains(&held_out) {
            return Err(Error::invalid(format!(
                "the part held out must be from 0 to 1, not {held_out}"
            )));
        }
        let mut indices: Vec<usize> = (0..self.rows()).collect();
        Rng::named(seed, name).shuffle(&mut indices);
        let (test, train) = indices.split_at((held_out * self.rows() as f64).round() as usize);
        Ok((self.select(train)?, self.select(test)?))
    }

    fn check_rows(&self, indices: &[usize]) -> Result<()> {
        match indices.iter().find(|index| **index >= self.rows()) {
            Some(index) => {
                Err(Error::invalid(format!("no row {index} in a table of {} rows", self.rows())))
            }
            None => Ok(()),
        }
    }

    fn gather(&self, indices: &[usize]) -> Vec<f32> {
        let mut features = Vec::with_capacity(indices.len() * self.width);
        indices.iter().for_each(|index| features.extend_from_slice(self.row(*index)));
        features
    }
}

/// How many rows of a width are predicted at once: enough to be fast, and few enough for the memory
/// of a convolution.
pub(crate) fn chunk_rows(width: usize) -> usize {
    ((1 << 20) / width.max(1)).clamp(8, 1024)
}

fn pick<T: Copy>(of: &[T], indices: &[usize]) -> Vec<T> {
    indices.iter().map(|index| of[*index]).collect()
}

/// Refuse features that do not fill `[rows, width]`; `what` each row has one of.
fn check(width: usize, features: &[f32], rows: usize, what: &str) -> Result<()> {
    if width == 0 {
        return Err(Error::invalid("a table needs at least one feature per row"));
    }
    if width.checked_mul(rows) != Some(features.len()) {
        let values = features.len();
        return Err(Error::invalid(format!(
            "{values} values of features do not fill the shape [{rows}, {width}] of {rows} {what}"
        )));
    }
    match features.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Error::invalid(format!(
            "row {}, column {} is {}, not a finite number",
            at / width,
            at % width,
            features[at]
        ))),
        None => Ok(()),
    }
}

/// The order of `rows` rows in an epoch: a permutation of `0..rows`.
pub fn order(rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..rows).collect();
    Rng::named(seed, &format!("epoch {epoch}")).shuffle(&mut indices);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(rows: u32) -> Table {
        let features = (0..rows).flat_map(|row| [row as f32, -(row as f32)]).collect();
        Table::new(2, features, (0..rows).collect()).unwrap()
    }

    #[test]
    fn order_is_a_permutation_of_its_own_per_seed_and_epoch() {
        for rows in [0, 1, 2, 97] {
            let mut sorted = order(rows, 5, 2);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..rows).collect::<Vec<_>>());
        }
        assert_eq!(order(97, 5, 2), order(97, 5, 2));
        assert_ne!(order(97, 5, 2), order(97, 5, 3));
        assert_ne!(order(97, 5, 2), order(97, 6, 2));
    }

    #[test]
    fn split_keeps_each_row_once_with_its_label() -> Result<()> {
        let (train, test) = numbered(50).split(1, 0.2)?;
        assert_eq!((train.rows(), test.rows()), (40, 10));
        let mut labels = [train.labels(), test.labels()].concat();
        labels.sort_unstable();
        assert_eq!(labels, (0..50).collect::<Vec<_>>());
        for index in 0..train.rows() {
            let label = train.labels()[index] as f32;
            assert_eq!(train.row(index), [label, -label]);
        }
        assert_eq!(numbered(50).split(1, 0.2)?, (train, test));
        assert!(numbered(5).split(1, 1.5).is_err());
        assert_eq!(numbered(5).split(1, 0.0)?.1.rows(), 0);
        Ok(())
    }

    #[test]
    fn batch_has_the_rows_asked_for() -> Result<()> {
        let batch = numbered(5).batch(&[3, 1])?;
        assert_eq!(batch.features.to_vec2::<f32>().unwrap(), [[3.0, -3.0], [1.0, -1.0]]);
        assert_eq!(batch.labels.to_vec1::<u32>().unwrap(), [3, 1]);
        assert_eq!(
            numbered(5).batch(&[5]).unwrap_err().to_string(),
            "no row 5 in a table of 5 rows"
        );
        Ok(())
    }

    #[test]
    fn rows_keep_their_values_to_predict() -> Result<()> {
        let table = Table::of_values(1, vec![1.0, 2.0, 3.0], vec![10.0, 20.0, 30.0])?;
        assert_eq!(
            (table.rows(), table.labels(), table.targets()),
            (3, [].as_slice(), Some([10.0, 20.0, 30.0].as_slice()))
        );
        assert_eq!(table.select(&[2, 0])?.targets(), Some([30.0, 10.0].as_slice()));
        assert_eq!(table.batch(&[1])?.labels.to_vec1::<f32>().unwrap(), [20.0]);
        assert_eq!(serde_json::from_str::<Table>(&serde_json::to_string(&table)?)?, table);
        let error = Table::of_values(1, vec![1.0], vec![f32::INFINITY]).unwrap_err();
        assert_eq!(error.to_string(), "the value to predict of row 0 is inf, not a finite number");
        assert!(
            serde_json::from_str::<Table>(
                r#"{"width":1,"features":[1.0],"labels":[0],"targets":[1.0]}"#
            )
            .is_err()
        );
        Ok(())
    }

    #[test]
    fn bad_tables_are_refused_with_the_place() {
        let refused =
            |width, features, labels| Table::new(width, features, labels).unwrap_err().to_string();
        assert_eq!(
            refused(2, vec![0.0; 5], vec![0; 3]),
            "5 values of features do not fill the shape [3, 2] of 3 labels"
        );
        assert_eq!(
            refused(2, vec![0.0, 0.0, 0.0, f32::NAN], vec![0; 2]),
            "row 1, column 1 is NaN, not a finite number"
        );
        assert!(
            serde_json::from_str::<Table>(r#"{"width":2,"features":[1.0],"labels":[0]}"#).is_err()
        );
    }
}
