//! The life of a classifier in a database: planned, trained, left alone, changed, loaded,
//! cancelled, removed.

#[path = "table/digits.rs"]
mod table;

use std::sync::Arc;
use superduper::{Action, Artifact, Db, Error, ErrorKind, Event, Result};
use superduper_candle::{
    AdamW, Classifier, CosineWarmup, Evaluation, FitReport, FitSettings, FitSettingsSetters,
};
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;
use table::digits;

async fn database() -> Result<Db> {
    Db::builder()
        .metadata(Arc::new(MemoryStore::new()))
        .artifacts(Arc::new(ObjectStore::memory()))
        .build()
        .await
}

fn classifier(hidden: &[usize]) -> Result<Classifier> {
    Classifier::builder("digits")
        .table(Artifact::new(digits()?))
        .inputs(64)
        .classes(10)
        .hidden(hidden.to_vec())
        .seed(1)
        .optimizer(Box::new(AdamW { learning_rate: 3e-3, ..AdamW::default() }))
        .schedule(Box::new(CosineWarmup { warmup: 45, floor: 0.0 }))
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classifier_lives_in_a_database() -> Result<()> {
    let db = database().await?;
    let plan = db.plan(classifier(&[64])?).await?.to_string();
    assert!(plan.contains("1 fit of candle.Classifier/digits@0.0\n"), "{plan}");
    assert!(plan.contains("2 evaluate of candle.Classifier/digits@0.0 after 1"), "{plan}");

    let run = db.apply(classifier(&[64])?).detach().await?;
    let mut events = run.events();
    let mut progress = Vec::new();
    while let Some(event) = events.next().await? {
        if let Event::Progress { done, total, .. } = event {
            progress.push((done, total));
        }
    }
    let steps = 30 * 45;
    assert!(progress.is_sorted() && progress.last() == Some(&(steps, steps)), "{progress:?}");
    let outcome = run.wait().await?.ok_or_else(|| Error::msg("there was nothing to run"))?;
    let fitted: FitReport = outcome.result("fit")?;
    assert_eq!((fitted.rows, fitted.steps), (1438, steps));
    let scores = outcome
        .result::<Option<Evaluation>>("evaluate")?
        .ok_or_else(|| Error::msg("no rows are held out"))?;
    assert!(scores.rows == 359 && scores.accuracy >= 0.95, "{scores:?}");

    let again = db.apply(classifier(&[64])?).await?;
    assert_eq!((again.action, again.jobs().len()), (Action::Unchanged, 0));

    let changed = db.apply(classifier(&[])?).await?;
    assert_eq!((changed.action, changed.version()), (Action::NewVersion, 1));

    let table = digits()?;
    let rows: Vec<&[f32]> = (0..table.rows()).map(|row| table.row(row)).collect();
    for (version, parameters, least) in
        [(0, 64 * 64 + 64 + 64 * 10 + 10, 0.97), (1, 64 * 10 + 10, 0.9)]
    {
        let model: Classifier = db.load_version("digits", version).await?;
        assert_eq!(model.model().await?.weights()?.count(), parameters);
        let predicted = model.predict_batch(&rows).await?;
        let accuracy = superduper_candle::metrics::accuracy(&predicted, table.labels())?;
        assert!(accuracy >= least, "version {version}: {accuracy}");
        assert_eq!(model.predict(rows[0]).await?, predicted[0]);
        let error = model.predict_batch(&[&[0.0_f32; 60]]).await.unwrap_err();
        assert_eq!(error.to_string(), "row 0 has 60 features, the model needs 64");
    }

    assert_eq!(db.remove::<Classifier>("digits").await?.versions.len(), 2);
    assert!(db.list().await?.is_empty());
    assert_eq!(db.load::<Classifier>("digits").await.unwrap_err().kind(), ErrorKind::NotFound);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_training_ends_at_its_next_step() -> Result<()> {
    let db = database().await?;
    let endless = {
        let it = classifier(&[8])?;
        Classifier { fit: FitSettings { epochs: u64::MAX, ..it.fit }, ..it }
    };
    let run = db.apply(endless).detach().await?;
    let mut events = run.events();
    while let Some(event) = events.next().await? {
        if let Event::Progress { .. } = event {
            run.cancel().await?;
            break;
        }
    }
    assert_eq!(run.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    let model: Classifier = db.load("digits").await?;
    assert_eq!(
        model.predict(&[0.0; 64]).await.unwrap_err().kind(),
        ErrorKind::NotSetUp,
        "it has no weights"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_fit_fails_the_job() -> Result<()> {
    let db = database().await?;
    let narrow = Classifier { inputs: 60, ..classifier(&[8])? };
    let error = db.apply(narrow).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(
        error.to_string().contains("the table has shape [1797, 64], the model needs [rows, 60]"),
        "{error}"
    );
    let whole = {
        let it = classifier(&[8])?;
        Classifier { fit: FitSettings { held_out: 0.0, epochs: 1, ..it.fit }, ..it }
    };
    assert_eq!(db.apply(whole).await?.result::<Option<Evaluation>>("evaluate")?, None);
    Ok(())
}
