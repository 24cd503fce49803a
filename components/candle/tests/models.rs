//! The other models that are ready to be applied, on the handwritten digits of `examples/data` and
//! on a made-up line; and their validation, by table and version.

#[path = "table/digits.rs"]
mod table;

use std::{collections::BTreeMap, sync::Arc};
use superduper::{Action, Artifact, Component, Db, Error, ErrorKind, Result};
use superduper_candle::{
    AdamW, Architecture, Array, Classifier, Cnn, CnnClassifier, CnnSpec, Convolution, CosineWarmup,
    Evaluation, FitSettings, FitSettingsSetters, LinearRegression, LogisticRegression, MlpSpec,
    Optimizer, OptimizerState, RegressionMetrics, Rng, Sgd, Table, TrainLoop, Validated,
    Validation, Weights, go_on,
    metrics::{Accuracy, Auc, MacroF1, MeanSquaredError, Metric, Perplexity},
    stop,
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

/// `2 a - b + 0.5`, with noise up to 0.01.
fn line() -> Result<Table> {
    let mut rng = Rng::named(3, "line");
    let mut uniform = || rng.uniform() * 2.0 - 1.0;
    let (mut features, mut values) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        let (a, b) = (uniform(), uniform());
        features.extend([a, b]);
        values.push(2.0 * a - b + 0.5 + 0.01 * uniform());
    }
    Table::of_values(2, features, values)
}

