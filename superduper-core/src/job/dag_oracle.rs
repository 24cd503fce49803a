//! The order of jobs against a naive oracle, over random graphs and random histories.
//!
//! The oracle keeps nothing but what each job needs and what became of those that ended; all else it works out anew.

use super::{Dag, Progress};
use std::collections::BTreeSet;

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
    Taken,
    Succeeded,
    Failed,
}

#[derive(Default)]
struct Oracle {
    needs: Vec<BTreeSet<usize>>,
    fates: Vec<Fate>,
}

impl Oracle {
    /// Whether a job never runs: it failed, or was not taken and needs one that never succeeds.
    fn is_lost(&self, job: usize) -> bool {
        match self.fates[job] {
            Fate::Failed => true,
            Fate::Open => self.needs[job].iter().any(|need| self.is_lost(*need)),
            Fate::Taken | Fate::Succeeded => false,
        }
    }

    fn progress(&self, job: usize) -> Progress {
        match self.fates[job] {
            _ if self.is_lost(job) => Progress::Lost,
            Fate::Succeeded => Progress::Succeeded,
            Fate::Taken => Progress::Taken,
            _ if self.needs[job].iter().all(|need| self.fates[*need] == Fate::Succeeded) => Progress::Ready,
            _ => Progress::Waiting,
        }
    }

    fn all(&self) -> Vec<Progress> {
        (0..self.fates.len()).map(|job| self.progress(job)).collect()
    }
}

struct Pair {
    dag: Dag,
    oracle: Oracle,
    seed: u64,
}

impl Pair {
    fn add(&mut self, needs: &BTreeSet<usize>) -> usize {
        let listed: Vec<usize> = needs.iter().copied().collect();
        let index = self.dag.add(&listed);
        self.oracle.needs.push(needs.clone());
        self.oracle.fates.push(Fate::Open);
        assert_eq!(index + 1, self.oracle.fates.len());
        index
    }

    fn check(&self) {
        let expected = self.oracle.all();
        let found: Vec<Progress> = (0..expected.len()).map(|job| self.dag.progress(job)).collect();
        assert_eq!(found, expected, "seed {}", self.seed);
        let ready: Vec<usize> = (0..expected.len()).filter(|job| expected[*job] == Progress::Ready).collect();
        assert_eq!((self.dag.first_ready(), self.dag.ready_count()), (ready.first().copied(), ready.len()), "seed {}", self.seed);
        let done = expected.iter().all(|progress| matches!(progress, Progress::Succeeded | Progress::Lost));
        assert_eq!(self.dag.is_done(), done, "seed {}", self.seed);
    }

    /// A job fails; exactly the jobs that it takes along are told as skipped.
    fn fail(&mut self, job: usize) {
        let before = self.oracle.all();
        let mut skipped = self.dag.lost(job);
        self.oracle.fates[job] = Fate::Failed;
        skipped.sort_unstable();
        let after = self.oracle.all();
        let moved = |other: &usize| *other != job && before[*other] != Progress::Lost && after[*other] == Progress::Lost;
        assert_eq!(skipped, (0..after.len()).filter(moved).collect::<Vec<_>>(), "seed {}", self.seed);
    }

    /// A running job spawns another: what waits for it waits for that one too.
    fn spawn(&mut self, dice: &mut Dice, spawner: usize) {
        let waiting = self.dag.waiting_for(spawner);
        let expected = |job: &usize| self.oracle.needs[*job].contains(&spawner) && self.oracle.progress(*job) == Progress::Waiting;
        assert_eq!(waiting, (0..self.oracle.fates.len()).filter(expected).collect::<Vec<_>>(), "seed {}", self.seed);
        let needs = if dice.below(2) == 0 { BTreeSet::new() } else { BTreeSet::from([spawner]) };
        let spawned = self.add(&needs);
        for job in waiting {
            self.dag.need(job, spawned);
            self.oracle.needs[job].insert(spawned);
        }
    }

    /// Forget all, and take it in again as a driver does from the record.
    fn restart(&mut self) {
        self.dag.restart();
        for (job, fate) in self.oracle.fates.iter().enumerate() {
            match fate {
                Fate::Taken => self.dag.take(job),
                Fate::Succeeded => self.dag.succeed(job),
                Fate::Open | Fate::Failed => {}
            }
        }
        for job in (0..self.oracle.fates.len()).filter(|job| self.oracle.fates[*job] == Fate::Failed) {
            drop(self.dag.lost(job));
        }
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut pair = Pair { dag: Dag::default(), oracle: Oracle::default(), seed };
    for job in 0..1 + dice.below(12) {
        let needs = (0..if job > 0 { dice.below(4) } else { 0 }).map(|_| dice.below(job)).collect();
        pair.add(&needs);
    }
    pair.check();
    let (mut order, mut spawned) = (Vec::new(), 0);
    while !pair.dag.is_done() {
        let taken: Vec<usize> = (0..pair.oracle.fates.len()).filter(|job| pair.oracle.fates[*job] == Fate::Taken).collect();
        let next = pair.dag.first_ready().filter(|_| taken.is_empty() || dice.below(2) == 0);
        if let Some(job) = next {
            pair.dag.take(job);
            pair.oracle.fates[job] = Fate::Taken;
        } else {
            let job = taken[dice.below(taken.len())];
            match dice.below(10) {
                0 | 1 => pair.fail(job),
                2 => {
                    // It is tried again.
                    pair.dag.give_back(job);
                    pair.oracle.fates[job] = Fate::Open;
                }
                3 if spawned < 6 => {
                    spawned += 1;
                    pair.spawn(&mut dice, job);
                }
                4 => pair.restart(),
                _ => {
                    pair.dag.succeed(job);
                    pair.oracle.fates[job] = Fate::Succeeded;
                    order.push(job);
                }
            }
        }
        pair.check();
    }
    for (place, job) in order.iter().enumerate() {
        for need in &pair.oracle.needs[*job] {
            assert!(order[..place].contains(need), "seed {seed}: {job} succeeded before {need}, which it needs");
        }
    }
    let fates = pair.oracle.all();
    pair.restart();
    assert_eq!((0..fates.len()).map(|job| pair.dag.progress(job)).collect::<Vec<_>>(), fates, "seed {seed}: final states stay");
}

#[test]
fn ten_thousand_random_graphs_go_as_the_oracle_says() {
    (1..=10_000).for_each(run);
}

#[test]
fn a_blocked_job_that_is_released_early_still_waits() {
    let mut dag = Dag::default();
    let (first, second) = (dag.add(&[]), 1);
    assert_eq!(dag.add(&[first]), second);
    dag.take(second);
    dag.give_back(second);
    assert_eq!((dag.progress(second), dag.first_ready()), (Progress::Waiting, Some(first)));
    dag.take(second);
    dag.take(first);
    assert!(dag.lost(first).is_empty(), "what was taken is not skipped");
    dag.give_back(second);
    assert_eq!((dag.progress(second), dag.lost_need(second)), (Progress::Lost, Some(first)));
}
