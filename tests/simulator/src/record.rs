//! The record: the memory store itself, called without a runtime, and what must hold for every
//! commit.
//!
//! The store's futures are ready at once, so each call is polled once. What is checked here knows
//! nothing of the scheduler: it looks at rows, answers and events alone.

use crate::shape::{BACKOFF, JobShape, Shape, is_met};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    task::{Context, Poll, Waker},
};
use superduper_core::{
    Address, Digest, Error, Result, VersionRef,
    job::Placement,
    store::{
        Batch, BlobRow, ChangeCursor, Committed, Cursor, Durability, JobFilter, JobId, JobRef,
        JobRole, JobRow, JobState, MetadataStore, Need, NewJob, NewRun, Op, PutAction, PutVersion,
        RunChanges, RunFilter, RunId, RunPurpose, RunState, Timestamp, WorkerId,
    },
};
use superduper_memory::MemoryStore;

/// The time of day at which worlds begin.
pub(crate) const BASE: i64 = 1_700_000_000_000;

/// The record, and what is known of it beside the store.
#[derive(Debug)]
pub(crate) struct Record {
    store: MemoryStore,
    /// The jobs that a job needs, with whether they must succeed.
    needs: HashMap<JobId, Vec<(JobId, bool)>>,
    /// The jobs of the shape, by id; what is spawned is plain.
    pub(crate) shapes: HashMap<JobId, JobShape>,
    pub(crate) runs: Vec<RunId>,
    pub(crate) jobs: Vec<JobId>,
    run_of: HashMap<JobId, RunId>,
    finals: HashMap<JobId, JobState>,
    /// Jobs that somebody asked to cancel, and failures that were the last word on their job.
    pub(crate) asked: HashSet<JobId>,
    pub(crate) fatal: HashSet<JobId>,
    last_event: Cursor,
    pub(crate) broken: Option<String>,
}

/// A call of the store, which is ready at once.
fn ready<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Err(Error::internal("the memory store waits for something")),
    }
}

fn sure<T>(call: impl Future<Output = Result<T>>) -> T {
    ready(call).unwrap_or_else(|error| panic!("the store refuses what every world does: {error:?}"))
}

fn target() -> Address {
    Address {
        version: Some(VersionRef { version: 0, revision: Some(0) }),
        ..Address::new("sim.Kind", "c")
    }
}

pub(crate) fn blob(job: JobId) -> BlobRow {
    BlobRow { path: "result".to_owned(), digest: Digest::of(&job.0.to_le_bytes()), size: 8 }
}

/// What not every program has.
pub(crate) const SPECIAL: &str = "special";

pub(crate) fn new_job(shape: &JobShape, key: Option<&str>) -> NewJob {
    let placement =
        Placement { pool: shape.pooled.then(|| ("p".to_owned(), 1)), ..Placement::default() };
    NewJob::new(
        target(),
        JobRole::Trigger,
        if shape.special { SPECIAL } else { "go" },
        Timestamp(BASE),
    )
    .key(key.map(str::to_owned))
    .tolerated(shape.tolerated)
    .blocked(shape.blocked.then(|| "a grant".to_owned()))
    .executor(shape.pooled.then(|| serde_json::to_string(&placement).unwrap_or_default()))
    .retries(shape.retries)
    .backoff_ms(BACKOFF)
}

impl Record {
    pub(crate) fn new(shape: &Shape) -> Self {
        let put = PutVersion {
            address: target(),
            action: PutAction::Create,
            uuid: Digest::of(b"c"),
            content_hash: Digest::of(b"c"),
            type_version: 1,
            document: json!({}),
            edges: Vec::new(),
            blobs: Vec::new(),
            content_of: None,
            owes_jobs: false,
            at: Timestamp(BASE),
        };
        let mut record = Record {
            store: MemoryStore::new(),
            needs: HashMap::new(),
            shapes: HashMap::new(),
            runs: Vec::new(),
            jobs: Vec::new(),
            run_of: HashMap::new(),
            finals: HashMap::new(),
            asked: HashSet::new(),
            fatal: HashSet::new(),
            last_event: Cursor::default(),
            broken: None,
        };
        sure(
            record
                .store
                .commit(Batch { expect: Vec::new(), ops: vec![Op::Put(put)] }, Durability::Relaxed),
        );
        shape.runs.iter().for_each(|jobs| record.add_run(jobs));
        record
    }

