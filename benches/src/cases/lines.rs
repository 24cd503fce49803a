//! Lists in pages: what the first page takes, and the thousandth, of 100 000 components and jobs.

use super::number;
use crate::{
    database::Counted,
    driver::{Driver, Report},
};
use serde_json::{Value, json};
use superduper::{
    Digest, VersionRef,
    db::Lines,
    prelude::*,
    store::{
        Batch, ComponentFilter, Cursor, Durability, Finish, Finished, JobFilter, JobRole, JobState,
        NewJob, NewRun, Op, PutAction, PutVersion, RunFilter, RunPurpose, Timestamp, WorkerId,
    },
};

/// Lines of a page.
const PAGE: usize = 100;
/// So many rows are recorded in one commit.
const BATCH: usize = 1000;
/// The kind of all components.
const KIND: &str = "bench.Line";

/// A database of 100 000 components and as many jobs.
pub(crate) fn lines(driver: &Driver) -> Result<()> {
    let n = driver.n(100_000);
    let folder = driver.folder()?;
    let parameters = json!({"n": n, "reps": driver.reps(200)});
    driver.go(folder.path(), "lines_seed", parameters.clone())?;
    let result = driver.go(folder.path(), "lines", parameters)?;
    driver.emit_operations("l_lines", &vec![("n", json!(n))], &result);
    Ok(())
}

fn address(identifier: &str) -> Address {
    let version = Some(VersionRef { version: 0, revision: Some(0) });
    Address { version, ..Address::new(KIND, identifier) }
}

fn create(identifier: &str) -> Op {
    Op::Put(PutVersion {
        address: address(identifier),
        action: PutAction::Create,
        uuid: Digest::of(identifier.as_bytes()),
        content_hash: Digest::of(identifier.as_bytes()),
        type_version: 1,
        document: json!({ "identifier": identifier, "text": "x".repeat(200) }),
        edges: Vec::new(),
        blobs: Vec::new(),
        content_of: None,
        owes_jobs: false,
        at: Timestamp::now(),
    })
}

async fn write(db: &Db, ops: Vec<Op>) -> Result<superduper::store::Committed> {
    db.metadata().commit(Batch { expect: Vec::new(), ops }, Durability::Relaxed).await
}

/// Record a run of jobs that succeeded.
async fn add_jobs(db: &Db, owner: WorkerId, identifier: &str, count: usize) -> Result<()> {
    let at = Timestamp::now();
    let job = NewJob::new(address(identifier), JobRole::Trigger, "work", at);
    let run = Op::Run(NewRun::new(RunPurpose::Apply, address(identifier), at));
    let written = write(db, vec![run, Op::Jobs { run: None, jobs: vec![job; count] }]).await?;
    let claim = Op::Claim { jobs: written.jobs.clone(), owner, start: true, pool: None, at };
    let end = |job| {
        let end = Finished::Succeeded(json!({ "text": "x".repeat(500) }));
        Op::Finish(Box::new(Finish::plain(job, 1, owner, at, at, end)))
    };
    let ends = written.jobs.into_iter().map(end);
    let run = written.run.ok_or_else(|| Error::internal("the batch has a run"))?;
    let over = Op::EndRun { run, state: superduper::store::RunState::Succeeded, at };
    write(db, [claim].into_iter().chain(ends).chain([over]).collect()).await?;
    Ok(())
}

/// Fill the database, unmeasured.
pub(crate) async fn seed(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let (db, n) = (&opened.db, number(parameters, "n"));
    for first in (0..n).step_by(BATCH) {
        let all = first..n.min(first + BATCH);
        write(db, all.map(|number| create(&format!("c{number:06}"))).collect()).await?;
    }
    write(db, vec![create("few"), create("many")]).await?;
    let owner = db.metadata().register_worker(Default::default()).await?;
    add_jobs(db, owner, "few", 1).await?;
    for first in (0..n).step_by(BATCH) {
        add_jobs(db, owner, "many", BATCH.min(n - first)).await?;
    }
    Ok(json!({}))
}

/// Where the last full page of a list begins.
async fn last_page<T>(
    page: impl AsyncFn(Option<Cursor>) -> Result<Lines<T>>,
) -> Result<Option<Cursor>> {
    let (mut before, mut place) = (None, None);
    loop {
        match page(place.clone()).await?.next {
            Some(next) => before = place.replace(next),
            None => return Ok(before),
        }
    }
}

/// Read pages.
pub(crate) async fn worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let (db, reps) = (&opened.db, number(parameters, "reps"));
    let mut report = Report::default();
    let of = |identifier: &str| Some(Address::new(KIND, identifier));
    let components = async |after: Option<Cursor>| {
        db.component_lines(ComponentFilter::new()).after(after).limit(PAGE).await
    };
    let jobs = async |after: Option<Cursor>| {
        db.job_lines(JobFilter::default()).after(after).limit(PAGE).await
    };
    let of_one = async |after: Option<Cursor>| {
        let filter = JobFilter { target: of("many"), ..JobFilter::default() };
        db.job_lines(filter).after(after).limit(PAGE).await
    };
    let runs = async |after: Option<Cursor>| {
        db.run_lines(RunFilter::default()).after(after).limit(PAGE).await
    };
    macro_rules! pages {
        ($name:literal, $page:ident) => {{
            let last = last_page(&$page).await?;
            let first = opened.each(reps, async |_| $page(None).await.map(drop)).await?;
            report.add(concat!($name, ", page 1"), first);
            let figures = opened.each(reps, async |_| $page(last.clone()).await.map(drop)).await?;
            report.add(concat!($name, ", last page"), figures);
        }};
    }
    pages!("component_lines", components);
    pages!("job_lines", jobs);
    pages!("job_lines of a component", of_one);
    pages!("run_lines", runs);
    let failed = async |_| {
        let states = Some(vec![JobState::Failed]);
        db.job_lines(JobFilter { states, ..JobFilter::default() }).await.map(drop)
    };
    report.add("job_lines, failed, of which there are none", opened.each(reps, failed).await?);
    for name in ["few", "many"] {
        let filter = || RunFilter { component: of(name), ..RunFilter::default() };
        let figures = opened.each(reps, async |_| db.runs(filter()).await.map(drop)).await?;
        let name = format!("runs of a component with {name} jobs");
        report.add(&name, figures);
    }
    let statuses = async |_| {
        let all = (0..PAGE).map(|number| Address::new(KIND, format!("c{number:06}")));
        db.statuses(all).await.map(drop)
    };
    report.add("statuses of 100", opened.each(reps, statuses).await?);
    Ok(report.done())
}
