#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

struct NotSerializable;

#[triggers]
impl Model {
    #[trigger("apply")]
    fn number(&self) -> i64 {
        1
    }

    #[trigger("apply")]
    async fn opaque(&self) -> Result<NotSerializable> {
        Ok(NotSerializable)
    }
}

fn main() {}
