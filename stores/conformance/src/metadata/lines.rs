//! Lines of lists, and reads that go by a place in an order.

use super::fixture::*;
use superduper_core::{
    Address,
    store::{
        Actor, After, Block, ComponentFilter, ComponentLine, Finished, Health, JobCounts,
        JobFilter, JobId, JobRole, JobState, MAX_LINE_TEXT, MetadataStore, NewJob, NewRun, Op,
        Pool, PoolPlace, PutAction, RunFilter, RunId, RunPurpose, RunState, UnhealthyJobs,
    },
};

async fn components(
    store: &dyn MetadataStore,
    filter: ComponentFilter,
    after: Option<Address>,
    limit: usize,
) -> Vec<String> {
    let lines = done(store.component_lines(filter, after, limit).await);
    lines.into_iter().map(|line| line.address.unversioned().to_string()).collect()
}

fn of_kind(kind: &str, name: &str) -> Op {
    let mut new = put(PutAction::Create, name, 0, 0);
    new.address.kind = kind.to_owned();
    Op::Put(new)
}

/// Pages of components follow each other, by kind and identifier, and filters hold.
pub async fn components_are_listed_in_pages(store: &dyn MetadataStore) {
    let names = ["b", "a", "C", "d", "ä"];
    commit(store, names.iter().map(|name| create(name)).collect()).await;
    commit(store, vec![of_kind("other.Kind", "z"), of_kind("test.Kin", "zz")]).await;
    let all = components(store, ComponentFilter::new(), None, 100).await;
    let sorted = [
        "other.Kind/z",
        "test.Kin/zz",
        "test.Kind/C",
        "test.Kind/a",
        "test.Kind/b",
        "test.Kind/d",
        "test.Kind/ä",
    ];
    assert_eq!(all, sorted, "by kind and identifier, byte by byte");
    for size in 1..=3 {
        let mut walked: Vec<String> = Vec::new();
        loop {
            let after: Option<Address> =
                walked.last().map(|path| path.parse().expect("an address"));
            let page = components(store, ComponentFilter::new(), after, size).await;
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(walked, sorted, "in pages of {size}");
    }
    let kind = || ComponentFilter::new().kind("test.Kind");
    assert_eq!(components(store, kind(), None, 2).await, sorted[2..4]);
    assert_eq!(components(store, kind(), Some(address("a")), 2).await, sorted[4..6]);
    let before = Address::new("a.Kind", "x");
    assert_eq!(components(store, kind(), Some(before), 1).await, sorted[2..3]);
    let behind = Address::new("u.Kind", "x");
    assert!(components(store, kind(), Some(behind), 1).await.is_empty());
    let text = |text: &str| ComponentFilter::new().text(text);
    assert_eq!(components(store, text("KIND/c"), None, 9).await, ["test.Kind/C"]);
    assert_eq!(components(store, text("z"), None, 9).await, sorted[..2]);
    assert!(components(store, text("%"), None, 9).await.is_empty(), "a text is no pattern");
    commit(
        store,
        vec![
            version("a", 1),
            Op::Label { address: address("a"), label: "prod".into(), version: Some(0), at: at(5) },
            Op::Label { address: address("a"), label: "beta".into(), version: Some(1), at: at(5) },
            Op::Label { address: address("d"), label: "prod".into(), version: Some(0), at: at(5) },
        ],
    )
    .await;
    let prod = ComponentFilter::new().label("prod");
    assert_eq!(components(store, prod.clone(), None, 9).await, ["test.Kind/a", "test.Kind/d"]);
    assert!(components(store, prod.kind("test.Kin"), None, 9).await.is_empty());
    let line = done(store.component_lines(kind().text("/a"), None, 1).await).remove(0);
    assert_eq!((line.address, line.versions), (exact("a", 1, 0), 2));
    assert_eq!(line.labels, [("beta".to_owned(), 1), ("prod".to_owned(), 0)]);
    assert_eq!((line.created_at, line.updated_at), (at(0), at(100)));
    commit(store, vec![Op::Delete { address: address("b"), versions: vec![0] }]).await;
    assert!(!components(store, kind(), None, 9).await.contains(&"test.Kind/b".to_owned()));
}

async fn line_of(store: &dyn MetadataStore, name: &str) -> ComponentLine {
    let lines = done(store.component_lines(ComponentFilter::new(), None, 100).await);
    lines.into_iter().find(|line| line.address.identifier == name).expect("it is listed")
}

/// A line counts the jobs that did not succeed, of the component and of what it holds.
pub async fn components_are_listed_with_their_health(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "child", &["fit", "fit", "go"]).await;
    let owes = {
        let mut new = put(PutAction::Create, "owes", 0, 0);
        new.owes_jobs = true;
        Op::Put(new)
    };
    commit(store, vec![with_children(create("parent"), &[("child", 0)]), owes]).await;
    let of = |method: &str, state, jobs| {
        UnhealthyJobs::new("test.Kind", JobRole::Trigger, method, state, jobs)
    };
    let queued = |jobs| vec![of("fit", JobState::Queued, 1), of("go", JobState::Queued, jobs)];
    for name in ["child", "parent"] {
        let line = line_of(store, name).await;
        assert_eq!((line.unhealthy.clone(), line.health()), (queued(1), Health::Pending));
    }
    let owner = register(store).await;
    let fail = finish(ids[1], 1, owner, Finished::Failed(failure("no")));
    let spawned: Vec<NewJob> = (0..3).map(|n| job("child", "go").key(format!("{n}"))).collect();
    let run = job_row(store, ids[0]).await.run;
    commit(
        store,
        vec![
            claim(&ids, owner, true),
            succeeded(ids[0], 1, owner),
            fail,
            succeeded(ids[2], 1, owner),
            Op::Jobs { run: Some(run), jobs: spawned },
        ],
    )
    .await;
    let expected = vec![of("fit", JobState::Failed, 1), of("go", JobState::Queued, 3)];
    for name in ["child", "parent"] {
        let line = line_of(store, name).await;
        assert_eq!((line.unhealthy.clone(), line.health()), (expected.clone(), Health::Degraded));
    }
    assert_eq!(line_of(store, "owes").await.health(), Health::OwesJobs);
    commit(store, vec![Op::Removing { address: address("owes"), on: true }]).await;
    assert_eq!(line_of(store, "owes").await.health(), Health::Removing);
}

