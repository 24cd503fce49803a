//! Executors of a user's own at work, also in job processes.

use super::{custom, head, net, types::*};
use crate::support::*;
use superduper::prelude::*;
use superduper_federated::{SiteJobs, State};

#[tokio::test(flavor = "multi_thread")]
async fn c17_an_executor_replaces_one_part_and_the_rest_is_the_default() {
    let place = Place::new();
    let db = place.open().await;
    // Only the loader: each site trains on these rows.
    let mut training = net("c17l");
    training.executor = Box::new(Custom { rows: Some(vec![3.0]), ..custom() });
    let trainer = trained(&db, training, None).await;
    assert_eq!(head(&trainer).await, [1.5, 1.5]);
    assert!(trainer.answers("train", 0).await.unwrap().values().all(|answer| answer.samples == 1));
    // Only the metrics.
    let mut training = net("c17m");
    training.executor = Box::new(Custom { metric: Some(0.25), ..custom() });
    let trainer = trained(&db, training, None).await;
    assert_eq!(head(&trainer).await, [0.25, 0.25]);
    let answers = trainer.answers("train", 0).await.unwrap();
    assert_eq!(answers["a"].metrics["custom"], 0.25);
    assert_eq!(answers["a"].metrics["loss"], 0.5);
    assert_eq!(trainer.progress().await.unwrap().metrics["custom"], 0.25);
    // Two heads: only the second of them here.
    let mut training = net("c17h");
    training.executor = Box::new(Custom { heads: vec![1], ..custom() });
    let trainer = trained(&db, training, None).await;
    assert_eq!(head(&trainer).await, [0.0, 0.25]);
    let mut training = net("c17b");
    training.executor = Box::new(Custom { heads: vec![0, 1], ..custom() });
    let trainer = trained(&db, training, None).await;
    assert_eq!(head(&trainer).await, [0.25, 0.25]);
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_custom_classes_run_in_job_processes() {
    let place = Place::new();
    let db = place.open_shared().await;
    let mut training = net("c13").rounds(2);
    training.executor = Box::new(Custom { metric: Some(0.5), ..custom() });
    let out = place.folder.path().join("heads");
    std::fs::create_dir(&out).unwrap();
    training.persistor = Box::new(Int8Head { folder: out });
    for site in &mut training.sites {
        site.jobs = SiteJobs { executor: Some("process".into()), ..SiteJobs::default() };
    }
    let trainer = trained(&db, training, None).await;
    assert_eq!(trainer.state().await.unwrap(), State::Completed);
    let answers = trainer.answers("train", 1).await.unwrap();
    for answer in answers.values() {
        assert_eq!(answer.metrics["custom"], 0.5);
        assert_ne!(answer.properties["pid"], json!(std::process::id()), "it ran elsewhere");
    }
    assert_eq!(trainer.saved_models().await.unwrap(), ["after-1", "after-2"]);
}

/// The worker program does not have it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct OnlyHere {}

#[typetag::serde(name = "it.OnlyHere")]
impl superduper_federated::ClientExecutor for OnlyHere {
    fn execute(
        &self,
        task: &superduper_federated::Task,
        tensors: Tensors,
        ctx: &mut superduper_federated::SiteContext<'_>,
    ) -> Result<superduper_federated::Reply> {
        superduper_federated::DefaultExecutor {}.execute(task, tensors, ctx)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_a_job_program_without_the_executor_is_told_by_what_its_jobs_wait_for() {
    let place = Place::new();
    let db = place.open_shared().await;
    let mut training = net("c13p");
    training.executor = Box::new(OnlyHere {});
    training.federation.round_deadline = Some(12.0);
    for site in &mut training.sites {
        site.jobs = SiteJobs { executor: Some("process".into()), ..SiteJobs::default() };
    }
    let trainer = super::started(&db, training).await;
    let is_site = |job: &superduper::store::JobRow| job.method == "site_task";
    let told = tokio::time::timeout(LONG, async {
        loop {
            let jobs = db.jobs(superduper::store::JobFilter::default()).await.unwrap();
            for job in jobs.into_iter().filter(is_site) {
                let mut lines = db.logs(job.id).await.unwrap().into_iter().map(|line| line.message);
                if let Some(line) = lines.find(|line| line.contains("it.OnlyHere")) {
                    return line;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let said = told.await.expect("the log says what is missing");
    assert!(said.contains("use it as _;"), "{said}");
    let jobs = db.jobs(superduper::store::JobFilter::default()).await.unwrap();
    let job = jobs.into_iter().find(is_site).unwrap();
    let wanted = "for the executor `process` a program with all types of what";
    // It is given back soon after the line is there, and is over at the deadline.
    tokio::time::timeout(LONG, async {
        while !db.why(job.id).await.unwrap().to_string().contains(wanted) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the reason is told");
    // The training does not wait for ever.
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
}
