//! What is on record of a training that failed: kind, place, standard error.

use crate::support::*;
use superduper::{FailureKind, prelude::*};
use superduper_train::prelude::*;

both! {
    async fn fault_30_the_kind_of_a_modules_error_says_whether_it_is_tried_again(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let restart = Restart { retries: 2, backoff: "0s".parse().unwrap(), ..Restart::default() };
        let trainer = LocalTrainer::new("again").base(JobBase { restart, ..base(isolation) }).open(&db).await.unwrap();
        for (what, kind, attempts) in [("refuse", ErrorKind::InvalidInput, 1), ("fail", ErrorKind::User, 3)] {
            let run = trainer.train(Walk::new(what, 0), TrainSpec::new().wait()).await.unwrap();
            let info = run.info().await.unwrap();
            let error = info.error.unwrap();
            assert_eq!((info.attempt, error.kind, error.error_kind), (attempts, FailureKind::Error, Some(kind)), "{what}: {error}");
            assert_eq!(error.retryable, attempts > 1);
        }
    }

    async fn fault_30_the_place_of_a_panic_is_on_record(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let run = trainer(&db, isolation).await.train(Walk::new("panic", 0), TrainSpec::new().wait()).await.unwrap();
        let error = run.info().await.unwrap().error.unwrap();
        let location = error.location.clone().unwrap();
        let [line, column] = location.rsplitn(3, ':').take(2).map(|number| number.parse::<u32>().unwrap()).collect::<Vec<_>>()[..] else {
            panic!("{location}")
        };
        assert!(location.contains("modules.rs:") && line > 0 && column > 0, "{location}");
        let raised = run.load::<Walk>().await.err().unwrap().to_string();
        assert!(raised.contains(&format!("panicked: training boom (at {location})")), "{raised}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_30_the_standard_error_of_a_job_process_is_on_record() {
    let place = Place::new();
    let db = place.db().await;
    let run = trainer(&db, Process)
        .await
        .train(Walk::new("complain", 0), TrainSpec::new().wait())
        .await
        .unwrap();
    let error = run.info().await.unwrap().error.unwrap();
    assert_eq!(
        (error.kind, &*error.message),
        (FailureKind::WorkerLost, "the worker was killed by signal 6")
    );
    let last = error.causes.last().expect("a cause");
    assert!(
        last.starts_with("its standard error ended with: ")
            && last.ends_with("complaint 99 of the library below"),
        "{last}"
    );
    assert!(last.len() < 4096, "{}", last.len());
    let logs: Vec<String> = run.logs().await.unwrap().into_iter().map(|row| row.message).collect();
    let lines: Vec<String> =
        (0..100).map(|line| format!("stderr: complaint {line} of the library below")).collect();
    assert_eq!(
        logs.iter().filter(|line| line.contains("complaint")).collect::<Vec<_>>(),
        lines.iter().collect::<Vec<_>>()
    );
    // A panic that the record tells of is in the log as the process printed it.
    let run = trainer(&db, Process)
        .await
        .train(Walk::new("panic", 0), TrainSpec::new().wait())
        .await
        .unwrap();
    let logs = run.logs().await.unwrap();
    assert!(logs.iter().any(|row| row.message == "stderr: training boom"), "{logs:?}");
}
