#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[callable]
fn method(&self) -> Result<i64> {
    Ok(1)
}

fn main() {}
