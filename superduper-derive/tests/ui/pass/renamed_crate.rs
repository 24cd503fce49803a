extern crate superduper as renamed;

// The name `superduper` leads nowhere here.
mod superduper {}

mod inside {
    pub mod duper {
        pub use renamed::*;
    }
    use duper::prelude::*;

    #[derive(Component)]
    #[component(crate = "crate::inside::duper")]
    pub struct Model {
        pub identifier: String,
        pub lr: f64,
    }

    #[triggers(crate = "crate::inside::duper")]
    impl Model {
        #[trigger("apply")]
        fn start(&self) {}
    }

    #[callable("inside.double", crate = "crate::inside::duper")]
    pub fn double(x: i64) -> Result<i64> {
        Ok(2 * x)
    }
}

fn main() {
    let model = inside::Model::builder("m").lr(1.0).build().unwrap();
    assert_eq!(renamed::Component::__trigger_specs(&model).len(), 1);
    assert_eq!(renamed::Callable::of::<inside::double>().name(), "inside.double");
}
