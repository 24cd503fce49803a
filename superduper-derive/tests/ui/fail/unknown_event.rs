#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

#[triggers]
impl Model {
    #[trigger("aply")]
    fn start(&self) {}

    #[trigger("insert")]
    fn go(&self) {}

    #[trigger]
    fn stop(&self) {}

    #[trigger(depends_on = "start")]
    fn wait(&self) {}

    #[trigger()]
    fn nothing(&self) {}
}

fn main() {}