    fn add_run(&mut self, shapes: &[JobShape]) {
        let first = self.jobs.len();
        let root = Address { version: Some(VersionRef { version: 0, revision: None }), ..target() };
        let run = NewRun::new(RunPurpose::Apply, root, Timestamp(BASE));
        let jobs = shapes.iter().map(|shape| {
            let need = |place: &usize| {
                let job = if *place < first {
                    JobRef::Id(self.jobs[*place])
                } else {
                    JobRef::New(*place - first)
                };
                Need { job, parameter: None, any_end: shape.any_end }
            };
            new_job(shape, None).needs(shape.needs.iter().map(need).collect())
        });
        let ops = vec![Op::Run(run), Op::Jobs { run: None, jobs: jobs.collect() }];
        let made = sure(self.store.commit(Batch { expect: Vec::new(), ops }, Durability::Relaxed));
        let run = made.run.unwrap_or(RunId(0));
        self.runs.push(run);
        self.jobs.extend(&made.jobs);
        for (shape, id) in shapes.iter().zip(&made.jobs) {
            let needs = shape
                .needs
                .iter()
                .map(|place| (self.jobs[*place], *place >= first && !shape.any_end));
            self.needs.insert(*id, needs.collect());
            self.shapes.insert(*id, shape.clone());
            self.run_of.insert(*id, run);
        }
    }

