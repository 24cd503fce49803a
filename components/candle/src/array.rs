//! Values with their shape, as plain data.
//!
//! Invariant: an [`Array`] has as many values as its shape says.

use candle_core::{DType, Device, Tensor, WithDType};
use serde::{Deserialize, Serialize};
use superduper::{Error, Result, ResultExt};

/// Values in row-major order with their shape: f32 for parameters, i64 for counters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked<T>", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Array<T = f32> {
    shape: Vec<usize>,
    data: Vec<T>,
}

/// An [`Array`] as it is read, before its length is checked.
#[derive(Deserialize)]
struct Unchecked<T> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl<T> TryFrom<Unchecked<T>> for Array<T> {
    type Error = Error;
    fn try_from(read: Unchecked<T>) -> Result<Self> {
        Array::new(read.shape, read.data)
    }
}

impl<T> Array<T> {
    /// Make an array of `data` in row-major order.
    ///
    /// # Errors
    /// `InvalidInput` where the length is not the product of the shape.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        if count != Some(data.len()) {
            return Err(Error::invalid(format!(
                "{} values do not fill the shape {shape:?}",
                data.len()
            )));
        }
        Ok(Array { shape, data })
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The values in row-major order.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The values of `f` in the same shape.
    pub(crate) fn map<U>(&self, f: impl FnMut(&T) -> U) -> Array<U> {
        Array { shape: self.shape.clone(), data: self.data.iter().map(f).collect() }
    }
}

impl Array {
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
        copy(tensor, DType::F32)
    }

    /// Copy into an f32 tensor on the CPU.
    ///
    /// # Errors
    /// Those of candle.
    pub fn to_tensor(&self) -> Result<Tensor> {
        tensor(self)
    }
}

impl Array<i64> {
    /// Copy a tensor of integers.
    ///
    /// # Errors
    /// Those of candle.
    pub fn of_integers(tensor: &Tensor) -> Result<Self> {
        copy(tensor, DType::I64)
    }

    /// Copy into an i64 tensor on the CPU.
    ///
    /// # Errors
    /// Those of candle.
    pub fn to_tensor(&self) -> Result<Tensor> {
        tensor(self)
    }
}

fn copy<T: WithDType>(tensor: &Tensor, dtype: DType) -> Result<Array<T>> {
    let copy = || tensor.to_dtype(dtype)?.flatten_all()?.to_vec1::<T>();
    let data = copy().context(format_args!("copy of a tensor of shape {:?}", tensor.dims()))?;
    Ok(Array { shape: tensor.dims().to_vec(), data })
}

fn tensor<T: WithDType>(array: &Array<T>) -> Result<Tensor> {
    Tensor::from_slice(&array.data, array.shape.as_slice(), &Device::Cpu)
        .context(format_args!("tensor of shape {:?}", array.shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_must_fill_the_shape() {
        let error = Array::new([2, 3], vec![0.0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "5 values do not fill the shape [2, 3]");
        assert!(serde_json::from_str::<Array>(r#"{"shape":[2],"data":[1.0]}"#).is_err());
        assert!(Array::<f32>::new([usize::MAX, 2], vec![]).is_err());
    }
}
