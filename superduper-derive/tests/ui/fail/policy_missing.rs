#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::{JobPolicy, prelude::*};

#[derive(Component)]
struct None {
    identifier: String,
}

#[triggers]
impl None {
    #[trigger("apply", policy = "limits")]
    fn start(&self) {}
}

#[derive(Component)]
struct Far {
    identifier: String,
}

#[triggers]
impl Far {
    fn by_size(&self) -> JobPolicy {
        JobPolicy::default()
    }

    #[trigger("apply", policy = "limits")]
    fn start(&self) {}
}

fn main() {}
