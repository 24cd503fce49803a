//! Parameters as plain data, by name.
//!
//! [`Weights`] is the form in which parameters and optimizer moments leave and enter a model: it
//! compares, clones and serializes, knows no device and no graph, and keeps its names in order, so
//! that the same weights are always written the same way.

use crate::array::Array;
use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::BTreeMap;
use superduper::{BoxError, Error, Result, ResultExt};

/// Whether a name is that of a buffer: the running statistics of a batch norm, which are part of a
/// model's parameters but which no gradient moves.
///
/// By their names, which are those of PyTorch: `running_mean`, `running_var` and
/// `num_batches_tracked` of a layer.
///
/// ```
/// use superduper_candle::is_buffer;
///
/// assert!(is_buffer("l1_bn.running_mean") && is_buffer("c2_bn.num_batches_tracked"));
/// assert!(!is_buffer("l1_bn.weight") && !is_buffer("l1.bias"));
/// ```
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var") || is_counter(name)
}

/// Whether a name is that of a counter of batches, the only integer that a network has.
pub(crate) fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

/// Named arrays: the parameters of a model or the moments of an optimizer.
///
/// All are f32, but for the counters of batch norms, which are i64 and stand apart: see
/// [`iter_integers`](Weights::iter_integers). A name is of one of both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    arrays: BTreeMap<String, Array>,
    integers: BTreeMap<String, Array<i64>>,
}

impl Weights {
    /// Refuse values that are not finite, of which no prediction can be made.
    pub(crate) fn check_finite(&self) -> Result<()> {
        for (name, array) in self.iter() {
            if let Some(place) = array.data().iter().position(|value| !value.is_finite()) {
                return Err(Error::invalid(format!(
                    "parameter `{name}` has the value {} at place {place}",
                    array.data()[place]
                )));
            }
        }
        Ok(())
    }

    /// No arrays.
    pub fn new() -> Self {
        Weights::default()
    }

    /// Copy the values of a model's parameters.
    ///
    /// # Errors
    /// Those of candle, with the parameter's name.
    pub fn of(params: &BTreeMap<String, Var>) -> Result<Self> {
        let mut weights = Weights::new();
        for (name, var) in params {
            let named = || format!("parameter `{name}`");
            if var.dtype() == DType::I64 {
                let array = Array::of_integers(var).context(named())?;
                weights.integers.insert(name.clone(), array);
            } else {
                weights.arrays.insert(name.clone(), Array::of(var).context(named())?);
            }
        }
        Ok(weights)
    }

    /// Copy into parameters that can be trained.
    ///
    /// # Errors
    /// Those of candle, with the parameter's name.
    pub fn to_vars(&self) -> Result<BTreeMap<String, Var>> {
        let tensors = self.iter().map(|(name, array)| (name, array.to_tensor()));
        let integers = self.iter_integers().map(|(name, array)| (name, array.to_tensor()));
        tensors
            .chain(integers)
            .map(|(name, tensor)| {
                let var = tensor
                    .and_then(|tensor| Ok(Var::from_tensor(&tensor).map_err(BoxError::from)?));
                Ok((name.to_owned(), var.context(format_args!("parameter `{name}`"))?))
            })
            .collect()
    }

    /// Set parameters to these values; a model keeps its `Var`s.
    ///
    /// # Errors
    /// `InvalidInput` where a parameter is missing, too many, or of another shape.
    pub fn assign(&self, params: &BTreeMap<String, Var>) -> Result<()> {
        // All are looked at before the first one is set.
        for (name, var) in params {
            let shape = if var.dtype() == DType::I64 {
                self.get_integers(name).map(Array::shape)
            } else {
                self.get(name).map(Array::shape)
            };
            let found = shape.ok_or_else(|| {
                Error::invalid(format!("there are no values for parameter `{name}`"))
            })?;
            let needed = var.dims();
            if found != needed {
                return Err(Error::invalid(format!(
                    "the values for parameter `{name}` have shape {found:?}, the model needs {needed:?}"
                )));
            }
        }
        if let Some(name) = self.names().find(|name| !params.contains_key(*name)) {
            return Err(Error::invalid(format!("the model has no parameter `{name}`")));
        }
        let tensors = self.iter().map(|(name, array)| (name, array.to_tensor()));
        let integers = self.iter_integers().map(|(name, array)| (name, array.to_tensor()));
        for (name, tensor) in tensors.chain(integers) {
            let Some(var) = params.get(name) else { continue };
            let set = |tensor: Tensor| var.set(&tensor.to_dtype(var.dtype())?);
            tensor
                .and_then(|tensor| Ok(set(tensor).map_err(BoxError::from)?))
                .context(format_args!("parameter `{name}`"))?;
        }
        Ok(())
    }

    /// Add or replace an array; the one it replaces is returned.
    pub fn insert(&mut self, name: impl Into<String>, array: Array) -> Option<Array> {
        let name = name.into();
        self.integers.remove(&name);
        self.arrays.insert(name, array)
    }

