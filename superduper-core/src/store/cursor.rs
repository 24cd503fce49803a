//! Places in an order that a store makes.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in the order of events or messages. A store makes it and understands it; to all others
/// it is a text that can be kept. The default is the beginning.
///
/// Whatever is committed after a store has handed out a cursor sorts after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor of this text; for stores, and for reading back what [`Cursor::as_str`] gave.
    pub fn new(text: impl Into<String>) -> Self {
        Cursor(text.into())
    }

    /// For a store whose places are numbers.
    pub fn of_number(number: i64) -> Self {
        if number == 0 { Cursor::default() } else { Cursor(number.to_string()) }
    }

    /// The number that [`Cursor::of_number`] was given; 0 for the beginning.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another store.
    pub fn number(&self) -> Result<i64> {
        if self.0.is_empty() {
            return Ok(0);
        }
        self.0.parse().map_err(|error| {
            let text = format!("`{}` is not a cursor of this store", self.0);
            Error::invalid(text)
                .with_source(error)
                .with_hint("use what the store gave, or `Cursor::default()` for the beginning")
        })
    }

    /// The text, to be kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Some rows in their order, and the place behind them.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The place behind the last row; where there is none, the place that was asked for.
    pub next: Cursor,
}

impl<T> std::ops::Deref for Page<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.rows
    }
}

impl<T> IntoIterator for Page<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}
