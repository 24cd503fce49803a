//! The convolution against candle's own where that is defined alike, and its gradients against
//! finite differences.

use super::{Sizes, block};
use candle_core::{DType, Device, Result, Tensor, Var};

fn sizes(channels: usize, side: usize, padding: usize, pool: usize) -> Sizes {
    Sizes { channels, height: side, width: side + 1, filters: 3, kernel: 3, padding, pool }
}

/// Numbers that repeat nowhere, about -1 to 1.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = crate::Rng::named(seed, "numbers");
    (0..count).map(|_| f64::from(rng.uniform()) * 2.0 - 1.0).collect()
}

fn inputs(sizes: Sizes, rows: usize) -> Result<[Var; 3]> {
    let Sizes { channels, height, width, filters, kernel, .. } = sizes;
    let var = |shape: &[usize], seed| {
        Var::from_vec(numbers(shape.iter().product(), seed), shape, &Device::Cpu)
    };
    Ok([
        var(&[rows, height, width, channels], 1)?,
        var(&[filters, channels, kernel, kernel], 2)?,
        var(&[filters], 3)?,
    ])
}

/// The same with candle's operations.
fn reference(x: &Tensor, weight: &Tensor, bias: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let convolved =
        x.permute((0, 3, 1, 2))?.contiguous()?.conv2d(weight, sizes.padding, 1, 1, 1)?;
    let rectified = convolved.broadcast_add(&bias.reshape((1, (), 1, 1))?)?.relu()?;
    let (height, width) = sizes.pooled();
    // What does not fill a pool is left out.
    let whole = rectified
        .narrow(2, 0, height * sizes.pool)?
        .narrow(3, 0, width * sizes.pool)?
        .contiguous()?;
    whole.max_pool2d(sizes.pool)?.permute((0, 2, 3, 1))?.contiguous()
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    Ok(flat(a)?.iter().zip(flat(b)?).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}

/// The last one has more rows than are worked on together.
fn cases() -> [(Sizes, usize); 5] {
    [
        (sizes(1, 6, 0, 2), 2),
        (sizes(2, 7, 1, 2), 3),
        (sizes(3, 5, 2, 1), 2),
        (sizes(2, 9, 1, 3), 2),
        (sizes(4, 40, 1, 2), 9),
    ]
}

#[test]
fn values_are_those_of_candle() -> Result<()> {
    for (sizes, rows) in cases() {
        let [x, weight, bias] = inputs(sizes, rows)?;
        let ours = block(&x, &weight, &bias, sizes)?;
        assert!(
            largest_difference(&ours, &reference(&x, &weight, &bias, sizes)?)? < 1e-12,
            "{sizes:?}"
        );
        let ours = flat(&ours)?;
        assert!(ours.contains(&0.0) && ours.iter().any(|value| *value > 0.0));
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    for (sizes, rows) in cases() {
        let tensors = inputs(sizes, rows)?;
        let [x, weight, bias] = &tensors;
        let loss = || block(x, weight, bias, sizes)?.sqr()?.sum_all();
        let grads = loss()?.backward()?;
        let width = 1e-6;
        for var in &tensors {
            let (values, gradient) = (flat(var)?, flat(grads.get(var).unwrap())?);
            // Some of many are enough: at most 40, spread over the tensor.
            for index in (0..values.len()).step_by(values.len().div_ceil(40)) {
                let at = |value: f64| {
                    let mut moved = values.clone();
                    moved[index] = value;
                    var.set(&Tensor::from_vec(moved, var.dims(), &Device::Cpu)?)?;
                    loss()?.to_scalar::<f64>()
                };
                let slope =
                    (at(values[index] + width)? - at(values[index] - width)?) / (2.0 * width);
                at(values[index])?;
                let scale = slope.abs().max(1.0);
                assert!(
                    (slope - gradient[index]).abs() < 1e-5 * scale,
                    "{sizes:?}[{index}]: {slope} is not {}",
                    gradient[index]
                );
            }
        }
    }
    Ok(())
}

#[test]
fn images_that_nobody_trains_get_no_gradient() -> Result<()> {
    let sizes = sizes(1, 6, 0, 2);
    let [x, weight, bias] = inputs(sizes, 2)?;
    let grads = block(&x.detach(), &weight, &bias, sizes)?.sum_all()?.backward()?;
    assert!(grads.get(&x).is_none() && grads.get(&weight).is_some() && grads.get(&bias).is_some());
    Ok(())
}

#[test]
fn f32_gives_the_same() -> Result<()> {
    let sizes = sizes(2, 8, 1, 2);
    let [x, weight, bias] = inputs(sizes, 4)?;
    let single = |var: &Var| var.to_dtype(DType::F32);
    let ours = block(&single(&x)?, &single(&weight)?, &single(&bias)?, sizes)?;
    assert!(largest_difference(&ours, &block(&x, &weight, &bias, sizes)?)? < 1e-5);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let [x, weight, bias] = inputs(sizes(2, 7, 1, 2), 3)?;
    let error = block(&x, &weight, &bias, sizes(2, 8, 1, 2)).unwrap_err().to_string();
    assert!(error.contains("images [3, 7, 8, 2] and weight [3, 2, 3, 3] do not fit"), "{error}");
    Ok(())
}