    /// Add or replace an array of integers; the one it replaces is returned.
    pub fn insert_integers(
        &mut self,
        name: impl Into<String>,
        array: Array<i64>,
    ) -> Option<Array<i64>> {
        let name = name.into();
        self.arrays.remove(&name);
        self.integers.insert(name, array)
    }

    /// Take an array out.
    pub fn remove(&mut self, name: &str) -> Option<Array> {
        self.arrays.remove(name)
    }

    /// The array of a name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.arrays.get(name)
    }

    /// The array of integers of a name.
    pub fn get_integers(&self, name: &str) -> Option<&Array<i64>> {
        self.integers.get(name)
    }

    /// Names and arrays in the order of the names, without those of integers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Names and arrays in the order of the names, without those of integers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Array)> {
        self.arrays.iter_mut().map(|(name, array)| (name.as_str(), array))
    }

    /// Names and arrays of integers in the order of the names: the batches that each batch norm has
    /// seen.
    pub fn iter_integers(&self) -> impl Iterator<Item = (&str, &Array<i64>)> {
        self.integers.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// All names: those of numbers in order, then those of integers in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().chain(self.integers.keys()).map(String::as_str)
    }

    /// The number of arrays, of both kinds.
    pub fn len(&self) -> usize {
        self.arrays.len() + self.integers.len()
    }

    /// Whether there are no arrays.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of values in all arrays, of both kinds.
    pub fn count(&self) -> usize {
        let values = self.arrays.values().map(|array| array.data().len());
        values.chain(self.integers.values().map(|array| array.data().len())).sum()
    }
}

impl FromIterator<(String, Array)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Array)>>(arrays: I) -> Self {
        Weights { arrays: arrays.into_iter().collect(), integers: BTreeMap::new() }
    }
}

/// Names and arrays in the order of the names, without those of integers.
impl IntoIterator for Weights {
    type Item = (String, Array);
    type IntoIter = std::collections::btree_map::IntoIter<String, Array>;
    fn into_iter(self) -> Self::IntoIter {
        self.arrays.into_iter()
    }
}

/// An array as it is written: an object of `shape` and `data`, or of `shape` and `integers`.
#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Array(&'a Array),
    Integers { shape: &'a [usize], integers: &'a [i64] },
}

/// An array as it is read.
#[derive(Deserialize)]
struct Read {
    shape: Vec<usize>,
    data: Option<Vec<f32>>,
    integers: Option<Vec<i64>>,
}

/// An object of the arrays by name.
impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let arrays = self.iter().map(|(name, array)| (name, Written::Array(array)));
        let integers = self.iter_integers().map(|(name, array)| {
            (name, Written::Integers { shape: array.shape(), integers: array.data() })
        });
        serializer.collect_map(arrays.chain(integers))
    }
}

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut weights = Weights::new();
        for (name, Read { shape, data, integers }) in
            BTreeMap::<String, Read>::deserialize(deserializer)?
        {
            let inserted = match (data, integers) {
                (Some(data), None) => Array::new(shape, data).map(|array| {
                    weights.insert(name, array);
                }),
                (None, Some(data)) => Array::new(shape, data).map(|array| {
                    weights.insert_integers(name, array);
                }),
                _ => Err(Error::invalid(format!(
                    "array `{name}` must have either `data` or `integers`"
                ))),
            };
            inserted.map_err(D::Error::custom)?;
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_vars_and_json_bit_by_bit() -> Result<()> {
        let data = vec![0.1, -1.0 / 3.0, f32::MIN_POSITIVE, 16_777_217.0, f32::EPSILON, -0.0];
        let mut weights = Weights::from_iter([
            ("a".to_owned(), Array::new([2, 3], data)?),
            ("b".to_owned(), Array::zeros([0])),
        ]);
        // As it was written when there were no integers.
        let written = r#"{"a":{"shape":[1],"data":[0.5]}}"#;
        let earlier: Weights = serde_json::from_str(written)?;
        assert_eq!(earlier.get("a").map(Array::data), Some([0.5].as_slice()));
        assert_eq!(serde_json::to_string(&earlier)?, written);
        weights.insert_integers("n", Array::new([], vec![1_i64 << 60])?);
        assert_eq!(Weights::of(&weights.to_vars()?)?, weights);
        let back: Weights = serde_json::from_str(&serde_json::to_string(&weights)?)?;
        let bits = |weights: &Weights| {
            weights
                .iter()
                .flat_map(|(_, array)| array.data().to_vec())
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&back), bits(&weights));
        assert_eq!((weights.len(), weights.count()), (3, 7));
        assert_eq!(weights.insert("n", Array::zeros([1])), None);
        assert_eq!((weights.len(), weights.get_integers("n")), (3, None), "one name, one array");
        Ok(())
    }
}
