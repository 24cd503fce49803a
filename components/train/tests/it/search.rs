//! Searches: candidates, the best by a metric, failures, and going on after a crash.

use crate::{
    crashes::ended,
    modules::{Bowl, search_bowls},
    support::*,
};
use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};
use superduper::{prelude::*, store::JobFilter};
use superduper_train::{Candidate, Search, Values, prelude::*};

fn bowl(candidate: &Candidate) -> Result<(Bowl, TrainSpec)> {
    Ok((Bowl { identifier: "bowl".into(), x: candidate.get("x")? }, candidate.spec()))
}

both! {
    async fn a_grid_finds_the_best_and_a_failing_candidate_does_not_end_it(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let run = search_bowls(&trainer, "grid", 0).await.unwrap();
        assert_eq!((run.id(), run.runs().count()), ("grid", 9));
        let found = run.wait().await.unwrap();
        let best = found.best().unwrap();
        assert_eq!((best.get::<i64>("x").unwrap(), best.get::<f64>("y").unwrap()), (3, -1.0));
        assert_eq!(best.value, Some(1.0 / 9.0), "the best value that it measured, not the last");
        assert_eq!(best.load::<Bowl>().await.unwrap().x, 3);
        let failed: Vec<_> = found.failed().collect();
        assert_eq!(failed.len(), 3);
        for trial in failed {
            assert_eq!((trial.get::<f64>("y").unwrap(), trial.status), (7.0, Some(Status::Errored)));
            assert!(trial.error.as_ref().unwrap().contains("7 breaks it") && trial.value.is_some());
        }
        let text = found.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "search `grid`: 9 candidates by `loss`, 3 of them failed");
        assert!(lines[1].starts_with("  x=3, y=-1.0: 0.11") && lines[9].contains("7 breaks it"), "{text}");
    }
}

