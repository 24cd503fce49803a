//! A step of an optimizer on the server: the mean of the sites is a direction, not the next model.

use super::{
    contract::Aggregated,
    mean::{Sums, Weighting, Weights, sums},
    round::{Round, unsupported},
};
use crate::{
    Update,
    numeric::{
        F32, F64, FloatFormat, Real, compute, first_not_finite, is_float, vectorized, with_float,
    },
};
use std::array;
use superduper::{Bytes, Dtype, Error, Result, TensorData, TensorInfo, Tensors};

/// What an optimizer does to one element, in 64 bits: from the value, the difference of the mean to
/// it and the moments, to the next value and moments.
pub(super) trait Rule<const N: usize>:
    Fn(f64, f64, [f64; N]) -> (f64, [f64; N]) + Copy + Send + 'static
{
}
impl<const N: usize, R> Rule<N> for R where
    R: Fn(f64, f64, [f64; N]) -> (f64, [f64; N]) + Copy + Send + 'static
{
}

/// Move the global model. The state has a tensor `moment/name` for each tensor of floats and each
/// of the moments: `F64` for a tensor of that type, else `F32`; where there is no state they are 0.
pub(super) async fn server_step<const N: usize>(
    strategy: &str,
    moments: [&str; N],
    rule: impl Rule<N>,
    global: &Tensors,
    state: &Tensors,
    updates: &[Update],
) -> Result<Aggregated> {
    let round = Round::new(global, updates)?;
    let weights = Weights::new(&round, &Weighting::Samples)?;
    let mut next = Aggregated { weights: round.empty(), state: Tensors::new() };
    for (name, info) in round.tensors() {
        if !is_float(info.dtype) {
            next.weights.insert(name, round.largest(name, info).await?)?;
            continue;
        }
        let names = moments.map(|moment| format!("{moment}/{name}"));
        let kept = TensorInfo { dtype: kept_as(info.dtype), shape: info.shape.clone() };
        let mut before: [Bytes; N] = array::from_fn(|_| Bytes::new());
        for (bytes, name) in before.iter_mut().zip(&names) {
            *bytes = moment(state, name, &kept).await?;
        }
        let size = info.size().unwrap_or_default();
        let (values, after) = with_float!(info.dtype, Format => {
            let (sums, read) = sums::<Format>(&round, &weights, name, info).await?;
            let values = global.get(name).await?.bytes;
            let work = move || match kept.dtype {
                Dtype::F64 => moved::<Format, F64, N>(&sums, &values, &before, rule),
                _ => moved::<Format, F32, N>(&sums, &values, &before, rule),
            };
            compute(read + size, work).await?
        }, else return Err(unsupported(name, info)));
        if let Some((index, value)) = first_not_finite(info.dtype, &values) {
            let text = format!("{strategy}: element {index} of tensor `{name}` became {value}");
            return Err(Error::invalid(text).with_hint("take a lower rate for the server").fatal());
        }
        let tensor = |dtype, bytes: Vec<u8>| {
            let info = TensorInfo { dtype, shape: info.shape.clone() };
            TensorData { info, bytes: bytes.into() }
        };
        next.weights.insert(name, tensor(info.dtype, values))?;
        for (name, bytes) in names.into_iter().zip(after) {
            next.state.insert(name, tensor(kept_as(info.dtype), bytes))?;
        }
    }
    Ok(next)
}

/// The type of the moments of a tensor.
fn kept_as(dtype: Dtype) -> Dtype {
    if dtype == Dtype::F64 { Dtype::F64 } else { Dtype::F32 }
}

/// The bytes of a moment; zeros in the first round.
async fn moment(state: &Tensors, name: &str, info: &TensorInfo) -> Result<Bytes> {
    if state.is_empty() {
        return Ok(vec![0; info.size().unwrap_or_default()].into());
    }
    let tensor = state.get(name).await.map_err(|error| error.context("the server's state"))?;
    if tensor.info != *info {
        let text = format!("tensor `{name}` is {}, not {info}", tensor.info);
        return Err(Error::invalid(text).context("the server's state").with_hint(
            "the state must be what the same strategy gave in the round before, for this model",
        ));
    }
    Ok(tensor.bytes)
}

/// The bytes of the next values and of the next moments. `F` is the format of the values, `M` that
/// of the moments.
fn moved<F: FloatFormat, M: FloatFormat, const N: usize>(
    sums: &Sums<F>,
    values: &[u8],
    moments: &[Bytes; N],
    rule: impl Rule<N>,
) -> (Vec<u8>, [Vec<u8>; N]) {
    let mut next = values.to_vec();
    let mut after: [Vec<u8>; N] = array::from_fn(|index| moments[index].to_vec());
    vectorized(
        #[inline(always)]
        || {
            let values = F::raw_mut(&mut next);
            let mut moments = after.each_mut().map(|bytes| M::raw_mut(bytes));
            sums.each_block(
                #[inline(always)]
                |start, means| {
                    for (place, mean) in (start..).zip(means) {
                        let value = F::get(values[place]);
                        let mean: f64 = (*mean).into();
                        let before = array::from_fn(|index| M::get(moments[index][place]));
                        let (value, after) = rule(value, mean - value, before);
                        values[place] = F::put(F::Sum::from_f64(value));
                        for (moment, after) in moments.iter_mut().zip(after) {
                            moment[place] = M::put(M::Sum::from_f64(after));
                        }
                    }
                },
            );
        },
    );
    (next, after)
}
