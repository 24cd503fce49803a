//! Applies one component and prints all that must be the same in every build: the plan, hashes,
//! documents, a bundle.
//!
//! `superduper-features DIR` makes a database in `DIR`; on one that another build made there must
//! be nothing to do. The features `precise` and `ordered` stand for crates of a program that switch
//! on features of serde_json.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};
use superduper::{Digest, prelude::*};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Shape {
    Circle { radius: f64, count: u64 },
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    a: i64,
    #[serde(flatten)]
    rest: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Whole(i64),
    Float(f64),
}

#[derive(Component, Debug, Clone)]
#[component(kind = "features.Part")]
struct Part {
    identifier: String,
    weights: Artifact<Tensors>,
    any: Value,
}

#[derive(Component, Debug, Clone)]
#[component(kind = "features.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    zeta: f64,
    #[component(breaking)]
    any: Value,
    // Not in the order of their names: neither children nor keys follow the source.
    zoo: Part,
    ark: Part,
    shape: Shape,
    nothing: Shape,
    flat: Flat,
    either: Vec<Either>,
    map: HashMap<String, Value>,
    #[serde(with = "superduper::sorted")]
    set: HashSet<i64>,
    small: f32,
    big: u64,
    huge: i128,
    done: Output<Value>,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn go(&self, ctx: &JobContext) -> Result<Value> {
        ctx.set(&self.done, json!({"z": 1.5, "a": [1, 2.25], "small": f64::from(self.small)}))?;
        Ok(json!({"x": 0.1, "n": 3, "any": self.any}))
    }
    #[trigger("apply")]
    fn after(&self, go: Value) -> Result<f64> {
        Ok(go["x"].as_f64().unwrap_or(-1.0))
    }
    #[trigger("apply")]
    fn shapes(&self) -> Result<(Shape, Flat, Vec<Either>)> {
        Ok((self.shape.clone(), self.flat.clone(), self.either.clone()))
    }
}

fn part(identifier: &str) -> Result<Part> {
    let weights = Tensors::new().with("w", &[2], &[0.1_f32, 0.2])?.with("a", &[1], &[1_u8])?;
    Ok(Part { identifier: identifier.into(), weights: weights.into(), any: json!({"z": 0.5, "a": {"y": 1, "b": 2}}) })
}

fn model() -> Result<Model> {
    Ok(Model {
        identifier: "m".into(),
        zeta: 0.1,
        any: json!({"z": 1, "a": 2.5, "m": [1e300, -0.0, u64::MAX, i64::MIN, 5e-324]}),
        zoo: part("zoo")?,
        ark: part("ark")?,
        shape: Shape::Circle { radius: 1.5, count: 3 },
        nothing: Shape::None,
        flat: Flat { a: 1, rest: BTreeMap::from([("q".into(), 2.5)]) },
        either: vec![Either::Whole(1), Either::Float(2.5)],
        map: (0..5).map(|number| (format!("k{number}"), json!({"z": number, "a": 0.5}))).collect(),
        set: (0..20).collect(),
        small: 0.1,
        big: u64::MAX,
        huge: 12,
        done: Output::empty(),
    })
}

fn fail<T>(text: String) -> Result<T> {
    Err(Error::msg(text))
}

async fn run(folder: &Path) -> Result<String> {
    let db = Db::open(folder.join("db")).await?;
    let known = !db.list().await?.is_empty();
    let plan = db.plan(model()?).await?;
    if known && !plan.is_empty() {
        return fail(format!("another build made this database, and there is something to do:\n{plan}"));
    }
    let mut facts = Vec::new();
    if !known {
        facts.push(plan.to_string());
        facts.push(plan.to_json().to_string());
        let applied = db.apply(model()?).await?;
        facts.push(format!(
            "after {}, shapes {:?}",
            applied.result::<f64>("after")?,
            applied.result::<(Shape, Flat, Vec<Either>)>("shapes")?
        ));
        let changed = Model { any: json!({"z": {"y": 1.5, "b": 2}, "a": 2.5}), small: 0.3, ..model()? };
        facts.push(db.plan(changed).await?.to_string());
    }
    let again = db.apply(model()?).await?;
    if !again.jobs().is_empty() {
        return fail(format!("an apply of what is stored ran {} jobs", again.jobs().len()));
    }
    for component in plan.components() {
        facts.push(format!("{} {} {}", component.address, component.uuid, component.content_hash));
        let shown = db.show(component.address.path().as_str()).await?;
        facts.push(format!("fields {} outputs {}", shown["fields"], shown["outputs"]));
    }
    let back: Model = db.load("m").await?;
    let given = model()?;
    let same =
        (back.any == given.any, back.shape == given.shape, back.flat == given.flat, back.either == given.either, back.map == given.map);
    if same != (true, true, true, true, true) || back.small != given.small {
        return fail(format!("what is loaded is not what was applied: {back:?}"));
    }
    facts.push(format!("{:?} {:?}", back.done.get()?.to_string(), back.zoo.weights.get().await?.to_vec::<f32>("w").await?));
    let bundle = folder.join("m.tar");
    db.export("features.Model/m", &bundle).await?;
    facts.push(format!("bundle {}", Digest::of(&std::fs::read(&bundle)?)));
    std::fs::remove_file(&bundle)?;
    let found = db.verify().await?;
    facts.push(found.to_string());
    Ok(facts.join("\n"))
}

#[tokio::main]
async fn main() -> Result<()> {
    use std::io::Write;
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return fail("the folder is the only argument".into());
    };
    let facts = run(&folder).await?;
    writeln!(std::io::stdout(), "{facts}")?;
    Ok(())
}
