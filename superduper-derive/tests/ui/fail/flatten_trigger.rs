#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Settings)]
struct Fit {
    epochs: u64,
    data: Option<String>,
}

#[derive(Component)]
struct Model {
    identifier: String,
    #[component(flatten)]
    fit: Fit,
}

#[triggers]
impl Model {
    #[trigger("apply", watch = "epochs")]
    fn start(&self) {}

    #[trigger("apply", watch = "fit.epoch")]
    fn go(&self) {}

    #[trigger("apply", requires = "fit.epochs")]
    fn stop(&self) {}
}

fn main() {}
