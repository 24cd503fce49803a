#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

trait Train {
    fn train(&self);
}

#[triggers]
impl Train for Model {
    #[trigger("apply")]
    fn train(&self) {}
}

fn main() {}
