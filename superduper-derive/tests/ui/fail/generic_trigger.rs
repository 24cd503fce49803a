#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn start<T>(&self) {}

    #[trigger("apply")]
    fn go<'a>(&'a self) {}

    #[trigger("apply")]
    fn stop(&self) -> Result<impl Sized> {
        Ok(())
    }
}

fn main() {}
