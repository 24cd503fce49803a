//! How much a guest may use.

use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// The stack of a call, in bytes. It holds for the whole process, and is read when the first
    /// module is compiled.
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
