#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
enum Choice {
    A,
}

#[derive(Component)]
struct Pair(String, i64);

fn main() {}
