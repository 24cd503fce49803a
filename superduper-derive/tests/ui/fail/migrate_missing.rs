use superduper::prelude::*;

#[derive(Component)]
#[component(version = 2, migrate)]
struct Model {
    identifier: String,
}

fn main() {}
