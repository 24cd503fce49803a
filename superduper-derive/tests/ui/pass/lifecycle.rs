use superduper::prelude::*;

#[derive(Component)]
struct Bare {
    identifier: String,
}

#[derive(Component)]
struct OnlyHooks {
    identifier: String,
}
impl Lifecycle for OnlyHooks {}

#[derive(Component)]
struct OnlyTriggers {
    identifier: String,
}
#[triggers]
impl OnlyTriggers {
    #[superduper::trigger("apply")]
    fn start(&self) {}
}

fn main() {
    let bare = Bare { identifier: "x".into() };
    let hooks = OnlyHooks { identifier: "x".into() };
    let triggers = OnlyTriggers { identifier: "x".into() };
    let summary = |component: &dyn Component| (component.__has_lifecycle(), component.__trigger_specs().len());
    assert_eq!(summary(&bare), (false, 0));
    assert_eq!(summary(&hooks), (true, 0));
    assert_eq!(summary(&triggers), (false, 1));

    // A type inside of a function is as good as any.
    #[derive(Component)]
    struct Local {
        identifier: String,
    }
    assert!(Local { identifier: "l".into() }.kind().ends_with(".Local"));
}
