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
    #[trigger("apply", depend_on = "go", colour = "red")]
    fn start(&self) {}

    #[trigger("apply", retries = 1, retries = 2)]
    fn go(&self) {}

    #[trigger("apply", depends = "go", depends_on = "start", retries = "3", executor = "")]
    fn stop(&self) {}

    #[trigger("apply", timeout)]
    fn wait(&self) {}
}

fn main() {}
