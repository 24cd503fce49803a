#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

// Without `#[typetag::serde]` nothing says which type to read back.
trait Optimizer: Send + Sync {
    fn step(&self, rate: f64) -> f64;
}

#[derive(Component)]
struct Model {
    identifier: String,
    rate: f64,
    optimizer: Box<dyn Optimizer>,
}

fn main() {}
