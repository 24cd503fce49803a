use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    client: Runtime<std::rc::Rc<i64>>,
}

fn main() {}
