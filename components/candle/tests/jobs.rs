//! Real models trained as background jobs, in both isolations: killed, failed, paused, stopped,
//! compared.

#[path = "worker/setting.rs"]
mod setting;

use Isolation::{Process, Thread};
use setting::{STEPS_PER_EPOCH, Trouble, builder, classifier, digits, slow};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use superduper::{Component, prelude::*, store::JobFilter};
use superduper_candle::{
    AdamW, Classifier, CnnClassifier, Convolution, FitReport, FitSettings, FitSettingsSetters,
    LinearRegression, LogisticRegression, Mlp, MlpSpec, Model, Network, Optimizer, Table,
    TrainLoop, Validation, Weights, go_on, metrics::Accuracy,
};
use superduper_train::{Direction, Series, prelude::*};

/// The worker program: `target/debug/deps/jobs-…` is beside `target/debug/examples`.
fn program() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let program = folder.join("examples").join("candle-worker");
    assert!(
        program.exists(),
        "`{}` is missing; `cargo build --examples -p superduper-candle` makes it",
        program.display()
    );
    program
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    async fn db(&self) -> Db {
        builder(&self.0.path().join("db")).unwrap().program(program()).build().await.unwrap()
    }

    /// A program that trains, to be killed.
    fn parent(&self, command: &str, rest: &[&str]) -> Child {
        let mut program = Command::new(program());
        program.arg(command).arg(self.0.path().join("db")).args(rest);
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

async fn trainer(db: &Db, isolation: Isolation) -> Trainer {
    let restart = Restart { retries: 1, backoff: Span::default(), resume: false };
    LocalTrainer::new("default")
        .base(JobBase { isolation, restart, ..JobBase::default() })
        .open(db)
        .await
        .unwrap()
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..4000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it took too long: {what}");
}

fn bits(weights: &Weights) -> Vec<(String, Vec<u32>)> {
    weights
        .iter()
        .map(|(name, array)| {
            (name.to_owned(), array.data().iter().map(|value| value.to_bits()).collect())
        })
        .collect()
}

async fn bits_of(network: &Network) -> Vec<(String, Vec<u32>)> {
    bits(&network.model().await.unwrap().weights().unwrap())
}

/// What an uninterrupted training gives, in another database.
async fn uninterrupted(epochs: u64) -> Vec<(String, Vec<u32>)> {
    let place = Place::new();
    let run = trainer(&place.db().await, Thread)
        .await
        .train(classifier(epochs).unwrap(), TrainSpec::new())
        .await
        .unwrap();
    bits_of(&run.load().await.unwrap()).await
}

/// The rows that [`classifier`] learns and those that it validates on.
fn parts() -> (Table, Table) {
    digits().unwrap().split(1, 0.2).unwrap().0.split_named(1, "validation", 0.1).unwrap()
}

async fn series(run: &TrainingRun, name: &str) -> Series {
    Series::of(&run.metrics().await.unwrap(), name)
}

/// Kill a training half-way, and let it go on here.
async fn killed(isolation: Isolation, every: u64) {
    let epochs = 20;
    let place = Place::new();
    let name = if isolation == Process { "process" } else { "thread" };
    let mut parent = place.parent("train", &[&epochs.to_string(), name, &every.to_string()]);
    let db = place.db().await;
    until("checkpoints are kept", async || match db.get_model_future("killed").await {
        Ok(run) => run
            .checkpoints()
            .await
            .unwrap()
            .last()
            .is_some_and(|(_, step)| *step > 2 * STEPS_PER_EPOCH),
        Err(_) => false,
    })
    .await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    let run = db.get_model_future("killed").await.unwrap();
    until("it is interrupted", async || run.info().await.unwrap().status == Status::Interrupted)
        .await;
    let kept = run.checkpoints().await.unwrap().last().unwrap().1;
    assert!(kept < epochs * STEPS_PER_EPOCH, "it was killed half-way: {kept}");
    assert_eq!(kept % if every > 1 { every } else { STEPS_PER_EPOCH }, 0);

    let run = run.resume().await.unwrap();
    let network: Network = run.load().await.unwrap();
    assert_eq!(bits_of(&network).await, uninterrupted(epochs).await);
    let logs = run.logs().await.unwrap();
    assert!(logs.iter().any(|line| line.message.starts_with("goes on after step ")), "{logs:?}");
    assert_eq!(
        series(&run, "loss").await.points.len() as u64,
        epochs * STEPS_PER_EPOCH,
        "no step is missing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_classifier_killed_in_a_thread_ends_with_the_same_bits() {
    killed(Thread, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_classifier_killed_in_a_process_ends_with_the_same_bits() {
    killed(Process, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_classifier_killed_in_the_middle_of_an_epoch_ends_with_the_same_bits() {
    killed(Process, 29).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_an_applied_classifier_killed_half_way_ends_with_the_same_bits() {
    let place = Place::new();
    let mut parent = place.parent("apply", &["20"]);
    let db = place.db().await;
    let mut fit = None;
    until("a checkpoint is kept", async || {
        fit = db
            .jobs(JobFilter::default())
            .await
            .unwrap()
            .into_iter()
            .find(|job| job.method == "fit")
            .map(|job| job.id);
        let Some(fit) = fit else { return false };
        db.metadata()
            .checkpoints(fit)
            .await
            .unwrap()
            .last()
            .is_some_and(|kept| kept.step > 2 * STEPS_PER_EPOCH)
    })
    .await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    let fit = fit.unwrap();
    until("it went on and ended", async || {
        db.resume().await.unwrap();
        db.job(fit).await.unwrap().state.is_terminal()
    })
    .await;
    let job = db.job(fit).await.unwrap();
    assert_eq!((job.state.to_string().as_str(), job.attempt), ("succeeded", 2));
    until("it is evaluated", async || {
        db.jobs(JobFilter::default()).await.unwrap().iter().all(|job| job.state.is_terminal())
    })
    .await;

    let model: Classifier = db.load("digits").await.unwrap();
    assert_eq!(bits(&model.model().await.unwrap().weights().unwrap()), uninterrupted(20).await);
    let kept = db.metadata().checkpoints(fit).await.unwrap();
    assert_eq!(
        kept.iter().map(|row| row.step).collect::<Vec<_>>(),
        [20 * STEPS_PER_EPOCH],
        "only the last checkpoint is kept"
    );
    // The weights of that checkpoint are those of the output: one file, and no moments are left
    // behind.
    assert!(kept[0].data["state"]["moments"].is_null(), "{}", kept[0].data);
    assert_eq!(
        kept[0].data["state"]["weights"]["$blob"],
        serde_json::json!(model.weights.get().unwrap().digest().unwrap().to_string())
    );
}

async fn failed(isolation: Isolation, kills: bool) {
    let place = Place::new();
    let db = place.db().await;
    let mut module = classifier(6).unwrap();
    // In the third epoch.
    let marker = place.0.path().join("failed");
    module.fit.hooks.push(Box::new(Trouble {
        pause_micros: 0,
        fails_at: Some((100, marker.clone())),
        kills,
    }));
    let run = trainer(&db, isolation).await.train(module, TrainSpec::new()).await.unwrap();
    if kills {
        until("it waits to be killed", async || marker.exists()).await;
        // Checkpoints are written beside the training: a kill at once might come before the one of
        // the second epoch.
        until("the second epoch is on record", async || {
            run.checkpoints()
                .await
                .unwrap()
                .last()
                .is_some_and(|(_, step)| *step == 2 * STEPS_PER_EPOCH)
        })
        .await;
        let worker = std::fs::read_to_string(&marker).unwrap();
        assert!(Command::new("kill").args(["-9", &worker]).status().unwrap().success());
    }
    let network: Network = run.load().await.unwrap();
    assert_eq!(bits_of(&network).await, uninterrupted(6).await);
    assert_eq!(run.info().await.unwrap().attempt, 2);
    let logs: Vec<String> =
        run.logs().await.unwrap().into_iter().map(|line| line.message).collect();
    assert_eq!(logs, [format!("goes on after step {}", 2 * STEPS_PER_EPOCH)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_failed_classifier_goes_on_in_a_thread() {
    failed(Thread, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_failed_classifier_goes_on_in_a_process() {
    failed(Process, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_classifier_whose_worker_is_killed_goes_on_in_another_one() {
    failed(Process, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_paused_classifier_loses_no_step() {
    let place = Place::new();
    let db = place.db().await;
    let run = trainer(&db, Thread).await.train(slow(8).unwrap(), TrainSpec::new()).await.unwrap();
    until("it made some steps", async || run.metrics().await.unwrap().len() > 2).await;
    run.pause().await.unwrap();
    until("it is paused", async || run.info().await.unwrap().paused).await;
    let steps = series(&run, "loss").await.points.len() as u64;
    assert_eq!(
        run.checkpoints().await.unwrap().last().unwrap().1,
        steps,
        "the last step before the pause was kept"
    );
    assert!(steps < 8 * STEPS_PER_EPOCH);
    let network: Network = run.resume().await.unwrap().load().await.unwrap();
    assert_eq!(bits_of(&network).await, uninterrupted(8).await);
}

async fn stopped(isolation: Isolation) {
    let place = Place::new();
    let db = place.db().await;
    let run = trainer(&db, isolation)
        .await
        .train(classifier(u64::MAX).unwrap(), TrainSpec::new().id("stopped"))
        .await
        .unwrap();
    let elsewhere = place.db().await.get_model_future("stopped").await.unwrap();
    until("some epochs are done", async || {
        series(&elsewhere, "validation_loss").await.points.len() > 3
    })
    .await;
    run.stop().await.unwrap();
    assert_eq!(run.wait().await.unwrap().status, Status::Completed);
    let network: Network = run.load().await.unwrap();
    let scores = network.model().await.unwrap().scores(&parts().1).unwrap();
    let (_, best) = series(&run, "validation_loss").await.best(Direction::Lower).unwrap();
    assert_eq!(scores.loss, best, "it is the best so far");
    let accuracies = series(&run, "validation_accuracy").await;
    assert!(
        accuracies.points.iter().any(|(_, accuracy)| *accuracy == scores.metrics["accuracy"]),
        "{scores:?} {accuracies:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_stopped_classifier_is_the_best_so_far_in_a_thread() {
    stopped(Thread).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_stopped_classifier_is_the_best_so_far_in_a_process() {
    stopped(Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j16_a_training_that_gets_no_better_ends_early_with_its_best_weights() {
    let place = Place::new();
    let db = place.db().await;
    // So fast a pace overshoots soon.
    let optimizer = Box::new(AdamW { learning_rate: 0.03, ..AdamW::default() });
    let module = {
        let it = classifier(1).unwrap();
        Classifier {
            fit: FitSettings {
                patience: Some(3),
                epochs: 1000,
                optimizer,
                schedule: Box::new(superduper_candle::Constant {}),
                ..it.fit
            },
            ..it
        }
    };
    let run = trainer(&db, Thread).await.train(module, TrainSpec::new()).await.unwrap();
    let network: Network = run.load().await.unwrap();
    let losses = series(&run, "validation_loss").await;
    let (step, best) = losses.best(Direction::Lower).unwrap();
    let epoch = step / STEPS_PER_EPOCH;
    assert_eq!(losses.points.len() as u64, epoch + 1 + 3, "three epochs after the best one");
    assert!(losses.points.len() < 100 && losses.last().unwrap() > best);
    assert_eq!(network.model().await.unwrap().scores(&parts().1).unwrap().loss, best);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_of_a_trained_network_are_compared() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let (_, test) = digits().unwrap().split(1, 0.2).unwrap();
    let mut accuracies = Vec::new();
    for hidden in [vec![], vec![48]] {
        let module = Classifier { hidden, ..classifier(6).unwrap() };
        let network: Network =
            trainer.train(module, TrainSpec::new()).await.unwrap().load().await.unwrap();
        accuracies.push(network.evaluate(&test).await.unwrap().accuracy);
        let model: Box<dyn Component> = Box::new(network);
        let tables = BTreeMap::from([("test".to_owned(), Artifact::new(test.clone()))]);
        let metrics: Vec<Box<dyn superduper_candle::metrics::Metric>> = vec![Box::new(Accuracy {})];
        db.apply(
            Validation::builder("digits")
                .model(model)
                .tables(tables)
                .metrics(metrics)
                .build()
                .unwrap(),
        )
        .await
        .unwrap();
    }
    let compared =
        db.load::<Validation>("digits").await.unwrap().compare("test", "accuracy").unwrap();
    let expected = ["candle.Network/digits@0", "candle.Network/digits@1"]
        .map(str::to_owned)
        .into_iter()
        .zip(accuracies.clone());
    assert_eq!(compared, expected.collect::<BTreeMap<_, _>>());
    assert!(accuracies.iter().all(|accuracy| *accuracy > 0.85), "{accuracies:?}");
    let older: Network = db.load_version("digits", 0).await.unwrap();
    assert_eq!(older.evaluate(&test).await.unwrap().accuracy, accuracies[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_that_learns_a_table_can_be_trained_as_a_job() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Process).await;
    let table = digits().unwrap();
    let logistic = LogisticRegression::builder("logistic")
        .table(Artifact::new(table.clone()))
        .inputs(64)
        .classes(10)
        .epochs(10)
        .build()
        .unwrap();
    let images = CnnClassifier::builder("images")
        .table(Artifact::new(table.clone()))
        .image([1, 8, 8])
        .classes(10)
        .epochs(3);
    let images = images
        .convolutions(vec![Convolution { filters: 8, kernel: 3, padding: 1, pool: 2 }])
        .build()
        .unwrap();
    for run in [
        trainer.train(logistic, TrainSpec::new()).await.unwrap(),
        trainer.train(images, TrainSpec::new()).await.unwrap(),
    ] {
        let network: Network = run.load().await.unwrap();
        assert!(network.evaluate(&table).await.unwrap().accuracy > 0.7, "{}", network.identifier);
        let rows: Vec<&[f32]> = (0..10).map(|row| table.row(row)).collect();
        let (classes, probabilities) = (
            network.predict_batch(&rows).await.unwrap(),
            network.probabilities(&rows).await.unwrap(),
        );
        for (class, row) in classes.iter().zip(&probabilities) {
            assert!(
                row.iter().all(|other| *other <= row[*class as usize])
                    && (row.iter().sum::<f32>() - 1.0).abs() < 1e-5
            );
        }
        assert!(
            series(&run, "validation_loss").await.points.is_empty(),
            "without rows to validate on nothing is validated"
        );
        let error = network.predict_value(rows[0]).await.unwrap_err();
        assert!(
            error.to_string().starts_with("the network is a classifier, it predicts no values"),
            "{error}"
        );
    }

    let inputs: Vec<f32> = (0..200).map(|at| (at as f32 * 0.37).sin()).collect();
    let line = Table::of_values(1, inputs.clone(), inputs.iter().map(|x| 3.0 * x + 0.5).collect())
        .unwrap();
    let regression = LinearRegression::builder("line")
        .table(Artifact::new(line.clone()))
        .inputs(1)
        .validation(0.2);
    let regression = regression
        .optimizer(Box::new(AdamW { learning_rate: 0.05, weight_decay: 0.0, ..AdamW::default() }))
        .epochs(60)
        .build();
    let run = trainer.train(regression.unwrap(), TrainSpec::new()).await.unwrap();
    let network: Network = run.load().await.unwrap();
    assert!((network.predict_value(&[1.0]).await.unwrap() - 3.5).abs() < 0.02);
    assert!(network.regression_metrics(&line).await.unwrap().mean_squared_error < 1e-3);
    assert_eq!(series(&run, "validation_mse").await, series(&run, "validation_loss").await);
    let error = network.predict(&[1.0]).await.unwrap_err();
    assert!(error.to_string().starts_with("the network predicts values, not classes"), "{error}");
    assert_eq!(network.evaluate(&line).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_trained_says_why() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = LocalTrainer::new("default").open(&db).await.unwrap();
    let sound = || classifier(1).unwrap();
    for (wrong, what) in [
        (classifier(0).unwrap(), "with `epochs` of 0 nothing is learned"),
        (
            {
                let it = sound();
                Classifier { fit: FitSettings { batch: 0, ..it.fit }, ..it }
            },
            "with `batch` of 0",
        ),
        (
            {
                let it = sound();
                Classifier { fit: FitSettings { accumulate: 0, ..it.fit }, ..it }
            },
            "with `accumulate` of 0",
        ),
        (Classifier { hidden: vec![8, 0], ..sound() }, "has an empty layer"),
        (Classifier { hidden: vec![usize::MAX / 2, 7], ..sound() }, "fits no memory"),
        (
            {
                let it = sound();
                Classifier { fit: FitSettings { validation: 1.5, ..it.fit }, ..it }
            },
            "`validation` is a part of the rows, from 0 to 1, not 1.5",
        ),
        (
            {
                let it = sound();
                Classifier { fit: FitSettings { held_out: f64::NAN, ..it.fit }, ..it }
            },
            "`held_out` is a part of the rows",
        ),
        (
            {
                let it = sound();
                Classifier { fit: FitSettings { validation: 0.0, ..it.fit }, ..it }
            },
            "with `patience` there must be rows to validate on",
        ),
    ] {
        let error = trainer.train(wrong, TrainSpec::new()).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::InvalidInput && error.to_string().contains(what),
            "{what}: {error}"
        );
    }
    assert!(
        db.jobs(JobFilter::default()).await.unwrap().is_empty(),
        "it is refused before it is submitted"
    );
    let spec = TrainSpec::new().arg("epochs", 3_u64);
    let error = trainer.train(sound(), spec).await.unwrap_err();
    let given = "training `candle.Classifier/digits`: there is no argument `epochs`";
    assert!(error.to_string().starts_with(given), "{error}");
    assert!(error.to_string().contains("the module takes no arguments; set its fields"), "{error}");
    let module = {
        let it = sound();
        Classifier { fit: FitSettings { validation: 1.0, ..it.fit }, ..it }
    };
    let run = trainer.train(module, TrainSpec::new()).await.unwrap();
    let none = run.wait().await.unwrap().error.unwrap().to_string();
    assert!(
        none.starts_with("no rows are left to train on: `held_out` is ")
            && none.contains("`validation` is 1, of "),
        "{none}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_learns_what_the_pieces_it_is_made_of_learn() {
    let place = Place::new();
    let db = place.db().await;
    let module = {
        let it = classifier(3).unwrap();
        Classifier {
            fit: FitSettings {
                validation: 0.0,
                patience: None,
                accumulate: 1,
                batch: 32,
                hooks: Vec::new(),
                ..it.fit
            },
            ..it
        }
    };
    let fitted: FitReport = db.apply(module).await.unwrap().result("fit").unwrap();
    let learned =
        db.load::<Classifier>("digits").await.unwrap().model().await.unwrap().weights().unwrap();

    let (rows, _) = digits().unwrap().split(1, 0.2).unwrap();
    let by_hand =
        Mlp::init(MlpSpec { inputs: 64, hidden: vec![32], classes: 10, ..MlpSpec::default() }, 1)
            .unwrap();
    let optimizer = AdamW { learning_rate: 3e-3, ..AdamW::default() };
    let schedule = superduper_candle::CosineWarmup { warmup: 45, floor: 0.0 };
    let training =
        TrainLoop { epochs: 3, batch: 32, seed: 1, schedule: &schedule, ..TrainLoop::default() };
    let history =
        training.run(&by_hand, &rows, &optimizer, &mut optimizer.init(), |_| go_on()).unwrap();
    assert_eq!(bits(&learned), bits(&by_hand.weights().unwrap()));
    assert_eq!(Some(fitted.loss), history.final_loss());
    assert_eq!((fitted.rows, fitted.steps, fitted.validation), (1438, 3 * 45, None));
}
