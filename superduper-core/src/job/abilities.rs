//! What a program needs to run a job: the kind, the trigger, the executor.
//!
//! Invariant: a process claims no job for which its program lacks one of them. Another program may
//! have it.

use super::{
    Placement,
    scheduler::{Abilities, Work},
};
use crate::{
    address::Address,
    component::registry::Registry,
    store::{JobLine, JobRole, JobRow, NewJob},
};
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// A component, and the executor whose program cannot read it; `None` for this program.
type Unreadable = (Address, Option<String>);

/// The kinds, triggers and executors that a program has.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    registry: Arc<Registry>,
    executors: Arc<BTreeSet<&'static str>>,
    /// The executor of the only jobs that this process claims.
    only: Option<Arc<str>>,
    /// Components that hold something of an unknown type, as attempts found out: this program cannot
    /// read them, or that of the executor of this name.
    unreadable: Arc<RwLock<HashSet<Unreadable>>>,
}

impl Program {
    pub(crate) fn new(
        registry: Arc<Registry>,
        executors: impl IntoIterator<Item = &'static str>,
        only: Option<&str>,
    ) -> Self {
        Program {
            registry,
            executors: Arc::new(executors.into_iter().collect()),
            only: only.map(Arc::from),
            unreadable: Arc::default(),
        }
    }

    /// The first thing that the program lacks to run a job, in words; `None` if the job can run
    /// here.
    pub(crate) fn lacks(&self, work: &Work<'_>) -> Option<String> {
        self.lack(work).map(|lack| lack.to_string())
    }

    /// The first thing that the program lacks to run a job; `None` if the job can run here.
    pub(crate) fn lack(&self, work: &Work<'_>) -> Option<Lack> {
        let kind = &work.target.kind;
        let Ok(entry) = self.registry.entry(kind) else { return Some(Lack::Kind(kind.clone())) };
        if work.role == JobRole::Trigger && (entry.trigger)(work.method).is_none() {
            return Some(Lack::Trigger { kind: kind.clone(), trigger: work.method.to_owned() });
        }
        let unreadable = self.unreadable.read().unwrap_or_else(PoisonError::into_inner);
        // Usually there are none.
        let is_unreadable = |executor: Option<&str>| {
            !unreadable.is_empty()
                && unreadable.contains(&(work.target.clone(), executor.map(str::to_owned)))
        };
        if is_unreadable(None) {
            return Some(Lack::ChildKind(work.target.clone()));
        }
        let executor = work.executor.and_then(|text| Placement::of_text(Some(text)).executor);
        if let Some(only) = &self.only
            && executor.as_deref() != Some(only)
        {
            return Some(Lack::Executor(executor.unwrap_or_else(|| "threads".to_owned())));
        }
        let executor = executor?;
        if is_unreadable(Some(&executor)) {
            return Some(Lack::ProgramOf { executor, holder: work.target.clone() });
        }
        (!self.executors.contains(executor.as_str())).then_some(Lack::Executor(executor))
    }

    /// An attempt found out that a component holds something of an unknown type, in this program or
    /// in that of an executor.
    pub(crate) fn cannot_read(&self, target: Address, executor: Option<String>) {
        let mut unreadable = self.unreadable.write().unwrap_or_else(PoisonError::into_inner);
        unreadable.insert((target, executor));
    }

    pub(crate) fn abilities(&self) -> Abilities {
        let program = self.clone();
        Abilities::of(move |work| program.lacks(work).is_none())
    }
}

/// Something that a program needs to run a job, and that it does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// The kind of the component.
    Kind(String),
    /// The trigger.
    Trigger {
        /// The kind of the component.
        kind: String,
        /// The trigger.
        trigger: String,
    },
    /// A kind of a component that this one holds.
    ChildKind(Address),
    /// The executor.
    Executor(String),
    /// A program of an executor that has the types of what a component holds: the program that the
    /// executor starts lacks one of them.
    ProgramOf {
        /// The executor.
        executor: String,
        /// The component.
        holder: Address,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Kind(kind) => write!(f, "the kind `{kind}`"),
            Lack::Trigger { kind, trigger } => write!(f, "the trigger `{trigger}` of `{kind}`"),
            Lack::ChildKind(holder) => write!(f, "a kind of a component that `{holder}` holds"),
            Lack::Executor(executor) => write!(f, "the executor `{executor}`"),
            Lack::ProgramOf { executor, holder } => write!(
                f,
                "for the executor `{executor}` a program with all types of what `{holder}` holds"
            ),
        }
    }
}

/// What a job in a list needs to run.
pub(crate) fn work_of_line(line: &JobLine) -> Work<'_> {
    Work {
        target: &line.target,
        role: line.role,
        method: &line.method,
        executor: line.executor.as_deref(),
    }
}

/// What a job on record needs to run.
pub(crate) fn work_of(row: &JobRow) -> Work<'_> {
    Work {
        target: &row.target,
        role: row.role,
        method: &row.method,
        executor: row.executor.as_deref(),
    }
}

/// What a job that is about to be recorded needs to run.
pub(crate) fn work_of_new(job: &NewJob) -> Work<'_> {
    Work {
        target: &job.target,
        role: job.role,
        method: &job.method,
        executor: job.executor.as_deref(),
    }
}
