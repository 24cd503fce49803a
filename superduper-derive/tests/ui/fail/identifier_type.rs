#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: u64,
}

#[derive(Component)]
struct Other {
    #[component(identifier, skip)]
    name: String,
    #[component(identifier)]
    title: String,
}

fn main() {}
