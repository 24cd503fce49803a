#![allow(unused_variables, dead_code, non_camel_case_types)]
use std::collections::BTreeMap;
use superduper::prelude::*;

#[derive(Settings)]
struct Unnamed(u64);

#[derive(Settings)]
struct Generic<T> {
    value: T,
}

#[derive(Settings)]
#[serde(transparent)]
struct Transparent {
    value: u64,
}

#[derive(Settings)]
#[serde(rename_all(serialize = "camelCase", deserialize = "snake_case"))]
struct Split {
    value: u64,
}

#[derive(Settings)]
#[serde(default)]
#[component(kind = "acme.Settings")]
struct Fit {
    #[component(identifier)]
    name: String,
    #[component(default = "thirty")]
    epochs: u64,
    weights: Output<u64>,
    client: Runtime<u64>,
    #[serde(flatten)]
    rest: BTreeMap<String, u64>,
}

#[derive(Component)]
struct Model {
    identifier: String,
    #[component(flatten)]
    fit: Fit,
}

fn main() {}