fn searching(place: &Place, isolation: Isolation) -> Child {
    let isolation = if isolation == Process { "process" } else { "thread" };
    let mut command = Command::new(program());
    command.args(["search", place.path("db").to_str().unwrap(), isolation]).arg(place.path("out"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

both! {
    async fn a_search_that_was_killed_goes_on_where_it_was(isolation: Isolation) {
        let place = Place::new();
        for _ in 0..2 {
            let mut process = searching(&place, isolation);
            until("it is submitted", async || place.path("db").join("metadata.sqlite").exists()).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            assert!(process.try_wait().unwrap().is_none(), "it lasts longer");
            process.kill().unwrap();
            process.wait().unwrap();
        }
        ended(&mut searching(&place, isolation)).await;
        let text = std::fs::read_to_string(place.path("out")).unwrap();
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("  x=3, y=-1.0: 0.11")), "{text}");
        let db = place.db().await;
        let jobs = db.jobs(JobFilter::default()).await.unwrap();
        assert_eq!(jobs.iter().filter(|job| job.retry_of.is_none()).count(), 9, "one training each");
        // Once more: all are there, apart from those that failed, which are tried again.
        let trainer = LocalTrainer::new("storm").base(base(isolation)).open(&db).await.unwrap();
        let again = search_bowls(&trainer, "storm", 60).await.unwrap().wait().await.unwrap();
        assert_eq!(again.to_string(), text);
        let more = db.jobs(JobFilter::default()).await.unwrap().len();
        assert_eq!(more, jobs.len() + 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_candidates_are_a_function_of_the_seed_and_more_keep_those_that_were_there() {
    let search = |count, seed| {
        Search::random(count, seed)
            .id("random")
            .over("rate", Values::log_uniform(1e-4..1e-1))
            .over("momentum", 0.0..1.0)
            .over("layers", 1..=3)
            .over("sizes", [vec![64], vec![64, 32]])
    };
    let few = search(10, 1).candidates().unwrap();
    let many = search(50, 1).candidates().unwrap();
    assert_eq!(many[..10], few, "more candidates keep the first ones");
    assert_ne!(search(10, 2).candidates().unwrap(), few);
    let mut small = 0;
    for candidate in &many {
        let rate: f64 = candidate.get("rate").unwrap();
        assert!((1e-4..1e-1).contains(&rate));
        small += usize::from(rate < 1e-2);
        assert!((0.0..1.0).contains(&candidate.get::<f64>("momentum").unwrap()));
        assert!((1..=3).contains(&candidate.get::<i64>("layers").unwrap()));
        assert!(!candidate.get::<Vec<usize>>("sizes").unwrap().is_empty());
    }
    assert!((25..45).contains(&small), "two of three orders of magnitude are below 0.01: {small}");
    // Values alone make the id: what is drawn twice is one candidate.
    let coins = Search::random(100, 1).id("coins").over("side", [true, false]);
    assert_eq!(coins.candidates().unwrap().len(), 2);
    let wider = Search::grid().id("coins").over("side", [true, false, true]);
    assert_eq!(wider.candidates().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_that_cannot_be_made_are_refused_before_anything_is_written() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let grid = || Search::grid().id("s").by("loss", Direction::Lower);
    for (search, text) in [
        (Search::grid().over("x", [1]), "a search needs an id"),
        (grid(), "has nothing to search over"),
        (Search::grid().id("s").over("x", [1]), "search `s` has no metric"),
        (grid().over("x", Vec::<i64>::new()), "`x`: the list of values is empty"),
        (grid().over("x", [1]).over("x", [2]), "has `x` twice"),
        (grid().over("x", [f64::NAN]), "NaN"),
        (grid().over("x", 0.0..1.0), "a grid needs a list of values for `x`"),
        (grid().over("x", 1..=200).over("y", 1..=200), "a grid of 40000 candidates is too large"),
        (Search::random(3, 1).id("s").over("x", 1.0..1.0), "the range 1..1 has no numbers"),
        (
            Search::random(3, 1).id("s").over("x", Values::log_uniform(0.0..1.0)),
            "begins above 0, not at 0",
        ),
        (Search::random(0, 1).id("s").over("x", [1]), "has 0 candidates"),
    ] {
        let error = search.start(&trainer, bowl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text), "{error}, not {text}");
    }
    assert!(db.jobs(JobFilter::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_are_refused_are_told_and_the_others_go_on() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let search = |metric: &str| {
        Search::grid().id("s").over("x", [13, 4]).over("y", [0.0]).by(metric, Direction::Lower)
    };
    let run = search("loss").start(&trainer, bowl).await.unwrap();
    let found = run.wait().await.unwrap();
    assert_eq!(found.best().unwrap().get::<i64>("x").unwrap(), 4);
    let refused = &found.trials()[0];
    assert_eq!((refused.status, refused.run().is_none()), (None, true));
    assert_eq!(refused.error.as_deref(), Some("13 is refused"));
    assert!(refused.load::<Bowl>().await.unwrap_err().to_string().contains("13 is refused"));
    // By the last value, in the other direction.
    let last = search("loss").by_last_value().start(&trainer, bowl).await.unwrap();
    assert!(last.wait().await.unwrap().best().unwrap().value.unwrap() > 100.0);
    // A metric that no training has: no best, with a reason.
    let none = search("accuracy").start(&trainer, bowl).await.unwrap().wait().await.unwrap();
    let error = none.best().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(error.to_string().contains("ended with a value of `accuracy`, of 2"), "{error}");
    assert_eq!(none.trials()[1].error.as_deref(), Some("it measured no `accuracy`"));
}

#[cfg(feature = "progress")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_is_followed_candidate_by_candidate() {
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let run = search_bowls(&trainer, "followed", 0).await.unwrap();
    let written = Written::default();
    let progress = superduper_train::Progress::lines(written.clone());
    let found = progress.poll(Duration::from_millis(5)).follow_search(&run).await.unwrap();
    assert_eq!(found.to_string(), run.wait().await.unwrap().to_string());
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 9, "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("followed: 9/9 ") && last.ends_with("; best loss 0.1111 (x=3, y=-1.0)"),
        "{text}"
    );
    assert!(text.contains(", y=7.0: failed: 7 breaks it"), "{text}");
}
