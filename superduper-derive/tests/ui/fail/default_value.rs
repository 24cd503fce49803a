#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    #[component(default = 30.5)]
    whole: u64,
    #[component(default = 30)]
    part: f64,
    #[component(default = -1)]
    positive: u8,
    #[component(default = true)]
    list: Vec<u64>,
    #[component(default = 3)]
    text: String,
    #[component(default = "x")]
    several: Vec<u64>,
    #[component(default = 5)]
    maybe: Option<u64>,
    #[component(default = thirty)]
    function: u64,
}

#[derive(Component)]
struct Other {
    identifier: String,
    #[component(default = "thirty")]
    whole: u64,
    #[component(default = "a b")]
    flag: bool,
    #[component(default = )]
    nothing: u64,
}

fn thirty() -> u64 {
    30
}

fn main() {}
