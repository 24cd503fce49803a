#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

struct Opaque;

#[callable]
fn takes(value: Opaque) -> Result<i64> {
    Ok(1)
}

#[callable]
fn gives() -> i64 {
    1
}

fn not_marked() {}

struct plain {}

fn main() {
    let _ = Callable::of::<plain>();
}
