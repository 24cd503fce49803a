use superduper::prelude::*;

struct Client;

#[derive(Component)]
struct Model {
    identifier: String,
    client: Client,
}

fn main() {}
