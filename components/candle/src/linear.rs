//! A linear layer with a backward pass of its own.
//!
//! candle's `matmul` also computes the gradient of the input data, which is not trained; that is a
//! third of the work of a first layer, and gives the gradient of a transposed weight transposed.
//! Here the gradient of the input is left out where nothing depends on it, and each gradient comes
//! in the layout of its tensor.

use candle_core::{
    CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, WithDType, backend::BackendStorage, bail,
};

/// `x Wᵀ + b` for `x` of shape `[rows, inputs]`, `W` of shape `[outputs, inputs]` and `b` of shape
/// `[outputs]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.apply_op3(weight, bias, Linear)
}

struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, width)) =
            (x_layout.shape().dims2()?, weight_layout.shape().dims2()?);
        if width != inputs || bias_layout.dims() != [outputs] {
            bail!(
                "input {:?}, weight {:?} and bias {:?} do not fit",
                x_layout.dims(),
                weight_layout.dims(),
                bias_layout.dims()
            );
        }
        let mut product = x.matmul(
            weight,
            (1, rows, outputs, inputs),
            x_layout,
            &weight_layout.transpose(0, 1)?,
        )?;
        match (&mut product, bias) {
            (CpuStorage::F32(product), CpuStorage::F32(bias)) => {
                add_bias(product, bias, bias_layout)?
            }
            (CpuStorage::F64(product), CpuStorage::F64(bias)) => {
                add_bias(product, bias, bias_layout)?
            }
            (product, bias) => bail!(
                "a linear layer needs f32 or f64, not {:?} and {:?}",
                product.dtype(),
                bias.dtype()
            ),
        }
        Ok((product, Shape::from((rows, outputs))))
    }

    /// With `g` the gradient of the result: `g W`, `gᵀ x` and the sum of the rows of `g`.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of_x = x.track_op().then(|| gradient.matmul(weight)).transpose()?;
        let of_weight = weight.track_op().then(|| gradient.t()?.matmul(x)).transpose()?;
        let of_bias = bias.track_op().then(|| gradient.sum(0)).transpose()?;
        Ok((of_x, of_weight, of_bias))
    }
}

fn add_bias<T: WithDType>(product: &mut [T], bias: &[T], layout: &Layout) -> Result<()> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("the bias of a linear layer must be contiguous")
    };
    let bias = &bias[from..to];
    for row in product.chunks_exact_mut(bias.len().max(1)) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += *bias;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn var(data: &[f32], shape: (usize, usize)) -> Var {
        Var::from_tensor(&Tensor::from_slice(data, shape, &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn values_and_gradients_are_those_of_matmul() -> Result<()> {
        let x = var(&[1.0, -2.0, 0.5, 3.0, 0.25, -1.0], (2, 3));
        let weight = var(&[0.5, 1.5, -1.0, 2.0, -0.5, 0.75, 1.0, 1.0, -2.0, 0.0, 4.0, 0.5], (4, 3));
        let bias = Var::new(&[0.5_f32, -0.5, 1.0, 2.0], &Device::Cpu)?;
        let ours = linear(&x, &weight, &bias)?;
        let theirs = x.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        assert_eq!(ours.to_vec2::<f32>()?, theirs.to_vec2::<f32>()?);
        let (ours, theirs) =
            (ours.sqr()?.sum_all()?.backward()?, theirs.sqr()?.sum_all()?.backward()?);
        for tensor in [x.as_tensor(), &weight, &bias] {
            let flat = |tensor: Option<&Tensor>| tensor.unwrap().flatten_all()?.to_vec1::<f32>();
            assert_eq!(flat(ours.get(tensor))?, flat(theirs.get(tensor))?);
        }
        Ok(())
    }

    #[test]
    fn data_gets_no_gradient() -> Result<()> {
        let x = var(&[1.0, 2.0], (2, 1)).detach();
        let weight = var(&[3.0], (1, 1));
        let bias = Var::new(&[0_f32], &Device::Cpu)?;
        let grads = linear(&x, &weight, &bias)?.sum_all()?.backward()?;
        assert!(grads.get(&x).is_none());
        assert_eq!(grads.get(&weight).unwrap().to_vec2::<f32>()?, [[3.0]]);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, weight) = (var(&[1.0, 2.0], (2, 1)), var(&[3.0, 4.0], (1, 2)));
        let error = linear(&x, &weight, &Var::new(&[0_f32], &Device::Cpu).unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("input [2, 1], weight [1, 2] and bias [1] do not fit"),
            "{error}"
        );
    }
}
