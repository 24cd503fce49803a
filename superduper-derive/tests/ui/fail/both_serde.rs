use superduper::prelude::*;

#[derive(Component, serde::Serialize)]
struct Model {
    identifier: String,
}

fn main() {}