/// The health of many components at once is that of each.
pub async fn health_is_told_of_many_components(store: &dyn MetadataStore) {
    run_of(store, "one", &["fit"]).await;
    run_of(store, "two", &["fit", "go"]).await;
    commit(store, vec![with_children(create("holds"), &[("one", 0), ("two", 0)])]).await;
    let asked = ["holds", "absent", "one", "holds", "two"].map(address);
    let found = done(store.health_of(asked.to_vec()).await);
    for (address, found) in asked.into_iter().zip(&found) {
        assert_eq!(*found, done(store.health(address.clone()).await), "{address}");
    }
    assert_eq!(found[0].as_ref().map(|health| health.unhealthy.len()), Some(3));
    assert!(done(store.health_of(Vec::new()).await).is_empty());
}

async fn job_ids(store: &dyn MetadataStore, filter: &JobFilter, after: After<JobId>) -> Vec<JobId> {
    done(store.job_lines(filter.clone(), after).await).into_iter().map(|line| line.id).collect()
}

/// Pages of jobs follow each other in both directions, and hold what the rows hold.
pub async fn jobs_are_listed_in_pages(store: &dyn MetadataStore) {
    let (run, mut ids) = run_of(store, "a", &["one", "two", "three"]).await;
    ids.extend(run_of(store, "b", &["one", "two"]).await.1);
    ids.extend(
        commit(store, vec![start_run("a"), jobs(vec![job("b", "one"), job("a", "two")])])
            .await
            .jobs,
    );
    let all = JobFilter::default();
    let mut reversed = ids.clone();
    reversed.reverse();
    for size in 1..=4 {
        for (newest_first, expected) in [(true, &reversed), (false, &ids)] {
            let mut walked: Vec<JobId> = Vec::new();
            loop {
                let mut after =
                    if newest_first { After::newest(size) } else { After::oldest(size) };
                after.last = walked.last().copied();
                let page = job_ids(store, &all, after).await;
                if page.is_empty() {
                    break;
                }
                walked.extend(page);
            }
            assert_eq!(walked, *expected, "pages of {size}, the newest first: {newest_first}");
        }
    }
    let of_a = JobFilter { target: Some(address("a")), ..JobFilter::default() };
    assert_eq!(job_ids(store, &of_a, After::newest(2)).await, [ids[6], ids[2]]);
    assert_eq!(job_ids(store, &of_a, After::newest(2).after(ids[2])).await, [ids[1], ids[0]]);
    let of_run = JobFilter { run: Some(run), ..JobFilter::default() };
    assert_eq!(job_ids(store, &of_run, After::oldest(2).after(ids[0])).await, ids[1..3]);
    let some = JobFilter { ids: Some(vec![ids[4], ids[1], JobId(99)]), ..JobFilter::default() };
    assert_eq!(job_ids(store, &some, After::oldest(9)).await, [ids[1], ids[4]]);
    // Another component of the same name, after the first one was removed.
    let owner = register(store).await;
    let ops = vec![claim(&ids, owner, true)];
    commit(store, ops).await;
    commit(store, ids.iter().map(|id| succeeded(*id, 1, owner)).collect()).await;
    commit(store, vec![Op::Delete { address: address("a"), versions: vec![0] }]).await;
    let (_, newer) = run_of(store, "a", &["one"]).await;
    assert_eq!(job_ids(store, &of_a, After::newest(2)).await, [newer[0], ids[6]]);
    assert_eq!(
        job_ids(store, &of_a, After::newest(9).after(ids[6])).await,
        [ids[2], ids[1], ids[0]]
    );
}

