#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Pipeline<M> {
    identifier: String,
    model: M,
}

#[derive(Component)]
#[component(triggers = no, kind = "acme.Grid")]
struct Grid<const N: usize> {
    identifier: String,
}

#[derive(Component)]
struct Borrowed<'a> {
    identifier: &'a str,
}

fn main() {}
