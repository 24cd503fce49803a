#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
#[component(3, version = 2 migrate)]
struct Model {
    identifier: String,
    d: Option<String>,
}

#[triggers]
impl Model {
    #[trigger("apply" retries = 3)]
    fn start(&self) {}

    #[trigger("apply", requires = d)]
    fn go(&self) {}

    #[trigger("apply", requires = ["d", 3])]
    fn stop(&self) {}
}

fn main() {}
