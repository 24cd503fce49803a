#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

struct Model {
    identifier: String,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn start(&self) {}
}

#[derive(Component)]
struct Pipeline {
    identifier: String,
    model: Model,
}

fn main() {}
