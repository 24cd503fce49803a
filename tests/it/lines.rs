//! Case N07: lists in pages, and reads for people beside them.

use crate::support::{Database, databases};
use std::collections::{BTreeMap, BTreeSet};
use superduper::{
    Actor, Artifact, Output, Status,
    db::ArtifactFormat,
    prelude::*,
    store::{
        Batch, ComponentFilter, Cursor, Durability, Health, JobFilter, JobId, JobRole, JobState,
        NewJob, NewRun, Op, PutAction, PutVersion, RunFilter, RunPurpose, Timestamp,
    },
};

/// Jobs that are there before the walk, and jobs that are added during it.
const JOBS: usize = 20_000;
const ADDED: usize = 1000;
const PAGE: usize = 500;

#[derive(Component, Clone)]
#[component(kind = "lines.Model")]
struct Model {
    identifier: String,
    fails: bool,
    weights: Artifact<Bytes>,
    folds: Vec<Artifact<Tensors>>,
    report: Output<Artifact<Bytes>>,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    async fn fit(&self, ctx: &JobContext) -> Result<u32> {
        if self.fails {
            return Err(Error::msg("no data"));
        }
        ctx.set(&self.report, Bytes::from("all is well").into())?;
        Ok(1)
    }
}

fn model(identifier: &str, fails: bool) -> Model {
    let tensors = Tensors::new().with("w", &[2], &[1.0_f32, 2.0]).unwrap();
    Model {
        identifier: identifier.into(),
        fails,
        weights: Bytes::from("weights").into(),
        folds: vec![tensors.into()],
        report: Output::default(),
    }
}

async fn write(on: &Database, ops: Vec<Op>) -> Vec<JobId> {
    let batch = Batch { expect: Vec::new(), ops };
    on.db.metadata().commit(batch, Durability::Relaxed).await.unwrap().jobs
}

fn create(identifier: &str) -> Op {
    let address = Address::new("lines.Bulk", identifier).at(0);
    Op::Put(PutVersion {
        address: Address {
            version: Some(superduper::VersionRef { version: 0, revision: Some(0) }),
            ..address
        },
        action: PutAction::Create,
        uuid: superduper::Digest::of(identifier.as_bytes()),
        content_hash: superduper::Digest::of(identifier.as_bytes()),
        type_version: 1,
        document: json!({ "identifier": identifier }),
        edges: Vec::new(),
        blobs: Vec::new(),
        content_of: None,
        owes_jobs: false,
        at: Timestamp::now(),
    })
}

