// Macros of the user's own can write components: names in them keep their hygiene.
use superduper::prelude::*;

macro_rules! model {
    ($name:ident { $($field:ident: $type:ty),* } -> $result:ty, $function:ident($argument:ident: $of:ty)) => {
        #[derive(Component)]
        struct $name {
            identifier: String,
            maybe: Option<i64>,
            $($field: $type),*
        }

        #[triggers]
        impl $name {
            #[trigger("apply", requires = "maybe")]
            fn first(&self) -> $result {
                Default::default()
            }

            #[trigger("apply", watch = "maybe")]
            async fn second(&self, ctx: &JobContext, first: Option<()>) -> Result<$of> {
                let _ = (ctx, first);
                Ok(Default::default())
            }
        }

        #[callable]
        fn $function($argument: $of, other: $of) -> Result<$of> {
            Ok($argument + other)
        }
    };
}

model!(Model { lr: f64, name: String } -> (), add(x: i64));

fn main() {
    let model = Model::builder("m").lr(0.1).name("n").build().unwrap();
    assert_eq!(model.__trigger_specs().len(), 2);
    assert_eq!((model.lr, model.name.as_str()), (0.1, "n"));
    assert_eq!(Callable::of::<add>().params().len(), 2);
}
