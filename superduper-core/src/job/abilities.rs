//! What a program needs to run a job: the kind, the trigger, the executor.
//!
//! Invariant: a process claims no job for which its program lacks one of them. Another program may have it.

use super::{
    Placement,
    scheduler::{Abilities, Work},
};
use crate::{
    Address,
    registry::Registry,
    store::{JobRole, JobRow, NewJob},
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

/// The kinds, triggers and executors that a program has.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    registry: Arc<Registry>,
    executors: Arc<BTreeSet<&'static str>>,
    /// Components that hold a component of an unknown kind, as attempts found out.
    unreadable: Arc<RwLock<HashSet<Address>>>,
}

impl Program {
    pub(crate) fn new(registry: Arc<Registry>, executors: impl IntoIterator<Item = &'static str>) -> Self {
        Program { registry, executors: Arc::new(executors.into_iter().collect()), unreadable: Arc::default() }
    }

    /// The first thing that the program lacks to run a job, by name; `None` if the job can run here.
    pub(crate) fn lacks(&self, work: &Work<'_>) -> Option<String> {
        let kind = &work.target.kind;
        let Ok(entry) = self.registry.entry(kind) else { return Some(format!("the kind `{kind}`")) };
        if work.role == JobRole::Trigger && (entry.trigger)(work.method).is_none() {
            return Some(format!("the trigger `{}` of `{kind}`", work.method));
        }
        if self.unreadable.read().unwrap_or_else(PoisonError::into_inner).contains(work.target) {
            return Some(format!("a kind of a component that `{}` holds", work.target));
        }
        let executor = work.executor.and_then(|text| Placement::of_text(Some(text)).executor)?;
        (!self.executors.contains(executor.as_str())).then(|| format!("the executor `{executor}`"))
    }

    /// An attempt found out that a component holds a component of an unknown kind.
    pub(crate) fn cannot_read(&self, target: Address) {
        self.unreadable.write().unwrap_or_else(PoisonError::into_inner).insert(target);
    }

    pub(crate) fn abilities(&self) -> Abilities {
        let program = self.clone();
        Abilities::of(move |work| program.lacks(work).is_none())
    }
}

/// What a job on record needs to run.
pub(crate) fn work_of(row: &JobRow) -> Work<'_> {
    Work { target: &row.target, role: row.role, method: &row.method, executor: row.executor.as_deref() }
}

/// What a job that is about to be recorded needs to run.
pub(crate) fn work_of_new(job: &NewJob) -> Work<'_> {
    Work { target: &job.target, role: job.role, method: &job.method, executor: job.executor.as_deref() }
}
