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
    #[trigger("apply")]
    fn start(&self) {}

    #[trigger("apply", depends_on = "strat")]
    fn go(&self) {}

    #[trigger("apply", depends_on = ["start", "evaluation"])]
    fn report(&self) {}
}

fn main() {}
