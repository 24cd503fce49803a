//! A world of processes over one record: what happens when, and what may go wrong.

use crate::{choices::Choices, coverage::Coverage, process::Process, record::Record, shape::Shape};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};
use superduper_core::{
    Digest, FailureKind, JobFailure,
    simulate::{Effect, Fault, Input, Loaded},
    store::{
        ChangeCursor, Finish, Finished, JobId, JobRow, JobSignal, JobSignals, JobState, Op, RunId,
        Timestamp,
    },
};

/// How long a process may stand still before others take its jobs over.
pub(crate) const LEASE: u64 = 300;
/// From here on nothing goes wrong any more.
pub(crate) const CALM: u64 = 3_000;
/// By then all must be over.
const LIMIT: u64 = 60_000;
const MOST_STEPS: u64 = 20_000;
/// So often a process may wake up in a row and do nothing.
const MOST_IDLE: u32 = 60;

/// How the call of a store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// It fails and writes nothing.
    Failed,
    /// It is written, and the answer is lost.
    AnswerLost,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Success,
    Retryable,
    /// Out of time: its thread returns later.
    Late,
    Fatal,
    Blocked,
    Paused,
    Cancelled,
}

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    Write {
        run: RunId,
        ops: Vec<Op>,
        fate: Fate,
    },
    Read {
        run: RunId,
        after: ChangeCursor,
        others: Vec<JobId>,
    },
    Look {
        run: RunId,
        jobs: Vec<JobId>,
    },
    /// A run that was let go is led again.
    Lead {
        run: RunId,
    },
    Deliver(Input),
    AttemptEnds {
        run: RunId,
        job: JobId,
        attempt: u32,
        how: How,
    },
    Save {
        run: RunId,
        job: JobId,
        attempt: u32,
    },
    Timer(u64),
    Start,
    /// A process that closed ends.
    Exit,
}

/// What comes from outside of all processes.
#[derive(Debug)]
pub(crate) enum Outside {
    Signal { run: RunId, jobs: Option<Vec<JobId>>, wish: Option<JobSignal> },
    Unblock,
    Doom(JobId),
    Sweep(Vec<Digest>),
}

#[derive(Debug)]
pub(crate) enum Happening {
    /// To the process of a place, in one of its lives.
    At(usize, u32, Event),
    Outside(Outside),
}

/// A world.
#[derive(Debug)]
pub struct World {
    pub(crate) now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    pub(crate) processes: Vec<Process>,
    pub(crate) record: Record,
    pub(crate) choices: Choices,
    pub(crate) fault: Fault,
    /// Which kinds of faults this world has: bits of `Kinds`.
    kinds: u32,
    pub(crate) started: HashSet<(JobId, u32)>,
    /// What happened, line by line, where that is asked for.
    pub trace: Option<Vec<String>>,
    /// How many faults were made.
    pub faults: u64,
    /// How many events there were.
    pub steps: u64,
    /// Which inputs met which phases.
    pub coverage: Coverage,
}

/// Kinds of faults that a world has or has not.
pub(crate) mod kinds {
    pub(crate) const CALLS: u32 = 1;
    pub(crate) const PAUSES: u32 = 2;
    pub(crate) const KILLS: u32 = 4;
    pub(crate) const CLOCKS: u32 = 8;
    pub(crate) const ATTEMPTS: u32 = 16;
}

impl World {
    /// A world of a shape, with its decisions.
    pub fn new(choices: Choices, shape: &Shape, fault: Fault) -> Self {
        let record = Record::new(shape);
        let mut world = World {
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            processes: Vec::new(),
            record,
            choices,
            fault,
            kinds: 0,
            started: HashSet::new(),
            trace: None,
            faults: 0,
            steps: 0,
            coverage: Coverage::default(),
        };
        // Plain: all kinds of faults exist.
        world.kinds = !world.choices.choose(32, 2);
        for (place, runs) in shape.processes.iter().enumerate() {
            let worker = world.record.register_worker();
            let runs = runs.iter().map(|run| world.record.runs[*run]).collect();
            world.processes.push(Process::new(place, worker, 0, runs, fault));
            world.at(1 + place as u64, Happening::At(place, 0, Event::Start));
        }
        world.plan_outside(shape);
        world
    }

