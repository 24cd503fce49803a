//! Labelled rows, their order and their batches.
//!
//! A [`Table`] is plain data that is checked once, when it is made: each row has the same width, each
//! row has a label, each value is finite. The order of the rows of an epoch depends on nothing but
//! their number, the seed and the epoch, so a training can start again at any step.

use crate::rng::Rng;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use superduper::{Error, Result, ResultExt};

/// Rows of features, each with the class it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Table {
    width: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
}

/// A [`Table`] as it is read, before it is checked.
#[derive(Deserialize)]
struct Unchecked {
    width: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
}

impl TryFrom<Unchecked> for Table {
    type Error = Error;
    fn try_from(read: Unchecked) -> Result<Self> {
        Table::new(read.width, read.features, read.labels)
    }
}

/// What one step of training sees.
#[derive(Debug, Clone)]
pub struct Batch {
    /// f32, shape `[rows, width]`.
    pub features: Tensor,
    /// u32, shape `[rows]`: the class of each row.
    pub labels: Tensor,
}

impl Table {
    /// Make a table of `width` features per row, given row after row, and one label per row.
    ///
    /// # Errors
    /// `InvalidInput` where the lengths do not fit together, or for a value that is not finite, with its place.
    pub fn new(width: usize, features: Vec<f32>, labels: Vec<u32>) -> Result<Self> {
        if width == 0 {
            return Err(Error::invalid("a table needs at least one feature per row"));
        }
        if width.checked_mul(labels.len()) != Some(features.len()) {
            return Err(Error::invalid(format!(
                "{} values of features do not fill the shape [{}, {width}] of {} labels",
                features.len(),
                labels.len(),
                labels.len()
            )));
        }
        if let Some(at) = features.iter().position(|value| !value.is_finite()) {
            return Err(Error::invalid(format!("row {}, column {} is {}, not a finite number", at / width, at % width, features[at])));
        }
        Ok(Table { width, features, labels })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The class of each row.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The features of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.features[index * self.width..(index + 1) * self.width]
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.features
    }

    /// All features as a tensor: f32, shape `[rows, width]`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn features(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.features, (self.rows(), self.width), &Device::Cpu).context(format_args!(
            "features of shape [{}, {}]",
            self.rows(),
            self.width
        ))
    }

    /// Multiply each feature, for instance by 1/16 for pixels from 0 to 16.
    #[must_use]
    pub fn scaled(mut self, factor: f32) -> Self {
        self.features.iter_mut().for_each(|value| *value *= factor);
        self
    }

    /// The rows of these indices, in their order.
    ///
    /// # Errors
    /// `InvalidInput` for an index beyond the last row.
    pub fn select(&self, indices: &[usize]) -> Result<Table> {
        let (features, labels) = self.gather(indices)?;
        Ok(Table { width: self.width, features, labels })
    }

    /// The rows of these indices as tensors.
    ///
    /// # Errors
    /// `InvalidInput` for an index beyond the last row.
    pub fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let (features, labels) = self.gather(indices)?;
        let tensors = || {
            Ok(Batch {
                features: Tensor::from_vec(features, (indices.len(), self.width), &Device::Cpu)?,
                labels: Tensor::from_vec(labels, indices.len(), &Device::Cpu)?,
            })
        };
        tensors().map_err(|error: candle_core::Error| {
            Error::internal(format!("batch of shape [{}, {}]", indices.len(), self.width)).with_source(error)
        })
    }

    /// Part the rows at random into those to train on and those held out, in this order.
    ///
    /// `held_out` is the part of the rows held out, from 0 to 1; their number is rounded to the nearest
    /// integer. Classes are not balanced.
    ///
    /// # Errors
    /// `InvalidInput` where `held_out` is not from 0 to 1.
    pub fn split(&self, seed: u64, held_out: f64) -> Result<(Table, Table)> {
        if !(0.0..=1.0).contains(&held_out) {
            return Err(Error::invalid(format!("the part held out must be from 0 to 1, not {held_out}")));
        }
        let mut indices: Vec<usize> = (0..self.rows()).collect();
        Rng::named(seed, "split").shuffle(&mut indices);
        let (test, train) = indices.split_at((held_out * self.rows() as f64).round() as usize);
        Ok((self.select(train)?, self.select(test)?))
    }

    fn gather(&self, indices: &[usize]) -> Result<(Vec<f32>, Vec<u32>)> {
        let mut features = Vec::with_capacity(indices.len() * self.width);
        let mut labels = Vec::with_capacity(indices.len());
        for &index in indices {
            let label =
                self.labels.get(index).ok_or_else(|| Error::invalid(format!("no row {index} in a table of {} rows", self.rows())))?;
            labels.push(*label);
            features.extend_from_slice(self.row(index));
        }
        Ok((features, labels))
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
        assert_eq!(numbered(5).batch(&[5]).unwrap_err().to_string(), "no row 5 in a table of 5 rows");
        Ok(())
    }

    #[test]
    fn bad_tables_are_refused_with_the_place() {
        let refused = |width, features, labels| Table::new(width, features, labels).unwrap_err().to_string();
        assert_eq!(refused(2, vec![0.0; 5], vec![0; 3]), "5 values of features do not fill the shape [3, 2] of 3 labels");
        assert_eq!(refused(2, vec![0.0, 0.0, 0.0, f32::NAN], vec![0; 2]), "row 1, column 1 is NaN, not a finite number");
        assert!(serde_json::from_str::<Table>(r#"{"width":2,"features":[1.0],"labels":[0]}"#).is_err());
    }
}
