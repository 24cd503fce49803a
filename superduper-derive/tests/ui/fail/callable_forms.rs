#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[callable]
unsafe fn dangerous() -> Result<i64> {
    Ok(1)
}

#[callable]
fn opaque() -> Result<impl Sized> {
    Ok(1)
}

fn main() {}
