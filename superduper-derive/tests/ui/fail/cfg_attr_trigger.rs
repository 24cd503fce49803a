use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
}

#[triggers]
impl Model {
    #[cfg_attr(all(), trigger("apply"))]
    fn stop(&self) {}
}

fn main() {}
