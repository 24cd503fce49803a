//! The order of jobs against a naive oracle, over random graphs and random histories.
//!
//! The oracle keeps nothing but what each job needs and what became of those that ended; all else
//! it works out anew. The store is one that writes everything.

use super::{Config, Effect, Fault, Input, Loaded, Now, PhaseName, Report, Scheduler};
use crate::{
    address::Address,
    error::{FailureKind, JobFailure},
    job::new_row,
    store::{
        ChangeCursor, Claimed, Committed, Finish, Finished, JobDependency, JobId, JobRef, JobRole,
        JobRow, JobSignals, JobState, Need, NewJob, NewRun, Op, RunChanges, RunId, RunPurpose,
        RunRow, RunState, Timestamp, WorkerId,
    },
};
use std::collections::{BTreeMap, BTreeSet};

const WORKER: WorkerId = WorkerId(1);
const RUN: RunId = RunId(1);

/// A small generator of pseudo-random numbers (xorshift64*), the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Runs,
    Succeeded,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Ready,
    Runs,
    Succeeded,
    Failed,
    Skipped,
}

#[derive(Default)]
struct Oracle {
    needs: Vec<BTreeSet<usize>>,
    fates: Vec<Fate>,
}

impl Oracle {
    fn is_lost(&self, job: usize) -> bool {
        match self.fates[job] {
            Fate::Failed => true,
            Fate::Open => self.needs[job].iter().any(|need| self.is_lost(*need)),
            Fate::Runs | Fate::Succeeded => false,
        }
    }

    fn progress(&self, job: usize) -> Progress {
        match self.fates[job] {
            Fate::Succeeded => Progress::Succeeded,
            Fate::Failed => Progress::Failed,
            Fate::Runs => Progress::Runs,
            Fate::Open if self.is_lost(job) => Progress::Skipped,
            Fate::Open
                if self.needs[job].iter().all(|need| self.fates[*need] == Fate::Succeeded) =>
            {
                Progress::Ready
            }
            Fate::Open => Progress::Waiting,
        }
    }
}

fn id(job: usize) -> JobId {
    JobId(i64::try_from(job).expect("few jobs") + 1)
}

fn place(job: JobId) -> usize {
    usize::try_from(job.0 - 1).expect("an id of these")
}

fn new_job(needs: impl Iterator<Item = JobId>) -> NewJob {
    NewJob {
        needs: needs.map(|job| Need::success(JobRef::Id(job))).collect(),
        ..NewJob::new(Address::new("oracle.Kind", "one"), JobRole::Trigger, "run", Timestamp(0))
    }
}

struct World {
    seed: u64,
    time: u64,
    scheduler: Scheduler,
    oracle: Oracle,
    /// What is on record.
    rows: Vec<JobRow>,
    attempts: BTreeMap<JobId, u32>,
    ended: Vec<RunState>,
}

impl World {
    fn new(seed: u64, needs: Vec<BTreeSet<usize>>) -> Self {
        let fates = vec![Fate::Open; needs.len()];
        let rows = (0..needs.len())
            .map(|job| new_row(new_job(std::iter::empty()), id(job), RUN))
            .collect();
        let mut world = World {
            seed,
            time: 0,
            scheduler: Self::scheduler(),
            oracle: Oracle { needs, fates },
            rows,
            attempts: BTreeMap::new(),
            ended: Vec::new(),
        };
        world.attach();
        world
    }

    fn scheduler() -> Scheduler {
        Scheduler::new(Config {
            worker: WORKER,
            permits: 3,
            shared: false,
            most_prefetched: 4,
            abilities: super::Abilities::all(),
            fault: Fault::None,
        })
    }

    fn on(&mut self, input: Input) {
        self.time += 1;
        self.scheduler.on(input, Now { ms: self.time, wall: Timestamp(0) });
    }

