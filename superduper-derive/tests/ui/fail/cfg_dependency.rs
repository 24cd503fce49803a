#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

#[triggers]
impl Model {
    #[cfg(any())]
    #[trigger("apply")]
    fn start(&self) {}

    #[trigger("apply", depends_on = "start")]
    fn go(&self) {}
}

fn main() {}
