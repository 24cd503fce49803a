//! The columns that a training expects of its sites.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use superduper::{Error, Result};
use superduper_federated::Site;

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ColumnType {
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// Text.
    Text,
    /// One of so many categories.
    Category(u32),
    /// Images of so many channels, of this height and width in pixels.
    Image(u32, u32, u32),
}

impl ColumnType {
    /// Whether a site's name of a type, such as `i64` or `f32`, is of this type.
    fn fits(&self, found: &str) -> bool {
        let is_int =
            matches!(found, "int" | "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64");
        match self {
            ColumnType::Int => is_int,
            ColumnType::Float => matches!(found, "float" | "f16" | "bf16" | "f32" | "f64"),
            ColumnType::Text => matches!(found, "text" | "string" | "str"),
            ColumnType::Category(_) => is_int || found == self.to_string(),
            ColumnType::Image(..) => found == self.to_string(),
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Int => f.write_str("int"),
            ColumnType::Float => f.write_str("float"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Category(classes) => write!(f, "category({classes})"),
            ColumnType::Image(channels, height, width) => {
                write!(f, "image({channels}, {height}, {width})")
            }
        }
    }
}

/// The columns that a training expects, with their types.
///
/// ```
/// use superduper_access::{ColumnType, DataSchema};
///
/// let schema = DataSchema::new().column("age", ColumnType::Int).column("bmi", ColumnType::Float);
/// # let _ = schema;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DataSchema(BTreeMap<String, ColumnType>);

impl DataSchema {
    /// No columns.
    pub fn new() -> Self {
        DataSchema::default()
    }

    /// Expect a column.
    #[must_use]
    pub fn column(mut self, name: impl Into<String>, column: ColumnType) -> Self {
        self.0.insert(name.into(), column);
        self
    }

    /// Compare with the columns of sites. A site without data here is not looked at.
    ///
    /// # Errors
    /// `InvalidInput` with all that does not fit: site, column, the expected and the found type.
    pub fn check(&self, sites: &[Site]) -> Result<()> {
        let mut faults = Vec::new();
        for site in sites {
            let Some(data) = &site.data else { continue };
            let columns: BTreeMap<String, String> = data.columns().into_iter().collect();
            for (name, wanted) in &self.0 {
                match columns.get(name) {
                    None => faults.push(format!("site `{}` has no column `{name}`", site.name)),
                    Some(found) if !wanted.fits(found) => faults.push(format!(
                        "column `{name}` of site `{}` is {found}, not {wanted}",
                        site.name
                    )),
                    Some(_) => {}
                }
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid(faults.join("; "))),
        }
    }
}
