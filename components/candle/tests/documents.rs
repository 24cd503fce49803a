//! The documents of the models that learn a table are what they were when each model had the
//! settings as fields of its own: rows of earlier builds are loaded, and a model of equal content has
//! the hashes on record.

use superduper::{Artifact, Component, ComponentExt, Result, json};
use superduper_candle::{
    AdamW, Classifier, ClipNorm, Constant, FitSettingsSetters, GradientHook, Optimizer, Schedule,
    Table,
};

/// The classifier as an earlier build declared it.
#[derive(Component)]
#[component(kind = "candle.Classifier", register = no)]
struct Earlier {
    identifier: String,
    #[component(breaking)]
    table: Artifact<Table>,
    #[component(breaking)]
    inputs: usize,
    #[component(breaking)]
    classes: usize,
    #[component(breaking)]
    hidden: Vec<usize>,
    #[component(breaking)]
    epochs: u64,
    #[component(breaking)]
    batch: usize,
    #[component(breaking)]
    accumulate: usize,
    #[component(breaking)]
    seed: u64,
    #[component(breaking)]
    held_out: f64,
    #[component(breaking)]
    validation: f64,
    #[component(breaking)]
    patience: Option<u32>,
    #[component(breaking)]
    optimizer: Box<dyn Optimizer>,
    #[component(breaking)]
    schedule: Box<dyn Schedule>,
    #[component(breaking)]
    hooks: Vec<Box<dyn GradientHook>>,
}

fn table() -> Result<Artifact<Table>> {
    Ok(Artifact::new(Table::new(4, vec![0.5; 8], vec![0, 1])?))
}

fn hooks() -> Vec<Box<dyn GradientHook>> {
    vec![Box::new(ClipNorm { max: 1.0 })]
}

fn earlier() -> Result<Earlier> {
    Ok(Earlier {
        identifier: "c".into(),
        table: table()?,
        inputs: 4,
        classes: 2,
        hidden: vec![64],
        epochs: 3,
        batch: 32,
        accumulate: 1,
        seed: 0,
        held_out: 0.2,
        validation: 0.1,
        patience: Some(2),
        optimizer: Box::new(AdamW::default()),
        schedule: Box::new(Constant {}),
        hooks: hooks(),
    })
}

#[test]
fn a_model_hashes_as_before_its_settings_were_shared() -> Result<()> {
    let now = Classifier::builder("c").table(table()?).inputs(4).classes(2).hidden(vec![64]);
    let now = now.epochs(3).patience(2).validation(0.1).hooks(hooks()).build()?;
    let (now, before) = (now.encode()?, earlier()?.encode()?);
    assert_eq!(now.document(), before.document());
    let hashes = |encoding: &superduper::db::Encoding| {
        let root = encoding.tree().root();
        (root.uuid.to_hex(), root.content_hash.to_hex())
    };
    assert_eq!(hashes(&now), hashes(&before));
    Ok(())
}

#[test]
fn a_document_of_an_earlier_build_is_read() -> Result<()> {
    let mut earlier = earlier()?;
    earlier.hooks.clear();
    let encoded = earlier.encode()?;
    let mut body = encoded.document().clone();
    // A field that the row lacks has its default.
    assert!(body.as_object_mut().and_then(|fields| fields.remove("batch")).is_some());
    let value = json!({"$kind": "candle.Classifier", "$version": 1, "$body": body});
    let read: Classifier =
        serde_json::from_value(value).map_err(|error| superduper::Error::msg(error.to_string()))?;
    assert_eq!((read.identifier(), read.fit.epochs, read.fit.batch), ("c", 3, 32));
    assert_eq!((read.fit.patience, read.fit.held_out), (Some(2), 0.2));
    Ok(())
}

#[test]
fn dropout_and_batch_norm_are_in_a_document_only_where_they_are_set() -> Result<()> {
    let model = |table| Classifier::builder("c").table(table).inputs(4).classes(2);
    let plain = model(table()?).build()?.encode()?.document().clone();
    assert!(plain.get("dropout").is_none() && plain.get("batch_norm").is_none(), "{plain}");
    let with = model(table()?).dropout(0.25).batch_norm(true).build()?;
    let with = with.encode()?.document().clone();
    assert_eq!((&with["dropout"], &with["batch_norm"]), (&json!(0.25), &json!(true)));
    for (body, dropout, batch_norm) in [(plain, 0.0, false), (with, 0.25, true)] {
        let value = json!({"$kind": "candle.Classifier", "$version": 1, "$body": body});
        let read: Classifier = serde_json::from_value(value)
            .map_err(|error| superduper::Error::msg(error.to_string()))?;
        assert_eq!((read.dropout, read.batch_norm), (dropout, batch_norm));
    }
    Ok(())
}
