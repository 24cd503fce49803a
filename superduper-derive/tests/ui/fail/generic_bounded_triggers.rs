#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
#[component(lifecycle = yes, triggers = yes)]
struct Pipeline<M> {
    identifier: String,
    model: M,
}

impl<M: Copy + Send + Sync> Lifecycle for Pipeline<M> {}

fn main() {}
