//! Parameters as plain data, by name.
//!
//! [`Weights`] is the form in which parameters and optimizer moments leave and enter a model: it
//! compares, clones and serializes, knows no device and no graph, and keeps its names in order, so that
//! the same weights are always written the same way. An [`Array`] always has as many values as its shape says.

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use superduper::{Error, Result, ResultExt};

/// Values in row-major order with their shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Array {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// An [`Array`] as it is read, before its length is checked.
#[derive(Deserialize)]
struct Unchecked {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl TryFrom<Unchecked> for Array {
    type Error = Error;
    fn try_from(read: Unchecked) -> Result<Self> {
        Array::new(read.shape, read.data)
    }
}

impl Array {
    /// Make an array of `data` in row-major order.
    ///
    /// # Errors
    /// `InvalidInput` where the length is not the product of the shape.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        if count != Some(data.len()) {
            return Err(Error::invalid(format!("{} values do not fill the shape {shape:?}", data.len())));
        }
        Ok(Array { shape, data })
    }

    /// Make an array of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; shape.iter().product()];
        Array { shape, data }
    }

    /// Copy a tensor of any floating-point type.
    ///
    /// # Errors
    /// Those of candle.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        let copy = || tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let data = copy().context(format_args!("copy of a tensor of shape {:?}", tensor.dims()))?;
        Ok(Array { shape: tensor.dims().to_vec(), data })
    }

    /// Copy into an f32 tensor on the CPU.
    ///
    /// # Errors
    /// Those of candle.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.data, self.shape.as_slice(), &Device::Cpu).context(format_args!("tensor of shape {:?}", self.shape))
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values in row-major order.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

/// Named arrays: the parameters of a model or the moments of an optimizer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights(BTreeMap<String, Array>);

impl Weights {
    /// Refuse values that are not finite, of which no prediction can be made.
    pub(crate) fn check_finite(&self) -> Result<()> {
        for (name, array) in self.iter() {
            if let Some(place) = array.data().iter().position(|value| !value.is_finite()) {
                return Err(Error::invalid(format!("parameter `{name}` has the value {} at place {place}", array.data()[place])));
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
        params.iter().map(|(name, var)| Ok((name.clone(), Array::of(var).context(format_args!("parameter `{name}`"))?))).collect()
    }

    /// Copy into parameters that can be trained.
    ///
    /// # Errors
    /// Those of candle, with the parameter's name.
    pub fn to_vars(&self) -> Result<BTreeMap<String, Var>> {
        let var = |array: &Array| array.to_tensor().and_then(|tensor| Ok(Var::from_tensor(&tensor).map_err(superduper::BoxError::from)?));
        self.iter().map(|(name, array)| Ok((name.to_owned(), var(array).context(format_args!("parameter `{name}`"))?))).collect()
    }

    /// Set parameters to these values; a model keeps its `Var`s.
    ///
    /// # Errors
    /// `InvalidInput` where a parameter is missing, too many, or of another shape.
    pub fn assign(&self, params: &BTreeMap<String, Var>) -> Result<()> {
        // All are looked at before the first one is set.
        for (name, var) in params {
            let array = self.get(name).ok_or_else(|| Error::invalid(format!("there are no values for parameter `{name}`")))?;
            if array.shape() != var.dims() {
                let (found, needed) = (array.shape(), var.dims());
                return Err(Error::invalid(format!("the values for parameter `{name}` have shape {found:?}, the model needs {needed:?}")));
            }
        }
        if let Some((name, _)) = self.iter().find(|(name, _)| !params.contains_key(*name)) {
            return Err(Error::invalid(format!("the model has no parameter `{name}`")));
        }
        for (name, var) in params {
            let Some(array) = self.get(name) else { continue };
            let set = || var.set(&array.to_tensor()?.to_dtype(var.dtype())?).map_err(superduper::BoxError::from);
            set().context(format_args!("parameter `{name}`"))?;
        }
        Ok(())
    }

    /// Add or replace an array; the one it replaces is returned.
    pub fn insert(&mut self, name: impl Into<String>, array: Array) -> Option<Array> {
        self.0.insert(name.into(), array)
    }

    /// Take an array out.
    pub fn remove(&mut self, name: &str) -> Option<Array> {
        self.0.remove(name)
    }

    /// The array of a name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// Names and arrays in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.0.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Names and arrays in the order of the names.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Array)> {
        self.0.iter_mut().map(|(name, array)| (name.as_str(), array))
    }

    /// The number of arrays.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no arrays.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of values in all arrays.
    pub fn count(&self) -> usize {
        self.0.values().map(|array| array.data.len()).sum()
    }
}

impl FromIterator<(String, Array)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Array)>>(arrays: I) -> Self {
        Weights(arrays.into_iter().collect())
    }
}

impl IntoIterator for Weights {
    type Item = (String, Array);
    type IntoIter = std::collections::btree_map::IntoIter<String, Array>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_must_fill_the_shape() {
        let error = Array::new([2, 3], vec![0.0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "5 values do not fill the shape [2, 3]");
        assert!(serde_json::from_str::<Array>(r#"{"shape":[2],"data":[1.0]}"#).is_err());
        assert!(Array::new([usize::MAX, 2], vec![]).is_err());
    }

    #[test]
    fn survives_vars_and_json_bit_by_bit() -> Result<()> {
        let data = vec![0.1, -1.0 / 3.0, f32::MIN_POSITIVE, 16_777_217.0, f32::EPSILON, -0.0];
        let weights = Weights::from_iter([("a".to_owned(), Array::new([2, 3], data)?), ("b".to_owned(), Array::zeros([0]))]);
        assert_eq!(Weights::of(&weights.to_vars()?)?, weights);
        let back: Weights = serde_json::from_str(&serde_json::to_string(&weights)?)?;
        let bits = |weights: &Weights| weights.iter().flat_map(|(_, array)| array.data().to_vec()).map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&weights));
        assert_eq!((weights.len(), weights.count()), (2, 6));
        Ok(())
    }
}
