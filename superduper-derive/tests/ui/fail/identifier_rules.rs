#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Two {
    #[component(identifier)]
    name: String,
    #[component(identifier)]
    title: String,
}

#[derive(Component)]
struct Skipped {
    #[component(skip)]
    identifier: String,
}

#[derive(Component)]
struct Default {
    #[component(default = "a")]
    identifier: String,
}

fn main() {}
