//! The handwritten digits of the examples: 1797 images of 8 × 8 pixels.

use superduper::candle::Table;
use superduper::prelude::*;

/// Rows to train on, and rows that no training sees.
pub(crate) fn tables() -> Result<(Table, Table)> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let csv = include_str!("../data/digits.csv");
    for row in
        csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes()).into_deserialize()
    {
        let mut row: Vec<f32> = row.context("a line of the CSV file")?;
        labels.extend(row.pop().map(|label| label as u32));
        pixels.extend(row);
    }
    Table::new(64, pixels, labels)?.scaled(1.0 / 16.0)?.split(1, 0.2)
}
