#![allow(unused_variables, dead_code, non_camel_case_types)]
use superduper::prelude::*;

mod settings {
    use superduper::prelude::*;

    #[derive(Settings)]
    pub struct Fit {
        pub epochs: u64,
    }
}
use settings::Fit;

#[derive(Component)]
struct Model {
    identifier: String,
    #[component(flatten)]
    fit: Fit,
}

fn main() {
    let model = Model::builder("m").epochs(3).build();
}