/// Each filter of jobs holds, alone and with the others, in both reads.
pub async fn jobs_are_found_by_what_they_are(store: &dyn MetadataStore) {
    let pool = r#"{"executor":"process","pool":["gpu",2]}"#;
    let new = |method: &str, executor: Option<&str>| {
        job("a", method).executor(executor.map(str::to_owned))
    };
    let all = vec![
        new("one", None),
        new("one", Some(pool)),
        new("two", Some("process")),
        new("two", Some("{\"cut")),
        new("three", Some(pool)).key("k".to_owned()),
    ];
    commit(store, vec![create("a"), of_kind("other.Kind", "o")]).await;
    let ids = commit(store, vec![start_run("a"), jobs(all)]).await.jobs;
    let mut other = job("o", "one");
    other.target.kind = "other.Kind".to_owned();
    let other = commit(store, vec![start_run("a"), jobs(vec![other])]).await.jobs[0];
    let (mine, yours) = (register(store).await, register(store).await);
    let fail = finish(ids[2], 1, mine, Finished::Failed(failure(&"long ".repeat(40_000))));
    commit(
        store,
        vec![
            claim(&ids[..1], mine, true),
            claim(&ids[1..2], yours, false),
            claim(&ids[2..3], mine, true),
            fail,
        ],
    )
    .await;
    let base = JobFilter::default;
    let found = async |filter: JobFilter| {
        let lines = job_ids(store, &filter, After::oldest(9)).await;
        let rows: Vec<JobId> =
            done(store.jobs(filter).await).into_iter().map(|row| row.id).collect();
        assert_eq!(lines, rows, "lines and rows are of the same jobs");
        lines
    };
    let states = |all: &[JobState]| Some(all.to_vec());
    assert_eq!(found(JobFilter { kind: Some("other.Kind".into()), ..base() }).await, [other]);
    assert_eq!(found(JobFilter { method: Some("two".into()), ..base() }).await, ids[2..4]);
    assert_eq!(found(JobFilter { pool: Some("gpu".into()), ..base() }).await, [ids[1], ids[4]]);
    assert_eq!(found(JobFilter { owner: Some(mine), ..base() }).await, [ids[0]]);
    assert_eq!(found(JobFilter { owner: Some(yours), ..base() }).await, [ids[1]]);
    let failed = JobFilter { states: states(&[JobState::Failed]), ..base() };
    assert_eq!(found(failed.clone()).await, [ids[2]]);
    let open = states(&[JobState::Queued, JobState::Running]);
    let both = JobFilter { states: open, method: Some("one".into()), ..base() };
    assert_eq!(found(both).await, [ids[0], ids[1], other]);
    let key = JobFilter { key: Some("k".into()), pool: Some("gpu".into()), ..base() };
    assert_eq!(found(key).await, [ids[4]]);
    let line = done(store.job_lines(failed, After::newest(1)).await).remove(0);
    let error = line.error.expect("why it failed");
    assert!(!error.is_empty() && error.len() <= MAX_LINE_TEXT, "{error}");
    let short = JobFilter { ids: Some(vec![ids[1]]), ..base() };
    let line = done(store.job_lines(short, After::newest(1)).await).remove(0);
    let row = job_row(store, ids[1]).await;
    assert_eq!(line, superduper_core::store::JobLine::of(&row), "a line is of its row");
}

