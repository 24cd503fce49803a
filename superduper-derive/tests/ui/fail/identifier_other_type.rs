#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(superduper::__private::serde::Serialize, superduper::__private::serde::Deserialize)]
#[serde(crate = "superduper::__private::serde")]
struct Name(u64);

#[derive(Component)]
struct Model {
    identifier: Name,
}

fn main() {}
