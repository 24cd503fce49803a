#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
#[serde(crate = "serde")]
struct Own {
    identifier: String,
}

#[derive(Component)]
#[serde(remote = "Other")]
struct Standing {
    identifier: String,
}

fn main() {}