/// A job that is blocked says since when.
pub async fn blocks_have_a_time(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["one", "two"]).await;
    let born = job("a", "three").blocked("a grant".to_owned());
    let born = commit(store, vec![Op::Jobs { run: Some(run), jobs: vec![born] }]).await.jobs[0];
    let owner = register(store).await;
    let block = Finished::Blocked(Block::new("an answer"));
    let by_hand = Op::Block { job: ids[1], reason: Some("x".repeat(999)), at: at(77) };
    commit(store, vec![claim(&ids[..1], owner, true), finish(ids[0], 1, owner, block), by_hand])
        .await;
    let since = async |job: JobId| {
        let filter = JobFilter { ids: Some(vec![job]), ..JobFilter::default() };
        let line = done(store.job_lines(filter, After::newest(1)).await).remove(0);
        assert_eq!(line.blocked_at, job_row(store, job).await.blocked_at);
        assert!(line.blocked.is_none_or(|text| text.len() <= MAX_LINE_TEXT));
        line.blocked_at
    };
    assert_eq!(since(born).await, Some(at(2)));
    assert_eq!(since(ids[0]).await, Some(at(20)));
    assert_eq!(since(ids[1]).await, Some(at(77)));
    let ops = [born, ids[0], ids[1]].map(|job| Op::Block { job, reason: None, at: at(80) });
    commit(store, ops.to_vec()).await;
    for job in [born, ids[0], ids[1]] {
        assert_eq!(since(job).await, None);
    }
}

async fn run_ids(store: &dyn MetadataStore, filter: &RunFilter, after: After<RunId>) -> Vec<RunId> {
    done(store.run_lines(filter.clone(), after).await).into_iter().map(|line| line.id).collect()
}

