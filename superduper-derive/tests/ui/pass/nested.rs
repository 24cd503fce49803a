use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use superduper::prelude::*;

#[derive(Component)]
struct Leaf {
    identifier: String,
}

#[derive(Component)]
struct Tree {
    identifier: String,
    plain: Leaf,
    maybe: Option<Leaf>,
    boxed: Box<dyn Component>,
    list: Vec<Leaf>,
    map: HashMap<String, Arc<dyn Component>>,
    sorted: BTreeMap<String, Leaf>,
    deeper: Vec<Self>,
    next: Option<Box<Self>>,
    #[component(skip)]
    hidden: Option<Leaf>,
}

fn leaf(name: &str) -> Leaf {
    Leaf { identifier: name.into() }
}

fn tree(name: &str) -> Result<Tree> {
    Tree::builder(name)
        .plain(leaf("plain"))
        .maybe(leaf("maybe"))
        .boxed(Box::new(leaf("boxed")))
        .list(vec![leaf("l0"), leaf("l1")])
        .map(HashMap::from([("k".to_owned(), Arc::new(leaf("map")) as Arc<dyn Component>)]))
        .sorted([("s".to_owned(), leaf("sorted"))])
        .deeper(vec![])
        .build()
}

fn main() -> Result<()> {
    let mut outer = tree("outer")?;
    outer.hidden = Some(leaf("hidden"));
    outer.deeper.push(tree("inner")?);
    let mut children = Vec::new();
    outer.__visit_children(&mut |child| children.push(child.identifier().to_owned()));
    assert_eq!(children, ["plain", "maybe", "boxed", "l0", "l1", "map", "sorted", "inner"]);
    Ok(())
}
