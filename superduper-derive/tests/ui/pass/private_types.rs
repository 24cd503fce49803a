#![deny(warnings)]
#![deny(missing_docs, unreachable_pub)]
//! Private parts of a public component.

pub mod models {
    //! A module with a public component.
    use superduper::prelude::*;

    #[derive(superduper::__private::serde::Serialize, superduper::__private::serde::Deserialize)]
    #[serde(crate = "superduper::__private::serde")]
    struct Settings {
        lr: f64,
    }

    /// A component.
    #[derive(Component)]
    pub struct Model {
        identifier: String,
        settings: Settings,
    }

    #[derive(Component)]
    pub(super) struct Inner {
        pub(super) identifier: String,
        pub(super) lr: f64,
    }

    #[triggers]
    impl Model {
        #[trigger("apply")]
        fn start(&self) -> Result<f64> {
            Ok(self.settings.lr)
        }
    }

    /// A function.
    #[callable]
    pub fn double(x: i64) -> Result<i64> {
        Ok(2 * x)
    }

    /// Makes one.
    ///
    /// # Errors
    /// None.
    pub fn model() -> Result<Model> {
        Model::builder("m").settings(Settings { lr: 0.1 }).build()
    }
}

fn main() {
    let model = models::model().unwrap();
    assert_eq!(superduper::Component::__trigger_specs(&model).len(), 1);
    let inner = models::Inner::builder("x").lr(0.5).build().unwrap();
    assert_eq!((inner.identifier.as_str(), inner.lr), ("x", 0.5));
    assert_eq!(superduper::Callable::of::<models::double>().params()[0].ty, "i64");
}
