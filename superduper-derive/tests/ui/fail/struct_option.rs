#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
#[component(knid = "acme.Model", version = "2", lifecycle = maybe, migrate = yes, kind)]
struct Model {
    identifier: String,
}

#[derive(Component)]
#[component(kind = "acme/Other", version = 0, alias = "", crate = "not a path")]
struct Other {
    identifier: String,
}

fn main() {}
