// Shapes that generated code could trip over.
#![deny(warnings)]
#![allow(dead_code)]
use std::sync::Arc;
use superduper::{Component, ComponentType, prelude::*};

type Name = String;
type Text = std::result::Result<String, std::fmt::Error>;

// No import of `serde`, `Vec`, `Option` or `Result` can mislead generated code.
mod hostile {
    use superduper::{Component, Output, Runtime, callable, triggers};
    #[allow(dead_code)]
    struct Box;
    #[allow(dead_code)]
    struct Result;
    #[allow(dead_code)]
    enum Mine {
        Some,
        None,
        Ok,
        Err,
    }
    #[allow(unused_imports)]
    use Mine::*;

    #[derive(Component)]
    pub(crate) struct Model {
        pub(crate) identifier: std::string::String,
        pub(crate) value: i64,
        pub(crate) visit: std::option::Option<i64>,
        pub(crate) serializer: std::vec::Vec<i64>,
        pub(crate) component: Output<i64>,
        pub(crate) ctx: Runtime<i64>,
    }

    #[triggers]
    impl Model {
        #[trigger("apply", requires = "visit")]
        fn this(&self) {}

        #[trigger("apply")]
        async fn output(&self, this: (), context: &superduper::JobContext) {
            let _ = (this, context);
        }
    }

    #[callable]
    pub(crate) fn output(args: i64, output: i64) -> std::result::Result<i64, superduper::Error> {
        std::result::Result::Ok(args + output)
    }
}

#[derive(Component)]
struct Shapes {
    identifier: Name,
    unit: (),
    array: [Option<Leaf>; 2],
    shared: Arc<Leaf>,
    function: Callable,
    last: Option<Arc<dyn Component>>,
}

#[derive(Component, Clone, Debug, PartialEq)]
struct Leaf {
    identifier: Arc<str>,
}

impl Drop for Leaf {
    fn drop(&mut self) {}
}

#[triggers]
impl Shapes {
    #[trigger("apply")]
    fn text(&self) -> Text {
        Ok(String::new())
    }

    #[trigger("apply", depends_on = "text")]
    fn boxed(&self, text: String) -> std::result::Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(vec![text])
    }

    #[trigger("call")]
    async fn own(&self) -> Result<Self> {
        Err(Error::msg("no"))
    }
}

fn component<T: ComponentType>(_: &T) -> usize {
    T::SPEC.fields.len()
}

fn main() -> Result<()> {
    let model = hostile::Model::builder("m").value(1).serializer([1]).build()?;
    assert_eq!((component(&model), model.__trigger_specs().len()), (4, 2));
    let leaf = Leaf::builder("l").build()?;
    let shapes = Shapes::builder("s")
        .unit(())
        .array([Some(leaf.clone()), None])
        .shared(leaf.clone())
        .function(Callable::of::<hostile::output>())
        .last(Arc::new(leaf) as Arc<dyn Component>)
        .build()?;
    let mut children = 0;
    shapes.__visit_children(&mut |_| children += 1);
    assert_eq!((component(&shapes), children), (6, 3));
    assert_eq!(shapes.__trigger_specs().len(), 3);
    Ok(())
}
