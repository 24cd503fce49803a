#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component, serde::Serialize)]
struct Model {
    identifier: String,
}

fn main() {}