    fn plan_outside(&mut self, shape: &Shape) {
        let jobs = u32::try_from(self.record.jobs.len()).unwrap_or(0);
        let target = self.choices.choose(jobs + 2, 3);
        if target > 0 {
            let time = 1 + 20 * u64::from(self.choices.choose(20, 1));
            let run = self.record.runs[0];
            let jobs = self.record.jobs.get(target as usize - 1).map(|job| vec![*job]);
            let wish = [None, Some(JobSignal::Stop), Some(JobSignal::Pause)]
                [self.choices.choose(3, 2) as usize];
            self.at(time, Happening::Outside(Outside::Signal { run, jobs, wish }));
        }
        if shape.jobs().any(|job| job.blob) {
            let places: Vec<usize> = shape
                .jobs()
                .enumerate()
                .filter(|(_, job)| job.blob)
                .map(|(place, _)| place)
                .collect();
            let many = u32::try_from(places.len()).unwrap_or(1);
            let which = self.choices.choose(many + 1, 2);
            if which > 0 {
                let time = 1 + 15 * u64::from(self.choices.choose(20, 1));
                let job = self.record.jobs[places[which as usize - 1]];
                self.at(time, Happening::Outside(Outside::Doom(job)));
            }
        }
        for time in [500, CALM, CALM + 600, CALM + 3_000, CALM + 10_000] {
            self.at(time, Happening::Outside(Outside::Unblock));
        }
    }