fn convolutions() -> Vec<Convolution> {
    [(8, 2), (16, 1)]
        .map(|(filters, pool)| Convolution { filters, kernel: 3, padding: 1, pool })
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_convolutional_classifier_learns_digits() -> Result<()> {
    let db = database().await?;
    let component = CnnClassifier::builder("digits")
        .table(Artifact::new(digits()?))
        .image([1, 8, 8])
        .convolutions(convolutions())
        .hidden(vec![32])
        .classes(10)
        .seed(1)
        .epochs(20)
        .optimizer(Box::new(AdamW { learning_rate: 3e-3, ..AdamW::default() }))
        .schedule(Box::new(CosineWarmup { warmup: 45, floor: 0.0 }))
        .build()?;
    let scores = db
        .apply(component)
        .await?
        .result::<Option<Evaluation>>("evaluate")?
        .ok_or_else(|| Error::msg("none held out"))?;
    assert!(scores.rows == 359 && scores.accuracy >= 0.97, "{scores:?}");

    let model: CnnClassifier = db.load("digits").await?;
    let table = digits()?;
    let rows: Vec<&[f32]> = (0..100).map(|row| table.row(row)).collect();
    let predicted = model.predict_batch(&rows).await?;
    assert!(predicted.iter().zip(table.labels()).filter(|(a, b)| a == b).count() >= 97);
    assert_eq!(model.predict(rows[3]).await?, predicted[3]);
    assert_eq!(
        model.predict(&[0.0; 63]).await.unwrap_err().to_string(),
        "row 0 has 63 features, the model needs 64"
    );
    Ok(())
}

#[test]
fn a_continued_convolutional_training_ends_with_the_same_bits() -> Result<()> {
    let (train, _) = digits()?.split(1, 0.6)?;
    let spec = || CnnSpec {
        image: [1, 8, 8],
        convolutions: convolutions(),
        hidden: vec![16],
        classes: 10,
        ..CnnSpec::default()
    };
    let training = TrainLoop {
        epochs: 2,
        seed: 2,
        schedule: &CosineWarmup { warmup: 5, floor: 0.1 },
        ..TrainLoop::default()
    };
    let optimizer = AdamW { learning_rate: 3e-3, ..AdamW::default() };
    let whole = Cnn::init(spec(), 1)?;
    let mut state = optimizer.init();
    let history = training.run(&whole, &train, &optimizer, &mut state, |_| go_on())?;

    let first = Cnn::init(spec(), 1)?;
    let mut saved = optimizer.init();
    let begun = training.run(&first, &train, &optimizer, &mut saved, |step| {
        if step.step == 30 { stop() } else { go_on() }
    })?;
    let text = serde_json::to_string(&(first.weights()?, &saved))?;
    let (weights, mut restored): (Weights, OptimizerState) = serde_json::from_str(&text)?;
    let second = Cnn::from_weights(spec(), &weights)?;
    let ended = training.run(&second, &train, &optimizer, &mut restored, |_| go_on())?;

    let bits = |model: &Cnn| {
        Ok::<_, Error>(
            model
                .weights()?
                .iter()
                .flat_map(|(_, array)| array.data().to_vec())
                .map(f32::to_bits)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(bits(&second)?, bits(&whole)?);
    assert_eq!(restored, state);
    assert_eq!([begun.losses, ended.losses].concat(), history.losses);
    assert!(
        history.final_loss().is_some_and(|loss| loss < 0.93 * f64::from(history.losses[0])),
        "{:?}",
        history.final_loss()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn linear_models_learn() -> Result<()> {
    let db = database().await?;
    let logistic = LogisticRegression::builder("digits")
        .table(Artifact::new(digits()?))
        .inputs(64)
        .classes(10)
        .seed(1);
    let logistic = logistic
        .optimizer(Box::new(Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4 }))
        .build()?;
    let scores = db
        .apply(logistic)
        .await?
        .result::<Option<Evaluation>>("evaluate")?
        .ok_or_else(|| Error::msg("none held out"))?;
    assert!(scores.accuracy >= 0.93, "{scores:?}");
    let logistic: LogisticRegression = db.load("digits").await?;
    assert_eq!(logistic.model().await?.weights()?.count(), 650);
    assert_eq!(logistic.predict(digits()?.row(0)).await?, 0);

    let line = LinearRegression::builder("line").table(Artifact::new(line()?)).inputs(2);
    let line = line
        .optimizer(Box::new(AdamW { learning_rate: 0.05, weight_decay: 0.0, ..AdamW::default() }))
        .build()?;
    let scores = db
        .apply(line)
        .await?
        .result::<Option<RegressionMetrics>>("evaluate")?
        .ok_or_else(|| Error::msg("none held out"))?;
    // Uniform noise of ±0.01 has a variance of 1e-4 / 3.
    assert!(
        scores.rows == 80
            && scores.mean_squared_error < 6e-5
            && scores.r2.is_some_and(|r2| r2 > 0.9999),
        "{scores:?}"
    );
    let line: LinearRegression = db.load("line").await?;
    let weights = line.model().await?.weights()?;
    let near = |name: &str, expected: &[f32]| {
        weights
            .get(name)
            .unwrap()
            .data()
            .iter()
            .zip(expected)
            .all(|(found, expected)| (found - expected).abs() < 0.01)
    };
    assert!(near("l1.weight", &[2.0, -1.0]) && near("l1.bias", &[0.5]), "{weights:?}");
    assert!((line.predict(&[1.0, 1.0]).await? - 1.5).abs() < 0.02);
    assert_eq!(line.predict_batch(&[[0.0, 0.0], [1.0, 0.0]]).await?.len(), 2);

    let wrong =
        LinearRegression::builder("wrong").table(Artifact::new(digits()?)).inputs(64).build()?;
    let error = db.apply(wrong).await.unwrap_err();
    assert!(
        error.to_string().contains("the table has classes, the model needs values to predict"),
        "{error}"
    );
    Ok(())
}

fn classifier(hidden: &[usize]) -> Result<Classifier> {
    let (train, _) = digits()?.split(1, 0.3)?;
    Classifier::builder("digits")
        .table(Artifact::new(train))
        .inputs(64)
        .classes(10)
        .hidden(hidden.to_vec())
        .epochs(6)
        .held_out(0.0)
        .build()
}

fn validation(
    model: impl Component,
    tables: &[(&str, Table)],
    metrics: Vec<Box<dyn Metric>>,
) -> Result<Validation> {
    let tables = tables
        .iter()
        .map(|(name, table)| ((*name).to_owned(), Artifact::new(table.clone())))
        .collect::<BTreeMap<_, _>>();
    Validation::builder("digits").model(Box::new(model)).tables(tables).metrics(metrics).build()
}

fn class_metrics() -> Vec<Box<dyn Metric>> {
    vec![Box::new(Accuracy {}), Box::new(MacroF1 {}), Box::new(Auc {}), Box::new(Perplexity {})]
}

#[tokio::test(flavor = "multi_thread")]
async fn l11_a_validation_result_is_stored_under_table_and_version() -> Result<()> {
    let db = database().await?;
    let (_, test) = digits()?.split(1, 0.3)?;
    let small = test.select(&(0..50).collect::<Vec<_>>())?;
    let tables = [("small", small.clone()), ("test", test.clone())];
    let found: Vec<Validated> = db
        .apply(validation(classifier(&[])?, &tables, class_metrics())?)
        .await?
        .result("validate")?;
    assert_eq!(
        found.iter().map(|result| (result.table.as_str(), result.rows)).collect::<Vec<_>>(),
        [("small", 50), ("test", test.rows())]
    );
    let scores = &found[1].scores;
    assert_eq!(scores.keys().collect::<Vec<_>>(), ["accuracy", "auc", "macro_f1", "perplexity"]);
    assert!(
        scores["accuracy"] > 0.8 && scores["auc"] > 0.95 && scores["perplexity"] > 1.0,
        "{scores:?}"
    );
    // The scores are those of the model's own predictions.
    let model: Classifier = db.load("digits").await?;
    let rows: Vec<&[f32]> = (0..test.rows()).map(|row| test.row(row)).collect();
    let predicted = model.predict_batch(&rows).await?;
    assert_eq!(
        scores["accuracy"],
        superduper_candle::metrics::accuracy(&predicted, test.labels())?
    );

    assert_eq!(
        db.apply(validation(classifier(&[])?, &tables, class_metrics())?).await?.action,
        Action::Unchanged
    );

    // Another version of the model: its results stand beside the others.
    db.apply(validation(classifier(&[32])?, &tables, class_metrics())?).await?;
    let stored: Validation = db.load("digits").await?;
    assert_eq!(stored.results.get()?.len(), 4);
    let compared = stored.compare("test", "accuracy")?;
    assert_eq!(
        compared.keys().collect::<Vec<_>>(),
        ["candle.Classifier/digits@0", "candle.Classifier/digits@1"]
    );
    assert_eq!(compared["candle.Classifier/digits@0"], scores["accuracy"]);
    assert!(stored.compare("test", "speed")?.is_empty());
    assert_eq!(stored.compare("other", "auc").unwrap_err().kind(), ErrorKind::NotFound);

    // Other rows under the same name are not compared with what they replace, which stays on
    // record.
    db.apply(validation(classifier(&[32])?, &[("test", small)], class_metrics())?).await?;
    let stored: Validation = db.load("digits").await?;
    assert_eq!(
        stored.compare("test", "accuracy")?.keys().collect::<Vec<_>>(),
        ["candle.Classifier/digits@1"]
    );
    assert_eq!(stored.results.get()?.len(), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_validated_says_why() -> Result<()> {
    let db = database().await?;
    let error = db
        .apply(validation(
            classifier(&[])?,
            &[("line", digits()?)],
            vec![Box::new(MeanSquaredError {})],
        )?)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the metric `mean_squared_error` is for values"), "{error}");

    let regression = LinearRegression::builder("line").table(Artifact::new(line()?)).inputs(2);
    let regression = regression
        .optimizer(Box::new(AdamW { learning_rate: 0.05, ..AdamW::default() }))
        .build()?;
    let found = validation(regression, &[("line", line()?)], vec![Box::new(MeanSquaredError {})])?;
    let found: Vec<Validated> = db
        .apply(Validation { identifier: "line".to_owned(), ..found })
        .await?
        .result("validate")?;
    assert_eq!(found[0].model, "candle.LinearRegression/line@0");
    assert!(found[0].scores["mean_squared_error"] < 0.01, "{found:?}");

    let inner = validation(classifier(&[])?, &[("t", digits()?)], Vec::new())?;
    let outer = Validation {
        identifier: "outer".to_owned(),
        ..validation(inner, &[("t", digits()?)], vec![Box::new(Accuracy {})])?
    };
    let error = db.apply(outer).await.unwrap_err();
    assert!(
        error.to_string().contains("`candle.Validation/digits` cannot predict a table"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_list_of_metrics_adds_to_the_results() -> Result<()> {
    let db = database().await?;
    let tables = [("digits", digits()?)];
    db.apply(validation(classifier(&[])?, &tables, vec![Box::new(Accuracy {})])?).await?;
    db.apply(validation(classifier(&[])?, &tables, vec![Box::new(Auc {})])?).await?;
    let stored: Validation = db.load("digits").await?;
    assert_eq!(stored.results.get()?.len(), 1);
    for metric in ["accuracy", "auc"] {
        assert_eq!(stored.compare("digits", metric)?.len(), 1, "{metric}");
    }
    let twice: Vec<Box<dyn Metric>> =
        vec![Box::new(Accuracy {}), Box::new(Auc {}), Box::new(Accuracy {})];
    let error = db.apply(validation(classifier(&[])?, &tables, twice)?).await.unwrap_err();
    assert!(error.to_string().contains("two metrics have the name `accuracy`"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_number_is_never_a_result() -> Result<()> {
    let spec = MlpSpec { inputs: 2, hidden: vec![4], classes: 3, ..MlpSpec::default() };
    let architecture = Architecture::Mlp(spec);
    let model = architecture.init(1)?;
    let weights = model.weights()?;
    let mut broken = weights.clone();
    broken.insert("l1.bias", Array::new([4], vec![0.0, f32::NAN, 0.0, 0.0])?);
    let error = architecture.with_weights(&broken).unwrap_err();
    assert_eq!(error.to_string(), "parameter `l1.bias` has the value NaN at place 1");
    let mut large = weights.clone();
    large.insert("l2.weight", Array::new([3, 4], vec![1e30; 12])?);
    large.insert("l1.bias", Array::new([4], vec![1.0; 4])?);
    let error =
        architecture.with_weights(&large)?.predict_batch(&[[0.0, 0.0], [1e20, -1e20]]).unwrap_err();
    assert!(
        error.to_string().contains("for row 1")
            && error.to_string().starts_with("the network gives"),
        "{error}"
    );
    let error = Table::new(1, vec![1.0, 2e38], vec![0, 0])?.scaled(2.0).unwrap_err();
    assert_eq!(error.to_string(), "row 1, column 0 is inf when multiplied by 2");
    let many: Vec<[f32; 2]> = (0..3000).map(|row| [row as f32 / 3000.0, 1.0]).collect();
    let (all, some) = (model.predict_batch(&many)?, model.predict_batch(&many[2900..])?);
    assert_eq!((all.len(), &all[2900..]), (3000, &some[..]), "in chunks or at once");

    // A training that diverges publishes nothing.
    let db = database().await?;
    let wild = classifier(&[])?;
    let wild = {
        let it = wild;
        Classifier {
            fit: FitSettings {
                optimizer: Box::new(Sgd { learning_rate: 3e38, ..Sgd::default() }),
                ..it.fit
            },
            ..it
        }
    };
    assert!(db.apply(wild).await.is_err());
    assert!(db.load::<Classifier>("digits").await?.network().is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_settings_that_do_not_fit_are_refused_before_anything_is_learned() -> Result<()> {
    let db = database().await?;
    let refused = async |classifier: Classifier, what: &str| {
        let error = db
            .apply(Classifier { identifier: what.replace(' ', "_"), ..classifier })
            .await
            .unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
    };
    // The only row of class 9 may be among those held out.
    let mut labels = vec![0; 100];
    labels[17] = 9;
    for seed in 0..4 {
        let table = Artifact::new(Table::new(64, vec![0.5; 6400], labels.clone())?);
        refused(
            {
                let it = classifier(&[])?;
                Classifier {
                    table,
                    classes: 9,
                    fit: FitSettings { seed, held_out: 0.5, ..it.fit },
                    ..it
                }
            },
            "row 17 is of class 9",
        )
        .await;
    }
    refused(
        {
            let it = classifier(&[])?;
            Classifier { fit: FitSettings { epochs: 0, ..it.fit }, ..it }
        },
        "with `epochs` of 0",
    )
    .await;
    refused(
        {
            let it = classifier(&[])?;
            Classifier { fit: FitSettings { held_out: f64::NAN, ..it.fit }, ..it }
        },
        "",
    )
    .await;
    refused(
        {
            let it = classifier(&[])?;
            Classifier { fit: FitSettings { patience: Some(2), ..it.fit }, ..it }
        },
        "with `patience`",
    )
    .await;
    let schedule = Box::new(CosineWarmup { warmup: 0, floor: -1.0 });
    refused(
        {
            let it = classifier(&[])?;
            Classifier { fit: FitSettings { schedule, ..it.fit }, ..it }
        },
        "gives the factor -",
    )
    .await;
    for text in [
        r#"{"type": "candle.Constant", "floor": 1}"#,
        r#"{"type": "candle.CosineWarmup", "flor": 1}"#,
    ] {
        assert!(
            serde_json::from_str::<Box<dyn superduper_candle::Schedule>>(text).is_err(),
            "{text}"
        );
    }
    assert!(
        serde_json::from_str::<Architecture>(
            r#"{"type": "mlp", "inputs": 2, "hiden": [3], "hidden": [], "classes": 2}"#
        )
        .is_err()
    );
    Ok(())
}
