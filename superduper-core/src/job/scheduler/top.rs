//! All runs of one process.

use super::{
    Config, Effect, Input, Loaded, Now, RunState,
    commit::Turns,
    permits::{FIRST_POOL, Permits},
};
use crate::store::{JobId, RunId};
use std::collections::BTreeMap;

/// The runs of one process: what to claim, start, record and read next.
///
/// # Guarantees
/// The same inputs at the same times give the same effects. It does no IO and has no clock.
///
/// # Assumptions
/// Each call of the store that it asks for is answered once, and so is each attempt that it starts.
/// Before any other input after a lapse of the lease comes [`Input::Lapsed`], and no start that was
/// decided before it is executed after it.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    permits: Permits,
    runs: BTreeMap<RunId, RunState>,
    /// When the timer is set for.
    timer: Option<u64>,
    /// This process closes: it claims no more jobs.
    closing: bool,
    /// Which run is first when permits are handed out.
    first: usize,
    out: Vec<Effect>,
}

impl Scheduler {
    /// A scheduler without runs.
    pub fn new(config: Config) -> Self {
        let permits = Permits::new(config.permits);
        Scheduler {
            config,
            permits,
            runs: BTreeMap::new(),
            timer: None,
            closing: false,
            first: 0,
            out: Vec::new(),
        }
    }

    /// Set the limit of a pool in this process, whatever rows say.
    pub fn limit_pool(&mut self, name: &str, limit: u32) {
        self.permits.set_limit(name, limit);
    }

    /// The runs that are not over.
    pub fn runs(&self) -> impl Iterator<Item = &RunState> {
        self.runs.values()
    }

    /// How many permits are out, of all lanes.
    pub fn permits_out(&self) -> u32 {
        self.permits.lanes().map(|lane| self.permits.out(lane)).sum()
    }

    /// Take an input; what follows from all that are there, [`Scheduler::decide`] says.
    pub fn on(&mut self, input: Input, now: Now) {
        let permits = &mut self.permits;
        match input {
            Input::Attach(loaded) => self.attach(*loaded, now),
            Input::Timer => self.timer = None,
            Input::Close { now: false } => {
                self.closing = true;
                self.runs.values_mut().for_each(|run| run.on_close(now));
            }
            Input::Close { now: true } => self.runs.values_mut().for_each(RunState::on_close_now),
            Input::Lapsed => self.runs.values_mut().for_each(RunState::on_lapsed),
            Input::Rows(loaded) => {
                if let Some(run) = self.runs.get_mut(&loaded.changes.run.id) {
                    run.on_rows(*loaded, now, permits);
                }
            }
            Input::Looked { run, rows, other_workers } => {
                self.with(run, |run, _| run.on_looked(rows, other_workers, now))
            }
            Input::ReadFailed { run } => self.with(run, |run, _| run.on_read_failed(now)),
            Input::Written { run, answer } => {
                self.with(run, |run, permits| run.on_written(*answer, now, permits))
            }
            Input::Refused { run, failure } => {
                self.with(run, |run, permits| run.on_refused(failure, now, permits))
            }
            Input::Unknown { run } => self.with(run, |run, permits| run.on_unknown(now, permits)),
            Input::Ended { run, job, attempt, report, late } => {
                self.with(run, |run, permits| {
                    run.on_ended(job, attempt, report, late, now, permits)
                });
            }
            Input::Returned { run, job } => {
                self.with(run, |run, permits| run.on_returned(job, permits))
            }
            Input::Saved { run, job, attempt, saved } => {
                self.with(run, |run, _| run.on_saved(job, attempt, saved, now))
            }
            Input::Signal { run, jobs, signals } => {
                self.with(run, |run, _| run.on_signal(jobs, signals, now))
            }
            Input::Refresh { run } => self.with(run, |run, _| run.refresh = true),
            Input::GiveUp { run, failure } => {
                self.with(run, |run, permits| run.stop(failure, now, permits))
            }
        }
    }

    fn with(&mut self, run: RunId, on: impl FnOnce(&mut RunState, &mut Permits)) {
        if let Some(run) = self.runs.get_mut(&run) {
            on(run, &mut self.permits);
        }
    }

    fn attach(&mut self, loaded: Loaded, now: Now) {
        let row = &loaded.changes.run;
        if self.runs.get(&row.id).is_some_and(|run| !run.told) {
            return;
        }
        let mut run = RunState::new(row, &self.config, now.ms);
        run.take(loaded, now, &mut self.permits);
        if let Some(old) = self.runs.remove(&run.id) {
            run.inherit(&old, &mut self.permits);
        }
        if self.closing {
            run.on_close(now);
        }
        self.runs.insert(run.id, run);
    }

