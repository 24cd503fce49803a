// Settings in the shapes that generated code could trip over.
#![deny(warnings)]
#![allow(dead_code)]
use superduper::{Component, ComponentType, schema::HoldsSettings};

mod shared {
    /// Without an import of the prelude; a raw name, `build`, a private field.
    #[derive(superduper::Settings, Clone, Debug)]
    #[component(source)]
    #[serde(rename_all = "kebab-case")]
    pub struct Fit {
        #[component(breaking, default = 30)]
        pub max_epochs: u64,
        #[component(default = "cpu")]
        pub r#type: String,
        #[component(default = Self::LEAST)]
        pub build: f32,
        #[component(default = Box::new(|| 1).clone()())]
        hidden: i64,
    }

    impl Fit {
        const LEAST: f32 = 0.5;
    }

    #[derive(superduper::Settings)]
    pub(crate) struct Empty {}
}
use shared::{Fit, FitSetters};

#[derive(Component)]
#[component(lifecycle = no, triggers = no)]
#[serde(rename_all = "camelCase")]
struct Model<M: Component> {
    identifier: String,
    #[component(flatten)]
    the_fit: Fit,
    #[component(flatten)]
    empty: shared::Empty,
    model: Option<M>,
}

#[derive(Component)]
struct Leaf {
    identifier: String,
    #[component(flatten)]
    r#fn: Fit,
}
superduper::register!(Model<Leaf> as "acme.ModelOfLeaf");

// A function for the builders of all components with these settings.
fn quick<B: HoldsSettings<Fit>>(builder: B) -> B {
    builder.max_epochs(1).r#type("gpu")
}

fn main() -> superduper::Result<()> {
    let leaf = quick(Leaf::builder("l")).with_build(2.0).build()?;
    assert_eq!((leaf.r#fn.max_epochs, leaf.r#fn.build), (1, 2.0));
    let empty = shared::Empty::builder().build()?;
    let model = Model::<Leaf>::builder("m").model(leaf).empty(empty).build()?;
    assert_eq!(model.the_fit.max_epochs, 30);
    let keys: Vec<&str> = Model::<Leaf>::SPEC.fields.iter().map(|field| field.key).collect();
    assert_eq!(keys, ["identifier", "max-epochs", "type", "build", "hidden", "model"]);
    let paths: Vec<String> = Leaf::SPEC.fields.iter().map(|field| field.path()).collect();
    assert_eq!(paths[1], "fn.max-epochs");
    let written = superduper::json!(model);
    assert_eq!(written["$body"]["max-epochs"], 30);
    let read: Model<Leaf> = superduper::__private::serde::Deserialize::deserialize(written)
        .map_err(|error| superduper::Error::msg(format!("{error}")))?;
    assert_eq!(read.the_fit.r#type, "cpu");
    Ok(())
}
