#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
}

#[triggers]
impl Model {
    #[trigger("apply", timeout = "")]
    fn empty(&self) {}

    #[trigger("apply", timeout = "soon")]
    fn word(&self) {}

    #[trigger("apply", backoff = "40000d")]
    fn long(&self) {}
}

fn main() {}
