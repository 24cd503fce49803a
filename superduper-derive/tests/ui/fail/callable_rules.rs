#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[callable]
fn generic<T>(value: T) -> Result<i64> {
    Ok(1)
}

#[callable]
fn pattern((a, b): (i64, i64)) -> Result<i64> {
    Ok(a + b)
}

#[callable]
fn implied(value: impl ToString) -> Result<String> {
    Ok(value.to_string())
}

#[callable]
fn borrowed(value: &str) -> Result<String> {
    Ok(value.to_owned())
}

#[callable(my_name)]
fn named() {}

#[callable("")]
fn empty() {}

#[callable]
struct NotAFunction;

fn main() {
    let _ = Callable::of::<generic>();
}
