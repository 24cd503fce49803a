//! What processes do: the effects of a scheduler, and the attempts that they start.

use crate::{
    process::{Live, PERMITS, Process},
    record::{blob, new_job},
    shape::JobShape,
    world::{CALM, Event, Fate, How, World, kinds},
};
use superduper_core::{
    FailureKind, JobFailure,
    simulate::{Effect, Input, Report},
    store::{Block, Finish, Finished, JobId, JobSignals, Op, RunId, RunState},
};

impl World {
    /// Do what a scheduler wants done.
    pub(crate) fn act(&mut self, place: usize, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            match effect {
                Effect::Commit { run, ops } => {
                    let fate = [Fate::Answered, Fate::Failed, Fate::AnswerLost]
                        [self.fault(kinds::CALLS, 3, 12) as usize];
                    let delay = 1 + self.delay();
                    self.after(delay, place, Event::Write { run, ops, fate });
                }
                Effect::Read { run, after, others } => {
                    let fails = self.fault(kinds::CALLS, 2, 20) > 0;
                    let delay = 1 + self.delay();
                    let event = if fails {
                        Event::Deliver(Input::ReadFailed { run })
                    } else {
                        Event::Read { run, after, others }
                    };
                    self.after(delay, place, event);
                }
                Effect::Look { run, jobs } => {
                    let fails = self.fault(kinds::CALLS, 2, 20) > 0;
                    let delay = 1 + self.delay();
                    let event = if fails {
                        Event::Deliver(Input::ReadFailed { run })
                    } else {
                        Event::Look { run, jobs }
                    };
                    self.after(delay, place, event);
                }
                Effect::Start { run, job, attempt, signals, .. } => {
                    self.start_attempt(place, run, job, attempt, signals)?
                }
                Effect::Signal { run, job, attempt, signals } => {
                    self.pass_on(place, run, job, attempt, signals)
                }
                Effect::Save { run, job, attempt } => {
                    let delay = 1 + self.delay();
                    self.after(delay, place, Event::Save { run, job, attempt });
                }
                Effect::ReturnPlace { job, attempt, .. } => {
                    let owner = self.processes[place].worker;
                    drop(self.record.commit(vec![Op::ReturnPlace { job, attempt, owner }]));
                }
                Effect::Timer(time) => {
                    let mono = self.processes[place].mono;
                    self.processes[place].timer = time;
                    let wait = time.saturating_sub(mono).saturating_sub(self.now);
                    self.after(wait, place, Event::Timer(time));
                }
                Effect::Done { run, state: RunState::Running, .. } => {
                    if !self.record.jobs_of(run).iter().any(|job| self.record.shapes[job].special) {
                        return Err(format!(
                            "process {place} leaves run {run} to others, and could run it"
                        ));
                    }
                    self.after(300, place, Event::Lead { run });
                }
                Effect::Done { run, .. } => {
                    if !self.processes[place].done.insert(run) {
                        return Err(format!(
                            "process {place} is told twice that run {run} is over"
                        ));
                    }
                }
                Effect::Stopped { .. } if self.processes[place].closing => {}
                Effect::Stopped { run, failure, ops } => {
                    if !self.processes[place].lets_go.remove(&run) {
                        return Err(format!(
                            "process {place} gives run {run} up: {}",
                            failure.message
                        ));
                    }
                    if self.fault(kinds::CALLS, 2, 2) == 0 {
                        // Where it is refused, the run is taken up again all the same.
                        drop(self.record.commit(ops));
                    }
                    self.after(50, place, Event::Lead { run });
                }
                // Its attempt goes on until it returns, as a thread does; it may pass its time
                // limit before.
                Effect::Abandon { run, job, attempt } | Effect::Stop { run, job, attempt } => {
                    if self.fault(kinds::ATTEMPTS, 2, 2) > 0 {
                        self.after(
                            1,
                            place,
                            Event::AttemptEnds { run, job, attempt, how: How::Late },
                        );
                    }
                }
                Effect::Recorded { .. }
                | Effect::Settled { .. }
                | Effect::Took(_)
                | Effect::Fenced { .. }
                | Effect::EndedElsewhere { .. } => {}
            }
        }
        Ok(())
    }

    /// An attempt starts: its claim has to be on record, and nothing else of the job may run here.
    fn start_attempt(
        &mut self,
        place: usize,
        run: RunId,
        job: JobId,
        attempt: u32,
        signals: JobSignals,
    ) -> Result<(), String> {
        let row = self.record.row(job);
        let process = &mut self.processes[place];
        if (row.owner, row.attempt) != (Some(process.worker), attempt) || row.state.is_terminal() {
            return Err(format!(
                "attempt {attempt} of job {job} starts, which has {} of {:?} and is {}",
                row.attempt, row.owner, row.state
            ));
        }
        if process.live.iter().any(|live| live.job == job) {
            return Err(format!("attempt {attempt} of job {job} starts beside another one"));
        }
        if !self.started.insert((job, attempt)) {
            return Err(format!("attempt {attempt} of job {job} starts twice"));
        }
        let shape = self.record.shapes[&job].clone();
        let process = &mut self.processes[place];
        if process.closing || (shape.special && place > 0) {
            return Err(format!(
                "attempt {attempt} of job {job} starts in a process that {}",
                if process.closing { "closes" } else { "cannot run it" }
            ));
        }
        let most = if shape.pooled { 1 } else { PERMITS };
        let beside = process.live.iter().filter(|live| live.pooled == shape.pooled).count();
        if beside >= most as usize {
            return Err(format!("{} attempts run where {most} may", beside + 1));
        }
        // The pool is one for all processes.
        let elsewhere = |other: &Process| {
            let has = |live: &Live| {
                let row = self.record.row(live.job);
                live.pooled
                    && (row.owner, row.attempt) == (Some(other.worker), live.attempt)
                    && !row.state.is_terminal()
            };
            other.alive && other.live.iter().any(has)
        };
        if shape.pooled
            && self
                .processes
                .iter()
                .enumerate()
                .any(|(other, process)| other != place && elsewhere(process))
        {
            return Err(format!(
                "attempt {attempt} of job {job} starts beside another process's in the pool"
            ));
        }
        let process = &mut self.processes[place];
        process.live.push(Live { job, attempt, pooled: shape.pooled, late: false, told: false });
        let how = [How::Success, How::Retryable, How::Late, How::Fatal, How::Blocked]
            [self.fault(kinds::ATTEMPTS, 5, 4) as usize];
        let delay = 10 + [0, 1, 30, 400, 1500][self.choices.choose(5, 4) as usize];
        self.after(delay, place, Event::AttemptEnds { run, job, attempt, how });
        self.pass_on(place, run, job, attempt, signals);
        Ok(())
    }

    /// An attempt sees what is asked of it.
    fn pass_on(&mut self, place: usize, run: RunId, job: JobId, attempt: u32, signals: JobSignals) {
        let how = match signals {
            JobSignals { cancel: true, .. } => How::Cancelled,
            JobSignals { stop: true, .. } => How::Success,
            JobSignals { pause: true, .. } if self.now < CALM => How::Paused,
            _ => return,
        };
        self.after(1, place, Event::AttemptEnds { run, job, attempt, how });
    }

    pub(crate) fn attempt_ends(
        &mut self,
        place: usize,
        run: RunId,
        job: JobId,
        attempt: u32,
        how: How,
    ) -> Result<(), String> {
        let process = &mut self.processes[place];
        let Some(at) = process.live(job, attempt) else { return Ok(()) };
        match process.live[at] {
            Live { late: true, told: true, .. } => {
                process.live.swap_remove(at);
                return self.deliver(place, Input::Returned { run, job });
            }
            Live { late: true, .. } => return Ok(()),
            _ => {}
        }
        let late = how == How::Late;
        if late {
            // Its thread returns after that was told.
            process.live[at].late = true;
        } else {
            process.live.swap_remove(at);
        }
        let finish = self.finish(place, job, attempt, how);
        let report = if self.record.shapes[&job].records && how == How::Success {
            // Who runs it records its end; the answer may say that it does not count.
            drop(self.record.commit(vec![Op::Finish(Box::new(finish))]));
            Report::Recorded
        } else {
            Report::Finish(Box::new(finish))
        };
        self.deliver(place, Input::Ended { run, job, attempt, report, late })
    }

    fn finish(&mut self, place: usize, job: JobId, attempt: u32, how: How) -> Finish {
        let process = &self.processes[place];
        let wall = process.now(self.now).wall;
        let failed = |kind, retryable| {
            let mut failure = JobFailure::new(kind, "failed");
            failure.retryable = retryable;
            Finished::Failed(failure)
        };
        let end = match how {
            How::Success => Finished::Succeeded(serde_json::Value::from(attempt)),
            How::Retryable => failed(FailureKind::Error, true),
            How::Late => failed(FailureKind::Timeout, true),
            How::Fatal => failed(FailureKind::Error, false),
            How::Cancelled => failed(FailureKind::Cancelled, false),
            How::Blocked => Finished::Blocked(Block {
                until: (job.0 % 2 == 1).then(|| wall.plus_ms(700)),
                ..Block::new("a grant")
            }),
            How::Paused => Finished::Paused("paused".to_owned()),
        };
        let mut finish = Finish::plain(job, attempt, process.worker, wall, wall, end);
        let shape = self.record.shapes[&job].clone();
        if how == How::Fatal || shape.refused {
            self.record.fatal.insert(job);
        }
        if how == How::Success {
            self.add_effects(&mut finish, &shape);
        }
        finish
    }

    /// What comes with success.
    fn add_effects(&self, finish: &mut Finish, shape: &JobShape) {
        if shape.blob {
            finish.blobs = vec![blob(finish.job)];
            finish.sweep_epoch = Some(self.record.sweep_epoch());
        }
        let waiting = self.record.waiting_for(finish.job);
        for (index, key) in shape.spawns.iter().enumerate() {
            finish.spawned.push(new_job(&JobShape::default(), Some(key)));
            finish.spawned_before.extend(waiting.iter().map(|job| (*job, index)));
        }
        if shape.refused {
            // It names a job that it did not spawn.
            finish.spawned = vec![new_job(&JobShape::default(), Some("refused"))];
            finish.spawned_before = vec![(finish.job, 99)];
        }
    }

    pub(crate) fn save(
        &mut self,
        place: usize,
        run: RunId,
        job: JobId,
        attempt: u32,
    ) -> Result<(), String> {
        if self.record.doomed().contains(&blob(job).digest) {
            // It is being deleted: save it when it is gone.
            self.after(10, place, Event::Save { run, job, attempt });
            return Ok(());
        }
        let saved = Ok(self.record.sweep_epoch());
        self.deliver(place, Input::Saved { run, job, attempt, saved })
    }
}