    pub(crate) fn at(&mut self, time: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((time.max(self.now), self.order, self.happenings.len())));
        self.happenings.push(Some(happening));
    }

    pub(crate) fn after(&mut self, ms: u64, place: usize, event: Event) {
        let life = self.processes[place].life;
        self.at(self.now + ms, Happening::At(place, life, event));
    }

    pub(crate) fn delay(&mut self) -> u64 {
        [0, 1, 30, 400][self.choices.choose(4, 6) as usize]
    }

    /// A fault of a kind, or 0 for none.
    pub(crate) fn fault(&mut self, kind: u32, n: u32, rare: u32) -> u32 {
        if self.now >= CALM || self.kinds & kind == 0 {
            return 0;
        }
        let fault = self.choices.choose(n, rare);
        self.faults += u64::from(fault > 0);
        fault
    }

    /// Run to the end.
    ///
    /// # Errors
    /// What does not hold that must.
    pub fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((time, _, place))) = self.queue.pop() {
            let Some(happening) = self.happenings[place].take() else { continue };
            self.now = time;
            self.steps += 1;
            if self.steps > MOST_STEPS || self.now > LIMIT {
                let rows: Vec<_> = self
                    .record
                    .rows(self.record.jobs.clone())
                    .iter()
                    .map(|row| (row.id.0, row.state, row.owner))
                    .collect();
                return Err(format!(
                    "there is no end after {} steps and {} ms: {rows:?}",
                    self.steps, self.now
                ));
            }
            match happening {
                Happening::At(place, life, event) => self.step(place, life, event)?,
                Happening::Outside(outside) => self.outside(outside)?,
            }
            if let Some(broken) = &self.record.broken {
                return Err(broken.clone());
            }
        }
        self.check_end()
    }

    /// A digest of all that is on record.
    pub fn digest(&self) -> String {
        self.record.digest().to_hex().to_string()
    }

    fn check_end(&mut self) -> Result<(), String> {
        for (place, process) in self.processes.iter().enumerate() {
            if let Some(run) = process.runs.iter().find(|run| !process.done.contains(run)) {
                let phases: Vec<_> =
                    process.scheduler.runs().flat_map(|run| run.phases()).collect();
                return Err(format!("process {place} waits for run {run} for ever: {phases:?}"));
            }
            if process.scheduler.permits_out() > 0 {
                return Err(format!(
                    "{} permits of process {place} never come back",
                    process.scheduler.permits_out()
                ));
            }
        }
        self.record.check_end();
        self.record.broken.take().map_or(Ok(()), Err)
    }

    fn step(&mut self, place: usize, life: u32, event: Event) -> Result<(), String> {
        if self.processes[place].life != life {
            return Ok(());
        }
        match event {
            Event::Write { run, ops, fate } => {
                self.write(place, run, ops, fate);
                Ok(())
            }
            Event::Read { run, after, others } => {
                self.read(place, run, after, others);
                Ok(())
            }
            Event::Look { run, jobs } => {
                self.look(place, run, jobs);
                Ok(())
            }
            Event::Lead { run } => self.lead(place, run),
            Event::Start => self.start(place),
            Event::Exit => {
                self.end_process(place);
                Ok(())
            }
            Event::Timer(time) if self.processes[place].timer != time => Ok(()),
            Event::Timer(_) => self.deliver(place, Input::Timer),
            Event::Deliver(input) => self.deliver(place, input),
            event if self.processes[place].stands_still(self.now) => {
                let until = self.processes[place].paused.1;
                self.at(until, Happening::At(place, life, event));
                Ok(())
            }
            Event::AttemptEnds { run, job, attempt, how } => {
                self.attempt_ends(place, run, job, attempt, how)
            }
            Event::Save { run, job, attempt } => self.save(place, run, job, attempt),
        }
    }

    /// A process starts, or starts again: it reads its runs and schedules them.
    fn start(&mut self, place: usize) -> Result<(), String> {
        if !self.processes[place].alive {
            let life = self.processes[place].life + 1;
            let (worker, runs) =
                (self.record.register_worker(), self.processes[place].runs.clone());
            self.processes[place] = Process::new(place, worker, life, runs, self.fault);
        }
        for run in self.processes[place].runs.clone() {
            self.reclaim();
            let loaded = self.load(place, run, ChangeCursor::default(), Vec::new());
            self.deliver(place, Input::Attach(Box::new(loaded)))?;
        }
        Ok(())
    }

    /// A process that let a run go leads it again: what it had claimed is given back first.
    fn lead(&mut self, place: usize, run: RunId) -> Result<(), String> {
        self.reclaim();
        let worker = self.processes[place].worker;
        let rows = self.load(place, run, ChangeCursor::default(), Vec::new()).changes.jobs;
        let at = self.processes[place].now(self.now).wall;
        let release = |row: &JobRow| {
            Op::Finish(Box::new(Finish::plain(
                row.id,
                row.attempt,
                worker,
                at,
                at,
                Finished::Released,
            )))
        };
        let ops: Vec<Op> =
            rows.iter().filter(|row| row.owner == Some(worker)).map(release).collect();
        if !ops.is_empty() {
            // Nothing of it can be refused.
            drop(self.record.commit(ops));
        }
        let loaded = self.load(place, run, ChangeCursor::default(), Vec::new());
        self.deliver(place, Input::Attach(Box::new(loaded)))
    }

    /// Take jobs away from processes that died, or stand still for their lease.
    fn reclaim(&mut self) {
        let mut owners = self.record.dead();
        let still = |process: &&Process| {
            process.stands_still(self.now) && self.now - process.paused.0 >= LEASE
        };
        owners.extend(self.processes.iter().filter(still).map(|process| process.worker));
        if !owners.is_empty() {
            let at = Timestamp(crate::record::BASE + i64::try_from(self.now).unwrap_or(0));
            // Nothing of it can be refused.
            drop(self.record.commit(vec![Op::Reclaim { owners, at }]));
        }
    }

    fn load(
        &self,
        place: usize,
        run: RunId,
        after: ChangeCursor,
        mut others: Vec<JobId>,
    ) -> Loaded {
        let changes = self.record.changes(run, after);
        let is_other = |job: &JobId| !self.record.is_of(*job, run);
        others.extend(changes.dependencies.iter().map(|edge| edge.needs).filter(is_other));
        let others = if others.is_empty() { Vec::new() } else { self.record.rows(others) };
        Loaded { changes, others, other_workers: self.has_others(place) }
    }

    /// Whether another process lives.
    fn has_others(&self, place: usize) -> bool {
        self.processes.iter().enumerate().any(|(other, process)| other != place && process.alive)
    }

    fn read(&mut self, place: usize, run: RunId, after: ChangeCursor, others: Vec<JobId>) {
        self.reclaim();
        let input = Input::Rows(Box::new(self.load(place, run, after, others)));
        let delay = 1 + self.delay();
        self.after(delay, place, Event::Deliver(input));
    }

    fn look(&mut self, place: usize, run: RunId, jobs: Vec<JobId>) {
        self.reclaim();
        let input = Input::Looked {
            run,
            rows: self.record.rows(jobs),
            other_workers: self.has_others(place),
        };
        let delay = 1 + self.delay();
        self.after(delay, place, Event::Deliver(input));
    }

    fn write(&mut self, place: usize, run: RunId, ops: Vec<Op>, fate: Fate) {
        let answer = (fate != Fate::Failed).then(|| self.record.commit(ops));
        let input = match answer {
            Some(Ok(answer)) if fate == Fate::Answered => {
                Input::Written { run, answer: Box::new(answer) }
            }
            Some(Err(error)) if fate == Fate::Answered => {
                Input::Refused { run, failure: superduper_core::JobFailure::of(&error) }
            }
            _ => Input::Unknown { run },
        };
        let delay = 1 + self.delay();
        self.after(delay, place, Event::Deliver(input));
    }

    /// Something may happen to a process just before an input reaches it. Whether the input is for
    /// nobody.
    fn strike(&mut self, place: usize) -> bool {
        if self.processes[place].stands_still(self.now) {
            return false;
        }
        match self.fault(kinds::PAUSES | kinds::KILLS, 6, 40) {
            0 => {}
            4 if self.kinds & kinds::KILLS != 0 => {
                self.end_process(place);
                return true;
            }
            5 if self.kinds & kinds::KILLS != 0 && !self.processes[place].closing => {
                self.processes[place].closing = true;
                self.take(place, Input::Close { now: false });
                self.after(100, place, Event::Deliver(Input::Close { now: true }));
                self.after(700, place, Event::Exit);
            }
            4 | 5 => {}
            _ if self.kinds & kinds::PAUSES == 0 => {}
            length => {
                let process = &mut self.processes[place];
                let still = [LEASE / 2, LEASE, 3 * LEASE][length as usize - 1];
                process.paused = (self.now, self.now + still);
                process.lapsed |= still >= LEASE;
            }
        }
        let jump = self.fault(kinds::CLOCKS, 4, 40);
        self.processes[place].wall += [0, 5_000, -3_600_000, 3_600_000][jump as usize];
        false
    }

    /// A process is gone; another one takes its place.
    fn end_process(&mut self, place: usize) {
        let process = &mut self.processes[place];
        process.alive = false;
        let worker = process.worker;
        process.life += 1;
        self.record.deregister_worker(worker);
        self.after(100, place, Event::Start);
    }

    pub(crate) fn deliver(&mut self, place: usize, input: Input) -> Result<(), String> {
        if !self.processes[place].alive || self.strike(place) {
            return Ok(());
        }
        let life = self.processes[place].life;
        if self.processes[place].stands_still(self.now) {
            let until = self.processes[place].paused.1;
            self.at(until, Happening::At(place, life, Event::Deliver(input)));
            return Ok(());
        }
        let now = self.processes[place].now(self.now);
        if std::mem::take(&mut self.processes[place].lapsed) {
            self.take(place, Input::Lapsed);
        }
        let is_timer = matches!(input, Input::Timer);
        let failed = match &input {
            Input::ReadFailed { run } | Input::Unknown { run } => Some(*run),
            _ => None,
        };
        self.take(place, input);
        if let Some(run) = failed.filter(|_| self.fault(kinds::CALLS, 2, 8) > 0) {
            self.processes[place].lets_go.insert(run);
            let failure = JobFailure::new(FailureKind::Error, "the store failed for too long");
            self.take(place, Input::GiveUp { run, failure });
        }
        let process = &mut self.processes[place];
        let effects = process.scheduler.decide(now);
        let idle = is_timer && effects.iter().all(|effect| matches!(effect, Effect::Timer(_)));
        process.idle = if idle { process.idle + 1 } else { 0 };
        if process.idle > MOST_IDLE {
            return Err(format!("process {place} wakes up again and again for nothing"));
        }
        if let Some(trace) = &mut self.trace {
            trace.extend(
                effects.iter().map(|effect| format!("{:>6} {place} -> {effect:?}", self.now)),
            );
        }
        process.scheduler.check()?;
        self.act(place, effects)
    }

    fn take(&mut self, place: usize, input: Input) {
        let process = &mut self.processes[place];
        let now = process.now(self.now);
        self.coverage.note(&process.scheduler, &input);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {place} <- {input:?}", self.now));
        }
        let late = match &input {
            Input::Ended { run, job, attempt, late: true, .. } => Some((*run, *job, *attempt)),
            _ => None,
        };
        process.scheduler.on(input, now);
        if let Some((run, job, attempt)) = late {
            let process = &mut self.processes[place];
            if let Some(at) = process.live(job, attempt) {
                process.live[at].told = true;
            }
            self.after(600, place, Event::AttemptEnds { run, job, attempt, how: How::Success });
        }
    }

    fn outside(&mut self, outside: Outside) -> Result<(), String> {
        match outside {
            Outside::Signal { run, jobs, wish } => {
                let ids = jobs.clone().unwrap_or_else(|| self.record.jobs_of(run));
                let op = match wish {
                    None => {
                        let open: Vec<JobId> = ids
                            .iter()
                            .filter(|job| !self.record.row(**job).state.is_terminal())
                            .copied()
                            .collect();
                        self.record.asked.extend(open);
                        Op::Signal { jobs: ids, signal: JobSignal::Cancel }
                    }
                    Some(wish) => Op::Signal { jobs: ids, signal: wish },
                };
                drop(self.record.commit(vec![op]));
                let signals = JobSignals {
                    cancel: wish.is_none(),
                    stop: wish == Some(JobSignal::Stop),
                    pause: wish == Some(JobSignal::Pause),
                };
                self.deliver(0, Input::Signal { run, jobs, signals })
            }
            Outside::Unblock => {
                let rows = self.record.rows(self.record.jobs.clone());
                let blocked: Vec<JobId> = rows
                    .iter()
                    .filter(|row| row.state == JobState::Blocked)
                    .map(|row| row.id)
                    .collect();
                if !blocked.is_empty() {
                    let at = Timestamp(crate::record::BASE + i64::try_from(self.now).unwrap_or(0));
                    let release = |job: &JobId| Op::Block { job: *job, reason: None, at };
                    drop(self.record.commit(blocked.iter().map(release).collect()));
                    let run = self.record.runs[0];
                    return self.deliver(0, Input::Refresh { run });
                }
                Ok(())
            }
            Outside::Doom(job) => {
                let digests = vec![crate::record::blob(job).digest];
                let lock = self.record.sweep_lock();
                let doomed = self
                    .record
                    .commit(vec![Op::MarkForDeletion { digests, lock }])
                    .map(|committed| committed.marked)
                    .unwrap_or_default();
                if !doomed.is_empty() {
                    let time = self.now + 1 + self.delay();
                    self.at(time, Happening::Outside(Outside::Sweep(doomed)));
                }
                Ok(())
            }
            Outside::Sweep(digests) => {
                let lock = self.record.sweep_lock();
                drop(self.record.commit(vec![Op::ConfirmDeleted { digests, lock }]));
                Ok(())
            }
        }
    }
}
