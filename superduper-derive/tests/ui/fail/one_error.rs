#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

// The typo is the only error: everything else that uses the methods still compiles.
#[triggers]
impl Model {
    #[trigger("apply")]
    fn start(&self) -> Result<i64> {
        Ok(1)
    }

    #[trigger("apply", depends_on = "strat")]
    fn go(&self, start: i64) -> i64 {
        start
    }
}

fn used(model: &Model) -> i64 {
    model.go(1) + model.__trigger_specs().len() as i64
}

fn main() {}
