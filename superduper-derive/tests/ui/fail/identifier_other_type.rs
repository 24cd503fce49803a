use superduper::prelude::*;

#[derive(superduper::__private::serde::Serialize, superduper::__private::serde::Deserialize)]
#[serde(crate = "superduper::__private::serde")]
struct Name(u64);

#[derive(Component)]
struct Model {
    identifier: Name,
}

fn main() {}
