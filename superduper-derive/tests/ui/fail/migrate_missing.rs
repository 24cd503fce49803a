#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
#[component(version = 2, migrate)]
struct Model {
    identifier: String,
}

fn main() {}
