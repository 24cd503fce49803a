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
    fn start(&self) -> Result<i64> {
        Ok(1)
    }

    #[trigger("apply")]
    fn go(&self, strat: i64) {}

    #[trigger("apply")]
    fn report(&self, ctx: JobContext) {}
}

fn main() {}
