#![allow(unused_variables, dead_code, non_camel_case_types)]
use std::collections::BTreeMap;
use superduper::prelude::*;

#[derive(Settings, Default)]
struct Fit {
    epochs: u64,
}

#[derive(Component)]
struct Options {
    identifier: String,
    #[component(flatten, breaking)]
    a: Fit,
}

#[derive(Component)]
struct Defaulted {
    identifier: String,
    #[component(flatten, default)]
    a: Fit,
}

#[derive(Component)]
struct Renamed {
    identifier: String,
    #[component(flatten)]
    #[serde(rename = "b")]
    a: Fit,
}

#[derive(Component)]
struct Optional {
    identifier: String,
    #[component(flatten)]
    a: Option<Fit>,
}

#[derive(Component)]
struct Twice {
    identifier: String,
    #[component(flatten)]
    a: Fit,
    #[component(flatten)]
    b: Fit,
}

#[derive(Component, Default)]
#[serde(default)]
struct Base {
    identifier: String,
    #[component(flatten)]
    a: Fit,
}

#[derive(Component)]
struct Collects {
    identifier: String,
    #[component(flatten)]
    a: Fit,
    #[serde(flatten)]
    rest: BTreeMap<String, u64>,
}

fn main() {}
