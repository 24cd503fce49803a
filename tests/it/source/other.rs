//! More of the model.

use super::Model;
use superduper::prelude::*;

pub(super) const FILE: &str = include_str!("other.rs");

#[source]
impl Model {
    // Twice the step.
    pub(super) fn doubled(&self) -> f64 {
        2.0 * self.lr
    }
}
