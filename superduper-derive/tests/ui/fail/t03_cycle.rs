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
    #[trigger("apply", depends_on = "c")]
    fn a(&self) {}

    #[trigger("apply", depends_on = ["a"])]
    fn b(&self) {}

    #[trigger("apply")]
    fn c(&self, b: ()) {}

    #[trigger("apply", depends_on = "y")]
    fn x(&self) {}

    #[trigger("apply", depends_on = "x")]
    fn y(&self) {}
}

fn main() {}
