#![allow(unused_variables, non_camel_case_types)]
use std::collections::BTreeMap;
use superduper::prelude::*;

#[derive(Component)]
#[serde(transparent)]
struct Model {
    identifier: String,
}

#[derive(Component)]
#[serde(rename_all(serialize = "camelCase", deserialize = "snake_case"))]
struct Other {
    identifier: String,
    #[serde(skip_serializing)]
    a: i64,
    #[component(breaking)]
    #[serde(flatten)]
    b: BTreeMap<String, i64>,
    #[serde(rename(serialize = "x", deserialize = "y"))]
    c: i64,
}

fn main() {}
