//! What a world is made of before anything happens: runs, jobs, and what jobs do.

use superduper_core::store::JobState;

/// A job of a world.
#[derive(Debug, Clone, Default)]
pub struct JobShape {
    /// Jobs of the world that it needs, by their places; jobs of other runs among them.
    pub needs: Vec<usize>,
    /// Tries beyond the first.
    pub retries: u32,
    /// Whether it is limited by the pool, which has one place.
    pub pooled: bool,
    /// Whether it is recorded as blocked.
    pub blocked: bool,
    /// Keys of jobs that it spawns as it succeeds.
    pub spawns: Vec<&'static str>,
    /// Whether its result names a blob, which a sweep may take.
    pub blob: bool,
    /// Whether the store refuses its success.
    pub refused: bool,
    /// Whether only the first process can run it.
    pub special: bool,
    /// Whether its attempts record their own ends, as job processes do.
    pub records: bool,
    /// Whether any end of what it needs will do.
    pub any_end: bool,
    /// Whether its end counts for nothing in the outcome of its run.
    pub tolerated: bool,
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The jobs of each run; places count through all runs.
    pub runs: Vec<Vec<JobShape>>,
    /// Processes, each with the runs that it schedules.
    pub processes: Vec<Vec<usize>>,
}

/// The pause before a job is tried again, in milliseconds.
pub(crate) const BACKOFF: u64 = 40;

/// How many shapes there are.
pub const SHAPES: u64 = 15;

fn job(needs: &[usize]) -> JobShape {
    JobShape { needs: needs.to_vec(), ..JobShape::default() }
}

fn chain(jobs: usize) -> Vec<JobShape> {
    (0..jobs).map(|place| if place == 0 { job(&[]) } else { job(&[place - 1]) }).collect()
}

/// One job, then some at once, then one that needs them all.
fn fan(jobs: usize) -> Vec<JobShape> {
    (0..jobs)
        .map(|place| match place {
            0 => job(&[]),
            last if last + 1 == jobs && jobs > 2 => job(&(1..last).collect::<Vec<_>>()),
            _ => job(&[0]),
        })
        .collect()
}

fn mixed(jobs: usize) -> Vec<JobShape> {
    (0..jobs)
        .map(|place| match place % 3 {
            0 => job(&[]),
            _ if place / 2 == place - 1 => job(&[place - 1]),
            _ => job(&[place / 2, place - 1]),
        })
        .collect()
}

impl Shape {
    /// The shape of a number, with so many jobs and processes.
    pub fn of(number: u64, jobs: usize, processes: usize) -> Shape {
        let mut all = match number % 3 {
            0 => chain(jobs),
            1 => fan(jobs),
            _ => mixed(jobs),
        };
        for (place, job) in all.iter_mut().enumerate() {
            job.retries = u32::from(place % 2 == 1);
        }
        let last = jobs - 1;
        match number % SHAPES / 3 {
            0 => all.iter_mut().skip(1).step_by(2).for_each(|job| job.pooled = true),
            1 => {
                all[0].spawns = vec!["a", "b"];
                all[last / 2].spawns = vec!["b"];
                all[last].blocked = true;
            }
            2 => {
                all.iter_mut().step_by(2).for_each(|job| job.blob = true);
                // One that others run beside, where there is one.
                let beside = if number.is_multiple_of(3) { last } else { last / 2 };
                all[beside].refused = true;
                all[last / 3].records = true;
            }
            // With two runs, or one that is too short for them.
            3 => all.iter_mut().skip(1).step_by(3).for_each(|job| job.special = true),
            _ => {
                all.iter_mut().step_by(2).for_each(|job| job.tolerated = true);
                all.iter_mut().skip(1).step_by(2).for_each(|job| job.any_end = true);
                all[last / 2].blocked = true;
            }
        }
        let runs = if number % SHAPES / 3 == 3 && jobs > 3 {
            let second = all.split_off(jobs / 2);
            vec![all, second]
        } else {
            vec![all]
        };
        let every: Vec<usize> = (0..runs.len()).collect();
        Shape { processes: vec![every; processes], runs }
    }

    /// All jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &JobShape> {
        self.runs.iter().flatten()
    }
}

/// Whether a need is met. One that need not succeed is met by any end: one of another run whose
/// result is not taken, for example.
pub(crate) fn is_met(state: Option<JobState>, must_succeed: bool) -> bool {
    match state {
        Some(JobState::Succeeded) => true,
        Some(state) => !must_succeed && state.is_terminal(),
        None => false,
    }
}
