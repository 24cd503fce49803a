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
    #[trigger("call")]
    fn batch(&self) -> Result<i64> {
        Ok(1)
    }

    #[trigger("apply", depends_on = "batch")]
    fn start(&self) {}

    #[trigger("apply")]
    fn go(&self, batch: i64) {}
}

fn main() {}
