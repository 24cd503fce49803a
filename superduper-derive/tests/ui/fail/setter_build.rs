#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    build: i64,
    with_build: i64,
}

#[derive(Component)]
struct Other {
    identifier: String,
    lr: f64,
    name: String,
}

fn main() {
    let _ = Other::builder("x").lr("fast").name(3).colour(1).build();
}
