//! How much a guest may use.

use serde::{Deserialize, Serialize};
use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

/// How much a guest may use. Each limit has an error of its own.
///
/// ```
/// use std::time::Duration;
/// use superduper_sandbox::Limits;
///
/// let strict = Limits { fuel: 1_000_000, deadline: Duration::from_millis(50), ..Limits::default() };
/// # let _ = strict;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The size of a module, in bytes.
    pub module: usize,
    /// How many functions a module may have.
    pub functions: usize,
    /// How deep blocks may be nested in a function.
    pub nesting: usize,
    /// The memory of an instance, in bytes.
    pub memory: usize,
    /// The elements of the tables of an instance.
    pub table: usize,
    /// The stack of a call, in bytes; at most 1 MiB. A model cannot ask for another one than that of
    /// its process.
    pub stack: usize,
    /// The fuel of a call: about the number of instructions. The same call uses the same fuel on
    /// every machine.
    pub fuel: u64,
    /// The time of a call.
    pub deadline: Duration,
    /// What a call may give back, in bytes.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            module: 16 << 20,
            functions: 20_000,
            nesting: 1000,
            memory: 256 << 20,
            table: 10_000,
            stack: 512 << 10,
            fuel: 10_000_000_000,
            deadline: Duration::from_secs(30),
            output: 64 << 20,
        }
    }
}

/// The limits of this process, if they are not the default ones.
static OF_PROCESS: RwLock<Option<Limits>> = RwLock::new(None);

/// The largest stack of a call: threads have one of 2 MiB.
const MOST_STACK: usize = 1 << 20;

/// Set the limits of the models that this process runs. A model may ask for less, and never gets more.
/// The owner of a site calls it when the program of the site starts.
///
/// ```
/// use superduper_sandbox::{Limits, limit_models};
///
/// limit_models(Limits { memory: 64 << 20, ..Limits::default() });
/// # limit_models(Limits::default());
/// ```
pub fn limit_models(limits: Limits) {
    *OF_PROCESS.write().unwrap_or_else(PoisonError::into_inner) = Some(limits);
}

impl Limits {
    /// What a model gets that asks for these: at most what this process allows.
    pub(crate) fn within_process(&self) -> Limits {
        let allowed = OF_PROCESS.read().unwrap_or_else(PoisonError::into_inner);
        let allowed = allowed.clone().unwrap_or_default();
        Limits {
            module: self.module.min(allowed.module),
            functions: self.functions.min(allowed.functions),
            nesting: self.nesting.min(allowed.nesting),
            memory: self.memory.min(allowed.memory),
            table: self.table.min(allowed.table),
            // One engine for all models of the process.
            stack: allowed.stack,
            fuel: self.fuel.min(allowed.fuel),
            deadline: self.deadline.min(allowed.deadline),
            output: self.output.min(allowed.output),
        }
    }

    pub(crate) fn stack(&self) -> usize {
        self.stack.clamp(16 << 10, MOST_STACK)
    }
}
