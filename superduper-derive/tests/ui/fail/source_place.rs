#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[source]
const NUMBER: i64 = 1;

#[source(here = 1)]
struct Model;

impl Model {
    #[source]
    fn method(&self) {}
}

fn main() {}
