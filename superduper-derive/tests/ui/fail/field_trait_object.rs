#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

trait Optimizer: Send + Sync {}

#[derive(Component)]
struct Model {
    identifier: String,
    optimizer: Box<dyn Optimizer>,
}

fn main() {}