/// Record so many jobs in a run of their own.
async fn add_jobs(on: &Database, identifier: &str, count: usize) -> Vec<JobId> {
    let target = Address::new("lines.Bulk", identifier).at(0);
    let at = Timestamp::now();
    let job = NewJob::new(target.clone(), JobRole::Trigger, "work", at);
    let run = Op::Run(NewRun::new(RunPurpose::Apply, target, at));
    write(on, vec![run, Op::Jobs { run: None, jobs: vec![job; count] }]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn n07_walking_jobs_while_others_are_added_misses_none_and_tells_none_twice() {
    for on in databases().await {
        write(&on, vec![create("a"), create("b")]).await;
        let mut there = BTreeSet::new();
        for batch in 0..JOBS / 2000 {
            there.extend(add_jobs(&on, if batch % 2 == 0 { "a" } else { "b" }, 2000).await);
        }
        for newest_first in [true, false] {
            let (mut told, mut added) = (Vec::new(), BTreeSet::new());
            let mut next: Option<Cursor> = None;
            loop {
                let page = on.db.job_lines(JobFilter::default()).after(next).limit(PAGE);
                let page = if newest_first { page.await } else { page.oldest_first().await };
                let page = page.unwrap();
                assert!(page.len() <= PAGE);
                told.extend(page.iter().map(|line| line.id));
                next = page.next;
                if next.is_none() {
                    break;
                }
                if added.len() < ADDED {
                    added.extend(add_jobs(&on, "a", ADDED * PAGE / JOBS + 5).await);
                }
            }
            let once: BTreeSet<JobId> = told.iter().copied().collect();
            assert_eq!(once.len(), told.len(), "none twice");
            assert!(once.is_superset(&there), "none missing");
            assert!(added.len() >= ADDED, "{} were added", added.len());
            let mut sorted = told.clone();
            sorted.sort_unstable();
            if newest_first {
                sorted.reverse();
            } else {
                assert!(once.is_superset(&added), "the oldest first: those that were added, too");
            }
            assert_eq!(told, sorted, "in order");
            there.extend(added);
        }
        // The same for one component, in pages that do not fit.
        let of_b =
            JobFilter { target: Some(Address::new("lines.Bulk", "b")), ..JobFilter::default() };
        let (mut told, mut next) = (0, None);
        loop {
            let page = on.db.job_lines(of_b.clone()).after(next).limit(777).await.unwrap();
            told += page.len();
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(told, JOBS / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n07_walking_components_and_runs_while_others_are_added() {
    for on in databases().await {
        let name = |number: usize| format!("c{number:04}");
        write(&on, (0..400).map(|number| create(&name(number * 2))).collect()).await;
        for number in 0..50 {
            add_jobs(&on, &name(number * 2), 1).await;
        }
        let (mut told, mut next) = (Vec::new(), None);
        loop {
            let filter = ComponentFilter::new().kind("lines.Bulk");
            let page = on.db.component_lines(filter).after(next).limit(30).await.unwrap();
            told.extend(page.iter().map(|line| line.address.identifier.clone()));
            next = page.next;
            if next.is_none() {
                break;
            }
            // One before the place, and one behind it.
            let at = told.len();
            write(&on, vec![create(&name(at * 2 - 31)), create(&format!("d{at:04}"))]).await;
        }
        let once: BTreeSet<&String> = told.iter().collect();
        assert_eq!(once.len(), told.len(), "none twice");
        assert!((0..400).all(|number| once.contains(&name(number * 2))), "none missing");
        let (mut told, mut next) = (BTreeMap::new(), None);
        loop {
            let page = on.db.run_lines(RunFilter::default()).after(next).limit(7).await.unwrap();
            for run in &page.lines {
                *told.entry(run.id).or_insert(0) += 1;
            }
            next = page.next;
            if next.is_none() {
                break;
            }
            add_jobs(&on, &name(0), 1).await;
        }
        assert!(told.len() == 50 && told.values().all(|times| *times == 1), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n07_a_cursor_of_another_list_is_refused() {
    for on in databases().await {
        write(&on, vec![create("a"), create("b")]).await;
        add_jobs(&on, "a", 3).await;
        let page = on.db.job_lines(JobFilter::default()).limit(1).await.unwrap();
        let next = page.next.expect("there are more");
        let error = on.db.run_lines(RunFilter::default()).after(next.clone()).await.unwrap_err();
        crate::support::says(
            &error,
            ErrorKind::InvalidInput,
            &[next.as_str(), "is not a place in a list of runs", "`next` of a page"],
        );
        let error =
            on.db.component_lines(ComponentFilter::new()).after(next.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        // A cursor is a text that can be kept.
        let kept = Cursor::new(next.as_str());
        let page = on.db.job_lines(JobFilter::default()).after(kept).limit(0).await.unwrap();
        assert_eq!(page.len(), 1, "a page has one line at least");
        let first = on.db.job_lines(JobFilter::default()).after(Cursor::default()).await.unwrap();
        assert_eq!((first.len(), first.next), (3, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n07_components_are_found_by_health_label_and_text() {
    for on in databases().await {
        for (identifier, fails) in [("churn-1", false), ("churn-2", true), ("fraud", false)] {
            let applied = on.db.apply(model(identifier, fails)).await;
            assert_eq!(applied.is_err(), fails);
        }
        on.db.apply(model("owes", false)).jobs(false).await.unwrap();
        on.db.label("lines.Model/fraud", "prod").await.unwrap();
        let found = async |filter: ComponentFilter| {
            let page = on.db.component_lines(filter).limit(2).await.unwrap();
            page.lines.into_iter().map(|line| line.address.identifier).collect::<Vec<_>>()
        };
        let all = ComponentFilter::new;
        assert_eq!(found(all().health(Health::Degraded)).await, ["churn-2"]);
        assert_eq!(found(all().health(Health::OwesJobs)).await, ["owes"]);
        assert_eq!(found(all().health(Health::Ready)).await, ["churn-1", "fraud"]);
        assert_eq!(found(all().text("CHURN")).await, ["churn-1", "churn-2"]);
        assert_eq!(found(all().label("prod")).await, ["fraud"]);
        assert!(found(all().label("prod").text("churn")).await.is_empty());
        let page = on.db.component_lines(all().health(Health::Ready)).limit(1).await.unwrap();
        let next = page.next.expect("another one is ready");
        let page = on.db.component_lines(all().health(Health::Ready)).after(next).await.unwrap();
        assert_eq!((page[0].address.identifier.as_str(), page.next.clone()), ("fraud", None));
        assert_eq!(page[0].labels, [("prod".to_owned(), 0)]);
        // A line says what `status` says.
        let page = on.db.component_lines(all()).await.unwrap();
        for line in &page.lines {
            let status = on.db.status(line.address.clone()).await.unwrap();
            assert_eq!(line.health(), status.health(), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n07_the_status_of_many_components_looks_at_these_alone() {
    for on in databases().await {
        assert!(on.db.apply(model("broken", true)).await.is_err());
        on.db.apply(model("fine", false)).await.unwrap();
        let listings = on.metadata.listings();
        let found = on
            .db
            .statuses(["lines.Model/fine", "lines.Model/absent", "lines.Model/broken@0"])
            .await
            .unwrap();
        assert_eq!(found[0], Some(Status::Ready));
        assert_eq!(found[1], None);
        assert!(matches!(&found[2], Some(Status::Degraded(jobs)) if jobs.len() == 1));
        assert_eq!(on.metadata.listings(), listings, "nothing else was listed");
        assert!(on.db.statuses(["no address"]).await.is_err());
        assert!(on.db.statuses(Vec::<Address>::new()).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n07_runs_say_who_recorded_them_and_how_their_jobs_stand() {
    for on in databases().await {
        let actor = Actor::new("maria").origin("dashboard").note("ticket 4711");
        let db = on.db.acting_as(actor.clone());
        assert!(db.apply(model("a", true)).await.is_err());
        let failed = on.db.jobs(JobFilter::default()).await.unwrap()[0].clone();
        assert!(db.retry(failed.id).await.is_err());
        on.db.apply(model("b", false)).await.unwrap();
        db.run("lines.Model/b", "fit").await.ok();
        let page = on.db.run_lines(RunFilter::default()).await.unwrap();
        let mine: Vec<_> = page.iter().filter(|run| run.actor.as_ref() == Some(&actor)).collect();
        assert!(mine.len() >= 2, "the apply and the retry: {page:?}");
        for run in &mine[..] {
            assert!(run.ended_at.is_some() && run.ended_at >= Some(run.created_at));
        }
        let first = page.iter().find(|run| run.id == failed.run).expect("it is listed");
        assert_eq!((first.jobs.failed, first.jobs.total()), (1, 1));
        let (text, by) = (first.to_string(), " by maria (dashboard; ticket 4711)");
        assert!(text.ends_with(&format!("failed (1 failed){by}")), "{text}");
        let others = page.iter().find(|run| run.actor.is_none()).expect("one of nobody");
        assert!(others.to_string().ends_with("succeeded (1 succeeded)"), "{others}");
        let by = RunFilter { actor: Some("maria".into()), ..RunFilter::default() };
        assert_eq!(on.db.run_lines(by).await.unwrap().len(), mine.len());
        let row = on.db.runs(RunFilter { id: Some(failed.run), ..RunFilter::default() }).await;
        assert_eq!(row.unwrap()[0].actor, Some(actor));
        // What failed is in the line, and its result is not.
        let states = Some(vec![JobState::Failed]);
        let failed = JobFilter { states, ..JobFilter::default() };
        let lines = on.db.job_lines(failed).await.unwrap();
        assert!(lines.iter().all(|line| line.error.as_deref() == Some("no data")), "{lines:?}");
        let workers = on.db.workers().await.unwrap();
        let worker = &workers[0];
        assert_eq!(worker.pid, Some(std::process::id()));
        assert!(worker.host.is_some() && worker.program.is_some(), "{worker:?}");
        assert!(worker.kinds.iter().any(|kind| kind == "lines.Model"), "{worker:?}");
        assert!(worker.executors.iter().any(|name| name == "threads"), "{worker:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n07_the_artifacts_of_a_version_are_told_with_path_digest_size_and_format() {
    for on in databases().await {
        on.db.apply(model("a", false)).await.unwrap();
        let found = on.db.artifacts("lines.Model/a").await.unwrap();
        let told: Vec<_> =
            found.iter().map(|line| (line.path.as_str(), line.is_output, line.format)).collect();
        assert_eq!(
            told,
            [
                ("folds[0]", false, ArtifactFormat::Safetensors),
                ("weights", false, ArtifactFormat::Bytes),
                ("report", true, ArtifactFormat::Bytes),
            ]
        );
        assert_eq!(found[1].digest, superduper::Digest::of(b"weights"));
        assert_eq!((found[1].size, found[2].size), (7, 11));
        assert_eq!(
            found[2].to_string(),
            format!("report {} 11 bytes, bytes", superduper::Digest::of(b"all is well"))
        );
        assert_eq!(on.db.artifacts("lines.Model/a@latest").await.unwrap(), found);
        let error = on.db.artifacts("lines.Model/b").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
