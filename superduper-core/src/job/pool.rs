//! Pools: how many jobs of one name may run at once in this process.
//!
//! Invariant: at most `limit` permits are out; who waits is served in the order of job ids, which is the order in
//! which jobs were recorded. A permit that nobody takes comes back by being dropped.

use crate::store::JobId;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Told when a permit is free for a job.
type Grant = Box<dyn FnOnce(PoolPermit) + Send>;

#[derive(Default)]
struct State {
    limit: usize,
    out: usize,
    /// Somebody is serving; a permit that comes back meanwhile is seen by that one.
    serving: bool,
    queue: BTreeMap<JobId, Grant>,
}

#[derive(Default)]
pub(crate) struct Pool(Mutex<State>);

/// The pools of a database, by name.
#[derive(Default)]
pub(crate) struct Pools(Mutex<HashMap<String, Named>>);

#[derive(Default)]
struct Named {
    pool: Arc<Pool>,
    /// The limit that was set for this process, whatever jobs say.
    set: Option<usize>,
}

/// The right of one job to run.
pub(crate) struct PoolPermit(Arc<Pool>);

impl Pools {
    /// The pool of a name; the limit that was set counts, else the one that was named last.
    pub(crate) fn get(&self, (name, limit): &(String, usize)) -> Arc<Pool> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = pools.entry(name.clone()).or_default();
        named.pool.state().limit = named.set.unwrap_or(*limit).max(1);
        named.pool.clone()
    }

    /// Set the limit of a pool: jobs on record may name another one, of an earlier time.
    pub(crate) fn set(&self, name: &str, limit: usize) {
        let pool = {
            let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let named = pools.entry(name.to_owned()).or_default();
            named.set = Some(limit);
            named.pool.state().limit = limit.max(1);
            named.pool.clone()
        };
        pool.serve();
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit, if one is free and nobody waits.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<PoolPermit> {
        let mut state = self.state();
        if state.out >= state.limit || !state.queue.is_empty() {
            return None;
        }
        state.out += 1;
        Some(PoolPermit(self.clone()))
    }

    /// Wait for a permit; `grant` is called, here or later, when there is one.
    pub(crate) fn enter(self: &Arc<Self>, job: JobId, grant: impl FnOnce(PoolPermit) + Send + 'static) {
        self.state().queue.insert(job, Box::new(grant));
        self.serve();
    }

    fn serve(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().serving, true) {
            return;
        }
        loop {
            let grant = {
                let mut state = self.state();
                let next = if state.out < state.limit { state.queue.pop_first() } else { None };
                let Some((_, grant)) = next else {
                    state.serving = false;
                    return;
                };
                state.out += 1;
                grant
            };
            // Outside of the lock: a permit that is dropped at once comes back here.
            grant(PoolPermit(self.clone()));
        }
    }
}

impl Drop for PoolPermit {
    fn drop(&mut self) {
        self.0.state().out -= 1;
        self.0.serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn permits_are_few_and_given_in_the_order_of_ids() {
        let pool = Pools::default().get(&("p".to_owned(), 2));
        let (first, second) = (pool.try_enter(), pool.try_enter());
        assert!(first.is_some() && second.is_some() && pool.try_enter().is_none());
        let (sender, granted) = mpsc::channel();
        for id in [9, 7, 8] {
            let sender = sender.clone();
            pool.enter(JobId(id), move |permit| drop(sender.send((id, permit))));
        }
        assert!(granted.try_recv().is_err());
        drop(first);
        let (id, permit) = granted.try_recv().expect("one is free");
        assert_eq!(id, 7);
        assert!(pool.try_enter().is_none(), "who waits comes first");
        drop((permit, second));
        let left: Vec<i64> = granted.try_iter().map(|(id, _)| id).collect();
        assert_eq!(left, [8, 9]);
        assert!(pool.try_enter().is_some() && pool.try_enter().is_some(), "dropped permits come back");
    }

    #[test]
    fn a_limit_that_was_set_counts() {
        let pools = Pools::default();
        let of_old = pools.get(&("p".to_owned(), 3));
        let first = of_old.try_enter();
        pools.set("p", 1);
        assert!(pools.get(&("p".to_owned(), 3)).try_enter().is_none(), "a row of an earlier time names another one");
        let (sender, granted) = mpsc::channel();
        for id in 0..2 {
            let sender = sender.clone();
            of_old.enter(JobId(id), move |permit| drop(sender.send(permit)));
        }
        assert!(granted.try_recv().is_err());
        pools.set("p", 3);
        assert_eq!(granted.try_iter().count(), 2, "who waits gets the new places");
        drop(first);
    }

    #[test]
    fn a_permit_for_somebody_who_is_gone_is_passed_on() {
        let pool = Pools::default().get(&("p".to_owned(), 1));
        let held = pool.try_enter();
        pool.enter(JobId(1), drop);
        let (sender, granted) = mpsc::channel();
        pool.enter(JobId(2), move |permit| drop(sender.send(permit)));
        drop(held);
        assert!(granted.try_recv().is_ok());
    }

    #[test]
    fn permits_for_very_many_who_are_gone_are_passed_on_one_after_the_other() {
        let pool = Pools::default().get(&("p".to_owned(), 1));
        let held = pool.try_enter();
        (1..=100_000).for_each(|id| pool.enter(JobId(id), drop));
        let (sender, granted) = mpsc::channel();
        pool.enter(JobId(100_001), move |permit| drop(sender.send(permit)));
        drop(held);
        assert!(granted.try_recv().is_ok());
    }
}
