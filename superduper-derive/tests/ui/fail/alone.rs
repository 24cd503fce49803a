#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
}

#[triggers]
impl Model {
    #[trigger("apply", depends_on = "train")]
    fn start(&self) {}
}

fn main() {}
