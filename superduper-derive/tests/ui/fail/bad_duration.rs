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
    #[trigger("apply", timeout = "10", backoff = "1w")]
    fn start(&self) {}

    #[trigger("apply", timeout = 10)]
    fn go(&self) {}

    #[trigger("apply", timeout = "0s", backoff = "30m1h")]
    fn stop(&self) {}
}

fn main() {}
