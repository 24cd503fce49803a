//! A table as the data of a site.

use crate::site::SiteData;
use serde::{Deserialize, Serialize};
use std::any::Any;
use superduper::Artifact;
use superduper_candle::Table;

/// A [`Table`] as the data of a site.
///
/// The table is stored as a blob with the training.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableData {
    table: Artifact<Table>,
    rows: u64,
    width: usize,
    classes: Option<usize>,
}

impl TableData {
    /// This table.
    pub fn new(table: Table) -> Self {
        let classes = match table.targets() {
            Some(_) => None,
            None => table.labels().iter().max().map(|most| *most as usize + 1),
        };
        TableData {
            rows: table.rows() as u64,
            width: table.width(),
            classes,
            table: Artifact::new(table),
        }
    }

    /// The table.
    pub fn table(&self) -> &Artifact<Table> {
        &self.table
    }
}

#[typetag::serde(name = "candle.Table")]
impl SiteData for TableData {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn columns(&self) -> Vec<(String, String)> {
        let features = (0..self.width).map(|column| (format!("x{column}"), "f32".to_owned()));
        let target = match self.classes {
            Some(_) => ("label".to_owned(), "u32".to_owned()),
            None => ("value".to_owned(), "f32".to_owned()),
        };
        features.chain([target]).collect()
    }

    fn classes(&self) -> Option<usize> {
        self.classes
    }

    fn input_shape(&self) -> Vec<usize> {
        vec![self.width]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
