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
    fn train(&self) -> Result<f64> {
        Ok(1.0)
    }

    #[trigger("apply")]
    fn test(&self, train: String) {}

    #[trigger("apply")]
    async fn report(&self, train: Option<f64>, test: ()) {}
}

fn main() {}
