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
    #[trigger("apply", requires = "dd")]
    fn start(&self) {}

    #[trigger("apply", watch = ["n", "size"])]
    fn go(&self) {}
}

fn main() {}
