#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    epochs: usize,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn train(&self, db: &Db, epochs: usize) {}

    #[trigger("apply")]
    fn test(&self, db: Db, name: &str) {}
}

fn main() {}