/// Pages of runs follow each other, say who recorded them, and count their jobs by state.
pub async fn runs_are_listed_in_pages(store: &dyn MetadataStore) {
    let actor = Actor::new("maria").origin("dashboard").note("ticket 4711");
    let (first, ids) = run_of(store, "a", &["one", "two", "three"]).await;
    let mut new = NewRun::new(RunPurpose::Apply, address("a").at(0), at(3));
    new.actor = Some(actor.clone());
    let second = commit(
        store,
        vec![create("b"), Op::Run(new), jobs(vec![job("a", "one"), job("b", "one")])],
    )
    .await;
    let (second, later) = (second.run.expect("a run"), second.jobs);
    let third = commit(store, vec![start_run("b")]).await.run.expect("a run");
    let all = RunFilter::default();
    assert_eq!(run_ids(store, &all, After::newest(2)).await, [third, second]);
    assert_eq!(run_ids(store, &all, After::newest(2).after(second)).await, [first]);
    assert_eq!(run_ids(store, &all, After::oldest(2).after(first)).await, [second, third]);
    let of = |name: &str| RunFilter { component: Some(address(name)), ..RunFilter::default() };
    assert_eq!(run_ids(store, &of("a"), After::newest(9)).await, [second, first]);
    assert_eq!(run_ids(store, &of("b"), After::newest(9)).await, [third, second]);
    assert_eq!(run_ids(store, &of("b"), After::newest(1)).await, [third]);
    assert_eq!(run_ids(store, &of("b"), After::newest(1).after(third)).await, [second]);
    assert_eq!(run_ids(store, &of("a"), After::oldest(1).after(first)).await, [second]);
    assert!(run_ids(store, &of("absent"), After::newest(9)).await.is_empty());
    let by = RunFilter { actor: Some("maria".into()), ..RunFilter::default() };
    assert_eq!(run_ids(store, &by, After::newest(9)).await, [second]);
    assert_eq!(run_ids(store, &RunFilter { ..of("a") }, After::newest(1)).await, [second]);
    let both = RunFilter { actor: Some("maria".into()), ..of("b") };
    assert_eq!(run_ids(store, &both, After::newest(1)).await, [second]);
    assert_eq!(done(store.runs(both).await).len(), 1);
    let line = async |run: RunId| {
        let filter = RunFilter { id: Some(run), ..RunFilter::default() };
        done(store.run_lines(filter, After::newest(1)).await).remove(0)
    };
    assert_eq!((line(second).await.actor, line(first).await.actor), (Some(actor.clone()), None));
    let filter = RunFilter { id: Some(second), ..RunFilter::default() };
    assert_eq!(done(store.runs(filter).await)[0].actor, Some(actor));
    let counted = |all: &[(JobState, u64)]| {
        let mut counts = JobCounts::new();
        all.iter().for_each(|(state, jobs)| counts.add(*state, *jobs));
        counts
    };
    assert_eq!(line(first).await.jobs, counted(&[(JobState::Queued, 3)]));
    assert_eq!(line(third).await.jobs, counted(&[]));
    let owner = register(store).await;
    let fail = finish(ids[1], 1, owner, Finished::Failed(failure("no")));
    commit(store, vec![claim(&ids[..2], owner, true), succeeded(ids[0], 1, owner), fail]).await;
    let mixed = [(JobState::Succeeded, 1), (JobState::Failed, 1), (JobState::Queued, 1)];
    assert_eq!(line(first).await.jobs, counted(&mixed));
    commit(store, cancelled(&ids[2..])).await;
    commit(store, vec![Op::EndRun { run: first, state: RunState::Failed, at: at(60) }]).await;
    let ended = [(JobState::Succeeded, 1), (JobState::Failed, 1), (JobState::Cancelled, 1)];
    let found = line(first).await;
    assert_eq!((found.jobs, found.ended_at), (counted(&ended), Some(at(60))));
    let failed = RunFilter { states: Some(vec![RunState::Failed]), ..RunFilter::default() };
    assert_eq!(run_ids(store, &failed, After::newest(9)).await, [first]);
    assert_eq!(
        run_ids(
            store,
            &RunFilter { states: Some(vec![RunState::Running]), ..of("a") },
            After::newest(1)
        )
        .await,
        [second]
    );
    commit(store, vec![Op::Jobs { run: Some(first), jobs: vec![job("a", "late")] }]).await;
    assert_eq!(line(first).await.jobs.queued, 1, "a job that was added after the end counts");
    assert_eq!(line(second).await.jobs.total(), later.len() as u64);
}

/// The places of a pool are told with the jobs that have them.
pub async fn places_of_pools_are_listed(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two", "three"]).await;
    let owner = register(store).await;
    let claim = Op::Claim {
        jobs: ids.clone(),
        owner,
        start: true,
        pool: Some(Pool { name: "gpu".to_owned(), limit: 2 }),
        at: at(10),
    };
    commit(store, vec![claim]).await;
    let places = done(store.pool_places("gpu".to_owned()).await);
    assert_eq!(places, [PoolPlace::new(ids[0], 1, owner), PoolPlace::new(ids[1], 1, owner)]);
    assert!(done(store.pool_places("cpu".to_owned()).await).is_empty());
}
