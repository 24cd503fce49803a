#![allow(unused_variables)]
use superduper::{JobPolicy, prelude::*};

#[derive(Component)]
struct Model {
    identifier: String,
}

#[triggers]
impl Model {
    fn policy(&self) -> JobPolicy {
        JobPolicy::default()
    }
    fn limits(&self) -> u32 {
        3
    }

    #[trigger("apply", policy = "policies")]
    fn one(&self) {}

    #[trigger("apply", policy = "limits")]
    fn two(&self) {}

    #[trigger("apply", policy = "policy")]
    fn three(&self) {}
}

fn main() {}
