//! The handwritten digits of `examples/data`.

use superduper::{Error, Result};
use superduper_candle::Table;

/// 1797 rows of 64 pixels from 0 to 1, and the digit.
pub(crate) fn digits() -> Result<Table> {
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for line in include_str!("../../../../examples/data/digits.csv").lines() {
        let mut values = line
            .split(',')
            .map(|value| value.parse::<u32>().map_err(Error::msg))
            .collect::<Result<Vec<_>>>()?;
        labels.extend(values.pop());
        features.extend(values.into_iter().map(|value| value as f32));
    }
    Table::new(64, features, labels)?.scaled(1.0 / 16.0)
}
