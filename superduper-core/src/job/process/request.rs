//! What the environment variables of a job process say.

use crate::{
    error::{Error, Result},
    store::{JobId, StoreLocations, WorkerId},
};
use std::{fmt, os::unix::ffi::OsStrExt, path::PathBuf, process::Command, str::FromStr};

/// The variable by which a job process knows its job: `job:attempt:owner:parent`.
///
/// A program that a job starts inherits the variable, but is no job process: its parent is another
/// process.
pub(super) const WORKER: &str = "SUPERDUPER_WORKER";
/// The variables by which it knows the stores of its parent. A folder may have any name, so each
/// has a variable of its own.
const METADATA: &str = "SUPERDUPER_WORKER_METADATA";
const ARTIFACTS: &str = "SUPERDUPER_WORKER_ARTIFACTS";
/// The exit code of a job process that cannot open the stores, as `EX_CONFIG` of `sysexits.h`.
pub(super) const CANNOT_OPEN: i32 = 78;
/// The exit code of a job process whose program lacks something that the job needs.
pub(super) const LACKS: i32 = 79;

/// A job and its attempt, the worker that has claimed it, and the process id of the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) job: JobId,
    pub(super) attempt: u32,
    pub(super) owner: WorkerId,
    pub(super) parent: u32,
}

impl Request {
    /// Hand it to a job process that is about to start.
    pub(super) fn pass(&self, command: &mut Command, stores: &StoreLocations) {
        command
            .env(WORKER, self.to_string())
            .env(METADATA, &stores.metadata)
            .env(ARTIFACTS, &stores.artifacts);
    }

    /// The variables by which the processes of the attempt are found.
    pub(super) fn marks(&self, stores: &StoreLocations) -> Marks {
        let metadata = stores.metadata.as_os_str().as_bytes();
        Marks([
            format!("{WORKER}={self}").into_bytes(),
            [METADATA.as_bytes(), b"=", metadata].concat(),
        ])
    }

    /// The request that this process was started with; `None` if there is none.
    pub(super) fn of_this_process() -> Result<Option<Self>> {
        std::env::var(WORKER).ok().map(|text| text.parse()).transpose()
    }

    /// The places of the stores that this process is to open.
    pub(super) fn stores() -> Result<StoreLocations> {
        let place = |name: &str| std::env::var_os(name).map(PathBuf::from);
        place(METADATA)
            .zip(place(ARTIFACTS))
            .map(|(metadata, artifacts)| StoreLocations { metadata, artifacts })
            .ok_or_else(|| Error::internal("a job process was not told where its stores are"))
    }
}

/// The variables that only the processes of one attempt have. Two databases may have the same
/// numbers, so the place counts, too.
#[derive(Debug, Clone)]
pub(super) struct Marks([Vec<u8>; 2]);

impl Marks {
    /// Whether both are among variables as the kernel lists them.
    pub(super) fn are_in(&self, variables: &[u8]) -> bool {
        self.0
            .iter()
            .all(|mark| variables.split(|byte| *byte == 0).any(|variable| variable == mark))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.job, self.attempt, self.owner, self.parent)
    }
}

impl FromStr for Request {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::internal(format!("`{text}` is not the request of a job process"));
        let mut parts = text.splitn(4, ':');
        let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok()).ok_or_else(bad);
        let (job, attempt, owner, parent) =
            (JobId(number()?), number()?, WorkerId(number()?), number()?);
        let count = |number: i64| u32::try_from(number).map_err(|_| bad());
        Ok(Request { job, attempt: count(attempt)?, owner, parent: count(parent)? })
    }
}
