#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Fit {
    epochs: u64,
}

#[derive(Component)]
struct Model {
    identifier: String,
    #[component(flatten)]
    fit: Fit,
}

fn main() {}
