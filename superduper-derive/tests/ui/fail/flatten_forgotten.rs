#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Settings)]
struct Fit {
    #[component(breaking)]
    epochs: u64,
}

#[derive(Settings)]
struct Free {
    epochs: u64,
}

#[derive(Component)]
struct Model {
    identifier: String,
    fit: Fit,
    free: Free,
}

fn main() {}
