//! Kinds that two types claim, and kinds that have another name now.

use crate::support::{databases, in_memory, refused, says};
use superduper::{ErrorKind, Registry, prelude::*};

mod one {
    use superduper::prelude::*;

    #[derive(Component)]
    #[component(register = no)]
    pub(super) struct Same {
        identifier: String,
    }
}

mod other {
    use superduper::prelude::*;

    #[derive(Component)]
    #[component(register = no)]
    pub(super) struct Same {
        identifier: String,
    }
}

/// Lasts beside the local types.
#[derive(Component)]
#[component(kind = "kinds.Lasting")]
struct Lasting {
    identifier: String,
}

/// One of two tests that have a type of this name inside.
async fn first() -> Vec<Error> {
    #[derive(Component)]
    struct Twin {
        identifier: String,
    }

    let on = in_memory().await;
    let twin = Twin::builder("t").build().expect("it is complete");
    vec![
        refused(on.db.apply(&twin).await),
        refused(on.db.plan(&twin).await),
        refused(on.db.load::<Twin>("t").await),
    ]
}

fn second() -> &'static str {
    #[derive(Component)]
    struct Twin {
        identifier: String,
    }
    Twin::builder("t").build().expect("it is complete").kind()
}

#[tokio::test]
async fn two_local_types_of_one_name_are_an_error_for_their_users_alone() {
    let kind = second();
    assert_eq!(kind, "it.Twin");
    let registry = Registry::linked().expect("no database is closed by them");
    assert!(!registry.knows(kind) && registry.knows("kinds.Lasting"));
    let errors = first().await;
    for error in &errors[..2] {
        says(
            error,
            ErrorKind::UnknownKind,
            &[
                "two types are of kind `it.Twin`",
                "it::kinds::first",
                "it::kinds::second",
                "hint: give one of them `#[component(kind = \"…\")]`",
            ],
        );
    }
    for on in databases().await {
        on.db.apply(Lasting::builder("l").build().expect("built")).await.expect("applies");
        on.db.load::<Lasting>("l").await.expect("loads");
    }
}

#[test]
fn two_lasting_types_of_one_kind_are_refused_by_name() {
    let twice = Registry::builder().with::<one::Same>().with::<one::Same>().build();
    assert!(twice.expect("one type is no two").knows("it.Same"));
    let error = refused(Registry::builder().with::<one::Same>().with::<other::Same>().build());
    let parts = ["two types are of kind `it.Same`", "kinds::one::Same", "kinds::other::Same"];
    says(&error, ErrorKind::UnknownKind, &parts);
}

/// The same as it was in a crate of another name.
#[derive(Component)]
#[component(kind = "former_crate.Renamed", register = no)]
struct Former {
    identifier: String,
}

#[derive(Component)]
#[component(register = no)]
struct Renamed {
    identifier: String,
}

#[derive(Component)]
#[component(alias = "former_crate.Renamed", register = no)]
struct Aliased {
    identifier: String,
}

#[tokio::test]
async fn a_kind_of_a_renamed_crate_tells_how_to_get_it_back() {
    for on in databases().await {
        let before =
            on.program(Registry::builder().with::<Former>().build().expect("one type")).await;
        before.apply(Former::builder("r").build().expect("built")).await.expect("applies");
        let now =
            on.program(Registry::builder().with::<Renamed>().build().expect("one type")).await;
        let error = refused(now.load_dyn("former_crate.Renamed/r").await);
        says(
            &error,
            ErrorKind::UnknownKind,
            &[
                "unknown component kind `former_crate.Renamed`",
                "if `it.Renamed` is this type",
                "`#[component(alias = \"former_crate.Renamed\")]` on `it::kinds::Renamed`",
            ],
        );
        let mended =
            on.program(Registry::builder().with::<Aliased>().build().expect("one type")).await;
        let loaded = mended.load_dyn("former_crate.Renamed/r").await.expect("loads");
        assert_eq!(loaded.kind(), "it.Aliased");
    }
}
