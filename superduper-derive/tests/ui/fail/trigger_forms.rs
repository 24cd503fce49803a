#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    const NUMBER: i64 = 1;

    #[trigger("apply")]
    #[trigger("call")]
    fn twice(&self) {}

    #[trigger("apply")]
    unsafe fn dangerous(&self) {}

    #[trigger("apply")]
    extern "C" fn foreign(&self) {}

    #[trigger("apply")]
    fn exclusive(&self, ctx: &mut JobContext) {}

    #[trigger("apply", watch = ["*", "d"])]
    fn any(&self) {}

    #[trigger("apply", watch = "d-1", requires = "a.b.c")]
    fn no_field(&self) {}

    #[trigger("apply", watch = ["d", "d"])]
    fn listed(&self) {}

    #[trigger("apply")]
    fn report(&self, twice: impl Sized) {}
}

struct Borrowed<'a>(&'a str);

#[triggers]
impl<'a> Borrowed<'a> {}

fn main() {}
