//! What the schemas of 50 kinds take, and a strict decode beside a lenient one.

use super::number;
use crate::{
    driver::{Driver, Report},
    measure::{Figures, round},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Instant};
use superduper::{Registry, prelude::*};

/// A part of a model, which many kinds hold.
#[derive(Component)]
#[component(register = no)]
struct Part {
    identifier: String,
    /// How many neurons it has.
    #[component(breaking)]
    width: u32,
    /// What is left out while it learns.
    #[component(default)]
    dropout: f64,
    activation: String,
    frozen: bool,
    note: Option<String>,
    scales: Vec<f64>,
}

/// Kinds of a dozen fields, each with documentation, defaults and children.
macro_rules! kinds {
    ($($name:ident)+) => {
        $(
            /// A model with parts.
            ///
            /// It stands for the kinds of a program.
            #[derive(Component)]
            #[component(register = no)]
            struct $name {
                identifier: String,
                /// The number of rounds.
                #[component(breaking)]
                epochs: u32,
                /// How fast it learns.
                rate: f64,
                /// How it learns.
                #[component(default = plain())]
                optimizer: String,
                seed: u64,
                tags: Vec<String>,
                limits: BTreeMap<String, f64>,
                note: Option<String>,
                parts: Vec<Part>,
                head: Option<Part>,
                data: Option<Artifact<Bytes>>,
                key: Option<Secret<String>>,
                call: Option<Callable>,
                /// What it has learnt.
                weights: Output<Vec<f32>>,
            }
        )+

        fn registry() -> Result<Registry> {
            Registry::builder().with::<Part>()$(.with::<$name>())+.build()
        }
    };
}
kinds! {
    K00 K01 K02 K03 K04 K05 K06 K07 K08 K09 K10 K11 K12 K13 K14 K15 K16 K17 K18 K19 K20 K21 K22 K23
    K24 K25 K26 K27 K28 K29 K30 K31 K32 K33 K34 K35 K36 K37 K38 K39 K40 K41 K42 K43 K44 K45 K46 K47
    K48
}

fn plain() -> String {
    "plain".to_owned()
}

pub(crate) fn schema(driver: &Driver) -> Result<()> {
    for parts in [1, 20, 200] {
        let parameters = json!({"parts": parts, "reps": driver.reps(200)});
        let result = driver.go_alone("schema", parameters)?;
        driver.emit_operations("l_schema", &vec![("parts", json!(parts))], &result);
    }
    Ok(())
}

pub(crate) async fn worker(parameters: &Value) -> Result<Value> {
    let (parts, reps) = (number(parameters, "parts"), number(parameters, "reps"));
    let mut report = Report::default();
    let kinds: Vec<&str> = registry()?.kinds().collect();
    let mut bytes = 0;
    // A registry of its own each time: nothing is known of the kinds.
    let cold = median(reps, registry, |registry| {
        bytes = 0;
        for kind in &kinds {
            bytes += registry.schema(kind)?.as_object().map_or(0, |schema| schema.len());
        }
        Ok(())
    })?;
    let mut figures = Figures::new();
    figures.insert("kinds".to_owned(), json!(kinds.len()));
    figures.insert("wall_ms".to_owned(), round(cold / 1e3));
    report.add("schemas", figures);

    let registry = registry()?;
    let document = json!([net(parts)]);
    let documents = document.as_array().cloned().unwrap_or_default();
    let encoding = registry.decode(&documents)?[0].encode()?;
    let strict = median(reps, || Ok(()), |()| registry.decode(&documents).map(drop))?;
    let lenient = median(reps, || Ok(()), |()| K00::decode(&encoding).map(drop))?;
    let mut figures = Figures::new();
    figures.insert("strict_us".to_owned(), round(strict));
    figures.insert("lenient_us".to_owned(), round(lenient));
    figures.insert("times_lenient".to_owned(), round(strict / lenient));
    report.add("decode", figures);
    Ok(report.done())
}

/// The median time of some work, in microseconds.
fn median<T>(
    reps: usize,
    before: impl Fn() -> Result<T>,
    mut work: impl FnMut(T) -> Result<()>,
) -> Result<f64> {
    let mut times = Vec::with_capacity(reps);
    for _ in 0..reps {
        let ready = before()?;
        let begun = Instant::now();
        work(ready)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[reps / 2])
}

fn net(parts: usize) -> Value {
    let part = |place: usize| {
        json!({
            "kind": "superduper_bench.Part",
            "identifier": format!("part {place}"),
            "width": 64,
            "activation": "relu",
            "frozen": false,
            "scales": [1, 0.5, 0.25],
        })
    };
    json!({
        "kind": "superduper_bench.K00",
        "identifier": "net",
        "epochs": 3,
        "rate": 0.1,
        "seed": 7,
        "tags": ["a", "b"],
        "limits": {"loss": 0.5, "time": 60},
        "parts": (0..parts).map(part).collect::<Vec<_>>(),
    })
}
