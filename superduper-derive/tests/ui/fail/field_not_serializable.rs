#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

struct Client;

#[derive(Component)]
struct Model {
    identifier: String,
    client: Client,
}

fn main() {}
