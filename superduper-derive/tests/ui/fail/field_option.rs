#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    #[component(braking)]
    a: i64,
    #[component(skip, breaking)]
    b: i64,
    #[component(breaking)]
    client: Runtime<i64>,
    #[component(breaking)]
    weights: Output<i64>,
    #[component(default, default)]
    c: i64,
    #[component]
    e: i64,
}

fn main() {}
