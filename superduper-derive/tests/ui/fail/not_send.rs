#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    d: Option<String>,
    n: i64,
}

async fn pause() {}

#[triggers]
impl Model {
    #[trigger("apply")]
    async fn start(&self) -> Result<()> {
        let shared = std::rc::Rc::new(1);
        pause().await;
        drop(shared);
        Ok(())
    }
}

fn main() {}