    fn must(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(text());
        }
    }

    /// Write a batch, and look whether all that must hold does.
    pub(crate) fn commit(&mut self, ops: Vec<Op>) -> Result<Committed> {
        let committed = ready(
            self.store.commit(Batch { expect: Vec::new(), ops: ops.clone() }, Durability::Relaxed),
        )?;
        self.note_spawned(&ops, &committed);
        self.read_events();
        for claimed in &committed.claimed {
            let needs = self.needs.get(&claimed.job).cloned().unwrap_or_default();
            let early = needs.iter().find(|(need, must_succeed)| {
                !is_met(self.finals.get(need).copied(), *must_succeed)
            });
            self.must(early.is_none(), || {
                format!("job {} was claimed before job {early:?} was done", claimed.job)
            });
        }
        for op in &ops {
            if let Op::Finish(finish) = op {
                let row = self.row(finish.job);
                let is_final = row.state.is_terminal();
                let most = row.retries + u32::from(is_final);
                self.must(row.tries <= most, || {
                    format!("job {} was tried {} times, {most} are the most", row.id, row.tries)
                });
            }
        }
        Ok(committed)
    }

    /// Jobs that were spawned, and that others wait for now.
    fn note_spawned(&mut self, ops: &[Op], committed: &Committed) {
        for (by, ids) in &committed.spawned {
            let run = self.run_of[by];
            let finish = ops.iter().find_map(|op| match op {
                Op::Finish(finish) if finish.job == *by => Some(finish),
                _ => None,
            });
            for id in ids {
                if self.asked.contains(by) && !committed.known.contains(id) {
                    self.asked.insert(*id);
                }
                self.run_of.insert(*id, run);
                self.needs.entry(*id).or_default();
                self.shapes.entry(*id).or_default();
                if !self.jobs.contains(id) {
                    self.jobs.push(*id);
                }
            }
            for (waiting, place) in finish.iter().flat_map(|finish| &finish.spawned_before) {
                let needs = self.needs.entry(*waiting).or_default();
                if !needs.contains(&(ids[*place], true)) {
                    needs.push((ids[*place], true));
                }
            }
        }
    }

    /// Each job has one end, and each end is an event.
    fn read_events(&mut self) {
        let events = sure(self.store.events(self.last_event.clone(), None, usize::MAX));
        self.last_event = events.next.clone();
        for event in events {
            let state = match event.kind.as_str() {
                "job.succeeded" => JobState::Succeeded,
                "job.failed" => JobState::Failed,
                "job.cancelled" => JobState::Cancelled,
                "job.skipped" => JobState::Skipped,
                _ => continue,
            };
            let Some(job) = event.job else { continue };
            let before = self.finals.insert(job, state);
            self.must(before.is_none(), || {
                format!("job {job} became {state} after it was {before:?}")
            });
            if state == JobState::Skipped {
                let needs = self.needs.get(&job).cloned().unwrap_or_default();
                let lost = |(need, must_succeed): &(JobId, bool)| {
                    *must_succeed
                        && self.finals.get(need).is_some_and(|state| *state != JobState::Succeeded)
                };
                let explained = needs.iter().any(lost);
                self.must(explained, || {
                    format!(
                        "job {job} was skipped, and all that it needs may still succeed: {needs:?}"
                    )
                });
            }
        }
    }

    pub(crate) fn is_of(&self, job: JobId, run: RunId) -> bool {
        self.run_of.get(&job) == Some(&run)
    }

    pub(crate) fn jobs_of(&self, run: RunId) -> Vec<JobId> {
        self.jobs.iter().filter(|job| self.is_of(**job, run)).copied().collect()
    }

    pub(crate) fn row(&self, job: JobId) -> JobRow {
        let rows =
            sure(self.store.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }));
        rows.into_iter().next().unwrap_or_else(|| panic!("job {job} is not on record"))
    }

    pub(crate) fn rows(&self, ids: Vec<JobId>) -> Vec<JobRow> {
        sure(self.store.jobs(JobFilter { ids: Some(ids), ..JobFilter::default() }))
    }

    pub(crate) fn changes(&self, run: RunId, after: ChangeCursor) -> RunChanges {
        sure(self.store.changes(run, after)).unwrap_or_else(|| panic!("run {run} is on record"))
    }

    /// The jobs of the same run that need a job and have not ended.
    pub(crate) fn waiting_for(&self, job: JobId) -> Vec<JobId> {
        let needs = |id: &JobId| {
            self.needs[id].iter().any(|(need, _)| *need == job)
                && self.run_of[id] == self.run_of[&job]
        };
        let waits = |id: &&JobId| needs(id) && !self.finals.contains_key(*id);
        self.jobs.iter().filter(waits).copied().collect()
    }

    pub(crate) fn register_worker(&self) -> WorkerId {
        sure(self.store.register_worker(Default::default()))
    }

    pub(crate) fn deregister_worker(&self, worker: WorkerId) {
        sure(self.store.deregister_worker(worker));
    }

    pub(crate) fn dead(&self) -> Vec<WorkerId> {
        sure(self.store.dead_workers())
    }

    pub(crate) fn sweep_epoch(&self) -> u64 {
        sure(self.store.snapshot(Vec::new())).sweep_epoch
    }

    /// The number of a new sweep lock.
    pub(crate) fn sweep_lock(&self) -> i64 {
        sure(self.store.sweep_lock()).map_or(0, |lock| lock.token())
    }

    pub(crate) fn doomed(&self) -> Vec<Digest> {
        sure(self.store.marked_blobs())
    }

    pub(crate) fn run_state(&self, run: RunId) -> RunState {
        let rows = sure(self.store.runs(RunFilter { id: Some(run), ..RunFilter::default() }));
        rows.first().map_or(RunState::Running, |row| row.state)
    }

    /// What must hold when all is over.
    pub(crate) fn check_end(&mut self) {
        for job in self.jobs.clone() {
            let row = self.row(job);
            let needs = self.needs.get(&job).cloned().unwrap_or_default();
            match row.state {
                JobState::Succeeded => {
                    let met = needs.iter().all(|(need, must_succeed)| {
                        is_met(self.finals.get(need).copied(), *must_succeed)
                    });
                    self.must(met, || {
                        format!("job {job} succeeded, and what it needs did not: {needs:?}")
                    });
                }
                JobState::Cancelled => {
                    let asked = self.asked.contains(&job);
                    self.must(asked, || format!("job {job} is cancelled, and nobody asked for it"));
                }
                JobState::Failed => {
                    let why = row.tries > row.retries || row.lost >= 3 || self.fatal.contains(&job);
                    self.must(why, || {
                        format!(
                            "job {job} failed after {} tries of {} more than one",
                            row.tries, row.retries
                        )
                    });
                }
                JobState::Skipped => {}
                state => self.must(false, || format!("job {job} is {state} when all is over")),
            }
        }
        for run in self.runs.clone() {
            let counts = |job: &&JobId| self.run_of[*job] == run && !self.shapes[*job].tolerated;
            let states: Vec<JobState> =
                self.jobs.iter().filter(counts).map(|job| self.finals[job]).collect();
            let expected = match states {
                states if states.contains(&JobState::Failed) => RunState::Failed,
                states if states.contains(&JobState::Cancelled) => RunState::Cancelled,
                states if states.contains(&JobState::Skipped) => RunState::Failed,
                _ => RunState::Succeeded,
            };
            let found = self.run_state(run);
            self.must(found == expected, || {
                format!("run {run} is {} and its jobs say {}", found.name(), expected.name())
            });
        }
    }

    /// A digest of all that is on record.
    pub(crate) fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let rows = sure(self.store.jobs(JobFilter::default()));
        let (runs, mut events) = (
            sure(self.store.runs(RunFilter::default())),
            sure(self.store.events(Cursor::default(), None, usize::MAX)),
        );
        // A signal has no time of its own: its event has that of the store, which is real.
        for event in events.rows.iter_mut().filter(|event| event.kind == "job.signalled") {
            event.at = Timestamp(0);
        }
        let attempts: Vec<_> = rows.iter().map(|row| sure(self.store.attempts(row.id))).collect();
        hasher.update(format!("{rows:?}{runs:?}{events:?}{attempts:?}").as_bytes());
        hasher.finalize()
    }
}
