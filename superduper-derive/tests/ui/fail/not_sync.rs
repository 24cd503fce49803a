#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    client: Runtime<std::rc::Rc<i64>>,
}

fn main() {}