    /// Take permits for jobs that are about to be recorded, as far as there are free ones: one for
    /// each that says `true`, of its pool or of those for all. [`Scheduler::release`] gives them
    /// back, which is to be called just before the run is attached.
    pub fn reserve(&mut self, pools: &[Option<(String, usize)>]) -> Vec<bool> {
        let lanes: Vec<_> = pools.iter().map(|pool| self.permits.lane(pool.as_ref())).collect();
        lanes.into_iter().map(|lane| !self.closing && self.permits.reserve(lane)).collect()
    }

    /// Give back permits that were reserved, one for each pool that is named; `None` is one of
    /// those for all.
    pub fn release(&mut self, pools: &[Option<(String, usize)>]) {
        for pool in pools {
            let lane = self.permits.lane(pool.as_ref());
            self.permits.unreserve(lane);
        }
    }

    /// What is to be done now.
    pub fn decide(&mut self, now: Now) -> Vec<Effect> {
        // No run is always the first to get a permit.
        self.first = self.first.wrapping_add(1) % self.runs.len().max(1);
        let order: Vec<RunId> =
            self.runs.keys().copied().cycle().skip(self.first).take(self.runs.len()).collect();
        for id in &order {
            self.with(*id, |run, permits| {
                run.wake(now);
                run.start_prefetched(now, permits);
                run.give_back_prefetched(now);
            });
        }
        let turns = self.turns(now);
        for id in &order {
            self.with(*id, |run, permits| {
                if run.may_call(now) && !run.told && !run.read(now) {
                    run.commit(now, &turns, permits);
                }
                run.tell_end();
                run.tell_closed();
            });
            if let Some(run) = self.runs.get_mut(id) {
                self.out.append(&mut run.out);
            }
        }
        self.runs.retain(|_, run| !run.is_over());
        self.set_timer(now);
        std::mem::take(&mut self.out)
    }

    /// Whose turn it is in each pool: so many jobs of the lowest ids as there are free places.
    fn turns(&self, now: Now) -> Turns {
        let mut turns = Turns::new();
        for lane in self.permits.lanes().skip(FIRST_POOL) {
            let free = self.permits.free(lane) as usize;
            if free == 0 || self.permits.paused_until(lane, now.ms).is_some() {
                continue;
            }
            let ready = self.runs.values().filter(|run| !run.told).flat_map(|run| {
                let ready =
                    run.ready.get(&lane).into_iter().flatten().map(|index| &run.entries[*index]);
                ready.filter(|entry| entry.late == 0).map(|entry| entry.id).take(free)
            });
            let mut ids: Vec<JobId> = ready.collect();
            ids.sort_unstable();
            ids.truncate(free);
            turns.insert(lane, ids.into_iter().collect());
        }
        turns
    }

    fn set_timer(&mut self, now: Now) {
        let waits = |lane: &usize| {
            self.runs
                .values()
                .any(|run| !run.told && run.ready.get(lane).is_some_and(|ready| !ready.is_empty()))
        };
        let paused = self
            .permits
            .lanes()
            .skip(FIRST_POOL)
            .filter(waits)
            .filter_map(|lane| self.permits.paused_until(lane, now.ms));
        let next = self.runs.values().filter_map(|run| run.next_wake(now)).chain(paused).min();
        if let Some(time) = next.filter(|time| self.timer.is_none_or(|set| *time < set)) {
            self.timer = Some(time);
            self.out.push(Effect::Timer(time));
        }
    }

    /// Whether [`Scheduler::check`] is quick.
    pub fn is_small(&self) -> bool {
        self.runs.values().map(|run| run.entries.len()).sum::<usize>() <= 200
    }

    /// What must hold after every input.
    ///
    /// # Errors
    /// What does not, as text.
    pub fn check(&self) -> Result<(), String> {
        let mut held = vec![0; self.permits.lanes().len()];
        for run in self.runs.values() {
            run.check().map_err(|error| format!("run {}: {error}", run.id))?;
            run.entries.iter().for_each(|entry| held[entry.lane] += entry.permits());
        }
        match self
            .permits
            .lanes()
            .find(|lane| self.permits.out(*lane) != held[*lane] + self.permits.reserved(*lane))
        {
            Some(lane) => Err(format!(
                "{} permits of lane {lane} are out, and jobs hold {}",
                self.permits.out(lane),
                held[lane]
            )),
            None => Ok(()),
        }
    }
}
