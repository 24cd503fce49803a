//! Products of matrices that are not tensors of a graph.

use candle_core::{CpuStorage, Layout, Result, backend::BackendStorage};

/// The product of two matrices in row-major order, `[m, k]` and `[k, n]`; `turned` says which of
/// them is kept transposed.
pub(crate) fn product(
    a: &CpuStorage,
    b: &CpuStorage,
    (m, n, k): (usize, usize, usize),
    turned: (bool, bool),
) -> Result<CpuStorage> {
    let layout = |rows, columns, turned| match turned {
        true => Layout::contiguous((columns, rows)).transpose(0, 1),
        false => Ok(Layout::contiguous((rows, columns))),
    };
    a.matmul(b, (1, m, n, k), &layout(m, k, turned.0)?, &layout(k, n, turned.1)?)
}
