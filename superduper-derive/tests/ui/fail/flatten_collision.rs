#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Settings)]
struct Fit {
    epochs: u64,
    #[serde(alias = "rate")]
    lr: f64,
}

#[derive(Settings)]
struct Other {
    lr: f64,
}

#[derive(Component)]
struct Own {
    identifier: String,
    #[serde(rename = "epochs")]
    rounds: u64,
    #[component(flatten)]
    fit: Fit,
}

#[derive(Component)]
struct Both {
    identifier: String,
    #[component(flatten)]
    fit: Fit,
    #[component(flatten)]
    other: Other,
}

#[derive(Component)]
struct Former {
    identifier: String,
    rate: f64,
    #[component(flatten)]
    fit: Fit,
}

fn main() {}
