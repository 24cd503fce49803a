#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

impl Model {
    #[trigger("apply")]
    fn start(&self) {}
}

fn main() {}
