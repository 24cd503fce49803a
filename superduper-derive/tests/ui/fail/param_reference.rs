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
    fn train(&self) -> Result<String> {
        Ok(String::new())
    }

    #[trigger("apply")]
    fn test(&self, train: &str) {}

    #[trigger("apply")]
    fn report(&self, _: String) {}
}

fn main() {}