    /// Hand the run over as it is on record.
    fn attach(&mut self) {
        let at = Timestamp(0);
        let root = Address::new("oracle.Kind", "one");
        let run = RunRow::new(RUN, NewRun::new(RunPurpose::Apply, root, at));
        let edges = self.oracle.needs.iter().enumerate();
        let edges = edges.flat_map(|(job, needs)| needs.iter().map(move |need| (job, *need)));
        let dependencies = edges
            .map(|(job, needs)| JobDependency {
                job: id(job),
                needs: id(needs),
                parameter: None,
                any_end: false,
            })
            .collect();
        let changes = RunChanges {
            run,
            jobs: self.rows.clone(),
            dependencies,
            cursor: ChangeCursor::default(),
        };
        self.on(Input::Attach(Box::new(Loaded {
            changes,
            others: Vec::new(),
            other_workers: false,
        })));
        self.settle();
    }

    /// Decide until nothing follows any more.
    fn settle(&mut self) {
        loop {
            self.time += 1;
            let effects = self.scheduler.decide(Now { ms: self.time, wall: Timestamp(0) });
            self.scheduler.check().expect("it agrees with itself");
            let mut answers = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Commit { ops, .. } => answers.push(self.write(ops)),
                    Effect::Start { job, attempt, .. } => {
                        assert_eq!(
                            self.oracle.progress(place(job)),
                            Progress::Ready,
                            "seed {}: job {job} starts",
                            self.seed
                        );
                        self.oracle.fates[place(job)] = Fate::Runs;
                        self.attempts.insert(job, attempt);
                    }
                    Effect::Done { state, .. } => self.ended.push(state),
                    Effect::Read { .. } | Effect::Stopped { .. } | Effect::Fenced { .. } => {
                        panic!("seed {}: {effect:?}", self.seed)
                    }
                    _ => {}
                }
            }
            if answers.is_empty() {
                return;
            }
            for answer in answers {
                self.on(Input::Written { run: RUN, answer: Box::new(answer) });
            }
        }
    }

    fn write(&mut self, ops: Vec<Op>) -> Committed {
        let mut committed = Committed::default();
        for op in ops {
            match op {
                Op::Claim { jobs, .. } => {
                    for job in jobs {
                        let row = &mut self.rows[place(job)];
                        row.attempt += 1;
                        let claimed = Claimed {
                            job,
                            attempt: row.attempt,
                            tries: row.tries,
                            lost: 0,
                            signals: JobSignals::default(),
                        };
                        committed.claimed.push(claimed);
                    }
                }
                Op::Settle { job, state, .. } => self.rows[place(job)].state = state,
                Op::Finish(finish) => {
                    let (job, count) = (finish.job, self.rows.len());
                    self.rows[place(job)].state = match finish.end {
                        Finished::Succeeded(_) => JobState::Succeeded,
                        Finished::Failed(_) => JobState::Failed,
                        _ => JobState::Queued,
                    };
                    let ids: Vec<JobId> =
                        (0..finish.spawned.len()).map(|place| id(count + place)).collect();
                    self.rows.extend(
                        finish
                            .spawned
                            .into_iter()
                            .zip(&ids)
                            .map(|(job, id)| new_row(job, *id, RUN)),
                    );
                    if !ids.is_empty() {
                        committed.spawned.push((job, ids));
                    }
                }
                Op::Start { .. } | Op::EndRun { .. } => {}
                other => panic!("seed {}: {other:?}", self.seed),
            }
        }
        committed
    }

    /// The attempt of a job ends.
    fn end(&mut self, job: usize, end: Finished, spawned: Vec<NewJob>) {
        let (job, attempt) = (id(job), self.attempts[&id(job)]);
        let mut finish = Finish::plain(job, attempt, WORKER, Timestamp(0), Timestamp(0), end);
        let waiting: Vec<JobId> = (0..self.oracle.needs.len())
            .filter(|other| self.oracle.needs[*other].contains(&place(job)))
            .map(id)
            .collect();
        finish.spawned_before = (0..spawned.len())
            .flat_map(|index| waiting.iter().map(move |job| (*job, index)))
            .collect();
        finish.spawned = spawned;
        self.on(Input::Ended {
            run: RUN,
            job,
            attempt,
            report: Report::Finish(Box::new(finish)),
            late: false,
        });
    }

    fn step(&mut self, dice: &mut Dice) {
        let running: Vec<usize> = (0..self.oracle.fates.len())
            .filter(|job| self.oracle.fates[*job] == Fate::Runs)
            .collect();
        let job = running[dice.below(running.len())];
        match dice.below(10) {
            0 | 1 => {
                self.oracle.fates[job] = Fate::Failed;
                self.end(
                    job,
                    Finished::Failed(JobFailure::new(FailureKind::Error, "no")),
                    Vec::new(),
                );
            }
            2 => {
                self.oracle.fates[job] = Fate::Open;
                self.end(job, Finished::Released, Vec::new());
            }
            3 if self.rows.len() < 18 => self.spawn(dice, job),
            4 => {
                // Another process goes on from the record; what ran here was given back.
                self.oracle
                    .fates
                    .iter_mut()
                    .filter(|fate| **fate == Fate::Runs)
                    .for_each(|fate| *fate = Fate::Open);
                self.scheduler = Self::scheduler();
                return self.attach();
            }
            _ => {
                self.oracle.fates[job] = Fate::Succeeded;
                self.end(job, Finished::Succeeded(serde_json::Value::Null), Vec::new());
            }
        }
        self.settle();
    }

    /// A job succeeds and spawns another: what waits for it waits for that one too.
    fn spawn(&mut self, dice: &mut Dice, job: usize) {
        let new = self.oracle.needs.len();
        let needs = if dice.below(2) == 0 { BTreeSet::new() } else { BTreeSet::from([job]) };
        for (other, of_other) in self.oracle.needs.iter_mut().enumerate() {
            if self.oracle.fates[other] == Fate::Open && of_other.contains(&job) {
                of_other.insert(new);
            }
        }
        let spawned = vec![new_job(needs.iter().map(|need| id(*need)))];
        self.oracle.needs.push(needs);
        self.oracle.fates.push(Fate::Open);
        self.oracle.fates[job] = Fate::Succeeded;
        self.end(job, Finished::Succeeded(serde_json::Value::Null), spawned);
    }

    fn check(&self) {
        let expected: Vec<Progress> =
            (0..self.oracle.fates.len()).map(|job| self.oracle.progress(job)).collect();
        let running = expected.iter().filter(|progress| **progress == Progress::Runs).count();
        assert!(
            running == 3 || !expected.contains(&Progress::Ready),
            "seed {}: a permit is free and {expected:?}",
            self.seed
        );
        for (progress, row) in expected.iter().zip(&self.rows) {
            let state = match progress {
                Progress::Succeeded => JobState::Succeeded,
                Progress::Failed => JobState::Failed,
                Progress::Skipped => JobState::Skipped,
                _ => continue,
            };
            assert_eq!(row.state, state, "seed {}: job {}", self.seed, row.id);
        }
        for (job, phase) in self.scheduler.runs().flat_map(|run| run.phases()) {
            let fits = match expected[place(job)] {
                Progress::Waiting => phase == PhaseName::Waiting,
                Progress::Ready => matches!(phase, PhaseName::Ready | PhaseName::Prefetched),
                Progress::Runs => phase == PhaseName::Running,
                _ => phase == PhaseName::Final,
            };
            assert!(
                fits,
                "seed {}: job {job} is {phase:?}, and {:?} by the oracle",
                self.seed,
                expected[place(job)]
            );
        }
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let needs = (0..1 + dice.below(12))
        .map(|job| (0..if job > 0 { dice.below(4) } else { 0 }).map(|_| dice.below(job)).collect())
        .collect();
    let mut world = World::new(seed, needs);
    world.check();
    while world.oracle.fates.contains(&Fate::Runs) {
        world.step(&mut dice);
        world.check();
    }
    let state = if world.oracle.fates.contains(&Fate::Failed) {
        RunState::Failed
    } else {
        RunState::Succeeded
    };
    assert_eq!(world.ended, [state], "seed {seed}: the run ends once");
}

#[test]
fn ten_thousand_random_graphs_go_as_the_oracle_says() {
    (1..=10_000).for_each(run);
}
