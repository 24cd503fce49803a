//! One training of an id, whoever asks first; and modules whose type is only known at run time.

use crate::{
    crashes::{children, ended},
    modules::{Gauge, Unknown, storm_spec},
    support::*,
};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use superduper::{prelude::*, store::JobFilter};
use superduper_train::{Args, Rng, prelude::*};

/// A process that trains the id `once`, or goes on with it, and writes the model's bits to a file.
fn once(folder: &Path, steps: u64, isolation: Isolation, out: &Path) -> Child {
    let isolation = if isolation == Process { "process" } else { "thread" };
    let mut command = Command::new(program());
    command
        .args(["once", folder.to_str().unwrap(), &steps.to_string(), isolation])
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Two processes ask for one training; they and their job processes are killed, and started again
/// until both have the model.
async fn storm_of_two(place: &Place, isolation: Isolation, steps: u64, kills: u64) -> [PathBuf; 2] {
    let folder = place.path("db");
    let outs = [place.path("first"), place.path("second")];
    let start = |at: usize| once(&folder, steps, isolation, &outs[at]);
    let mut processes = [start(0), start(1)];
    let mut random = Rng::new(kills);
    let mut killed = 0;
    while !outs.iter().all(|out| out.exists()) {
        tokio::time::sleep(Duration::from_millis(60 + random.below(120))).await;
        let at = random.below(2) as usize;
        let workers = children(processes[at].id());
        let worker = workers.first().and_then(|pid| rustix::process::Pid::from_raw(*pid));
        match worker.filter(|_| random.below(2) == 0) {
            Some(worker) if killed < kills => {
                let _ = rustix::process::kill_process(worker, rustix::process::Signal::KILL);
                killed += 1;
            }
            None if killed < kills && folder.join("metadata.sqlite").exists() => {
                processes[at].kill().unwrap();
                killed += 1;
            }
            _ => {}
        }
        for (at, process) in processes.iter_mut().enumerate() {
            // One that was killed, or that was told that the job lost three processes.
            if process.try_wait().unwrap().is_some() && !outs[at].exists() {
                *process = start(at);
            }
        }
    }
    for process in &mut processes {
        ended(process).await;
    }
    assert_eq!(killed, kills, "the training lasts as long as the storm");
    outs
}

both! {
    async fn n15_two_processes_get_the_model_of_one_training(isolation: Isolation) {
        // No kills: a plain race for the submission. Then with kills on both sides.
        for (steps, kills) in [(20, 0), (800, 8)] {
            let place = Place::new();
            let outs = storm_of_two(&place, isolation, steps, kills).await;
            let [first, second] = outs.map(|out| std::fs::read_to_string(out).unwrap());
            assert!(!first.is_empty() && first == second, "both have the same model");
            let db = place.db().await;
            let jobs = db.jobs(JobFilter::default()).await.unwrap();
            let submitted = jobs.iter().filter(|job| job.retry_of.is_none()).count();
            assert_eq!(submitted, 1, "one of them submitted it: {jobs:#?}");
            let done = jobs.iter().filter(|job| job.state == superduper::store::JobState::Succeeded);
            assert_eq!(done.count(), 1, "it was trained to its end once");
            let calm = LocalTrainer::new("calm").open(&db).await.unwrap();
            let spec = storm_spec(1).id("calm").arg("pause_ms", 0_u64);
            let expected: Walk = calm.train(Walk::new("loop", steps), spec).await.unwrap().load().await.unwrap();
            let bits: Vec<String> = expected.trace.iter().map(u64::to_string).collect();
            assert_eq!(first, bits.join(" "), "bit for bit");
        }
    }

    async fn n15_each_state_of_a_training_is_gone_on_with(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        // Done: its model, and nothing else.
        let spec = || TrainSpec::new().seed(3);
        let first = trainer.train_or_resume("done", Walk::new("loop", 5), spec()).await.unwrap();
        let model = first.load::<Walk>().await.unwrap();
        let again = trainer.train_or_resume("done", Walk::new("loop", 5), spec().wait()).await.unwrap();
        assert_eq!(again.job(), first.job());
        assert_eq!(again.load::<Walk>().await.unwrap().trace, model.trace);
        // Purged: it is trained again.
        first.purge().await.unwrap();
        let anew = trainer.train_or_resume("done", Walk::new("loop", 5), spec()).await.unwrap();
        assert_ne!(anew.job(), first.job());
        assert_eq!(anew.load::<Walk>().await.unwrap().trace, model.trace);
        // Failed: from the last checkpoint, in another job. The module fails in each first attempt.
        let failing = || Walk::new("fail once", 10);
        let failed = trainer.train_or_resume("failed", failing(), spec()).await.unwrap();
        assert_eq!(failed.wait().await.unwrap().status, Status::Errored);
        let resumed = trainer.train_or_resume("failed", failing(), spec()).await.unwrap();
        assert_ne!(resumed.job(), failed.job());
        resumed.wait().await.unwrap();
        // Cancelled, before it started or later: it goes on.
        let gate = place.gate();
        let waiting = || Walk::new("wait", 0);
        let cancelled = trainer.train_or_resume("cancelled", waiting(), gate.spec()).await.unwrap();
        cancelled.cancel().await.unwrap();
        assert_eq!(cancelled.wait().await.unwrap().status, Status::Cancelled);
        let running = trainer.train_or_resume("cancelled", waiting(), gate.spec()).await.unwrap();
        until_status(&running, Status::Running).await;
        let joined = trainer.train_or_resume("cancelled", waiting(), gate.spec()).await.unwrap();
        assert_eq!(joined.job(), running.job());
        gate.open();
        joined.load::<Walk>().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n15_another_module_or_spec_of_the_same_id_is_refused_by_field() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let spec = || TrainSpec::new().arg("pause_ms", 0);
    trainer.train_or_resume("one", Walk::new("loop", 3), spec().wait()).await.unwrap();
    for (module, spec, field) in [
        (Walk::new("loop", 4), spec(), "steps"),
        (Walk::new("loop", 3), spec().arg("pause_ms", 1), "pause_ms"),
        (Walk::new("loop", 3), spec().seed(9), "seed"),
    ] {
        let error = trainer.train_or_resume("one", module, spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = error.to_string();
        assert!(
            text.contains("training `one` is on record with another") && text.contains(field),
            "{text}"
        );
    }
    let other = LocalTrainer::new("other").open(&db).await.unwrap();
    let error = other.train_or_resume("one", Walk::new("loop", 3), spec()).await.unwrap_err();
    assert!(error.to_string().contains("belongs to the trainer `default`"), "{error}");
    assert_eq!(db.jobs(JobFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n15_many_callers_of_one_process_share_one_training() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let trainer = trainer.clone();
        callers.spawn(async move {
            let run =
                trainer.train_or_resume("shared", Walk::new("loop", 3), TrainSpec::new()).await?;
            run.load::<Walk>().await.map(|model| (run.job(), model.trace))
        });
    }
    let mut models = Vec::new();
    while let Some(model) = callers.join_next().await {
        models.push(model.unwrap().unwrap());
    }
    models.dedup();
    assert_eq!((models.len(), db.jobs(JobFilter::default()).await.unwrap().len()), (1, 1));
}

both! {
    async fn a_module_is_trained_from_a_box_or_by_its_kind(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let kinds = trainer.kinds();
        let own = ["test.Bowl", "test.Gauge", "test.Picky", "test.Walk"];
        assert!(kinds.is_sorted() && own.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
        let spec = || TrainSpec::new().seed(5);
        let typed: Walk = trainer.train(Walk::new("loop", 4), spec()).await.unwrap().load().await.unwrap();
        let module: Box<dyn Component> = Box::new(Walk::new("loop", 4));
        let boxed: Walk = trainer.train_dyn(module, spec()).await.unwrap().load().await.unwrap();
        let fields = json!({"identifier": "walk", "what": "loop", "steps": 4});
        let run = trainer.train_kind("test.Walk", fields, spec()).await.unwrap();
        assert_eq!(run.load_dyn().await.unwrap().kind(), "test.Walk");
        let by_kind: Walk = run.load().await.unwrap();
        assert_eq!([&boxed.trace, &by_kind.trace], [&typed.trace; 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_trained_is_refused_with_the_kinds_that_can() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let module: Box<dyn Component> = Box::new(Unknown { identifier: "u".into() });
    let error = trainer.train_dyn(module, TrainSpec::new()).await.unwrap_err();
    let by_kind =
        trainer.train_kind("acme.Nothing", json!({}), TrainSpec::new()).await.unwrap_err();
    for (error, kind) in [(&error, "test.Unknown"), (&by_kind, "acme.Nothing")] {
        assert_eq!(error.kind(), ErrorKind::UnknownKind);
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert!(text.contains(&format!("does not know how to train `{kind}`")), "{text}");
        let kinds = trainer.kinds().join(", ");
        assert!(text.contains(&format!("kinds that can be trained: {kinds}")), "{text}");
    }
    let fields = json!({"identifier": "walk", "what": 5});
    let error = trainer.train_kind("test.Walk", fields, TrainSpec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("what"), "{error}");
    assert!(db.jobs(JobFilter::default()).await.unwrap().is_empty());
}

/// Takes one argument, which must be positive.
#[derive(Component, Clone, Debug)]
#[component(kind = "test.Picky")]
struct Picky {
    identifier: String,
}

impl Train for Picky {
    fn check(&self, args: &Args) -> Result<()> {
        args.only(&["scale"])?;
        match args.get_or("scale", 1.0)? {
            scale if scale > 0.0 => Ok(()),
            scale => Err(Error::invalid(format!("`scale` must be positive, not {scale}"))),
        }
    }

    fn train(&mut self, _ctx: &mut TrainContext) -> Result<Trained> {
        Ok(Trained::model(self.clone()))
    }
}
trains!(Picky);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_are_checked_before_anything_is_written() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let picky = || Picky { identifier: "picky".into() };
    trainer.train(picky(), TrainSpec::new().arg("scale", 2).wait()).await.unwrap();
    let before = db.jobs(JobFilter::default()).await.unwrap().len();
    for (spec, text) in [
        (TrainSpec::new().arg("scale", -1.0), "`scale` must be positive, not -1"),
        (TrainSpec::new().arg("scal", 1.0), "there is no argument `scal`"),
        (TrainSpec::new().arg("scale", "much"), "argument `scale` is not a `f64`"),
    ] {
        let error = trainer.train(picky(), spec).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    use std::os::unix::ffi::OsStringExt;
    let odd: PathBuf = std::ffi::OsString::from_vec(vec![b'a', 0xff]).into();
    let spec = TrainSpec::new().arg("file", odd);
    let error = trainer.train(Gauge::new(), spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode, "a path that is no text: {error}");
    assert_eq!(db.jobs(JobFilter::default()).await.unwrap().len(), before);
}
