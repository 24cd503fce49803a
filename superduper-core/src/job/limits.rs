//! Limits of job processes, and what an exit status says of them.
//!
//! Invariant: limits hold before any user code of the worker runs. Out of memory is said only where
//! the kernel says it.

use super::Placement;
use crate::error::{Error, ErrorKind, FailureKind, JobFailure, Result};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{
    process::{Command, ExitStatus},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The variable by which a job process knows its limits: bytes of memory, seconds of processor
/// time, and milliseconds without a sign of life. Each may be empty.
const LIMITS: &str = "SUPERDUPER_WORKER_LIMITS";

/// Hand the limits to a worker that is about to start.
pub(super) fn pass(command: &mut Command, placement: &Placement) {
    let text = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    if placement.memory.is_some() || placement.cpu_s.is_some() || placement.stall_ms.is_some() {
        command.env(
            LIMITS,
            format!(
                "{}:{}:{}",
                text(placement.memory),
                text(placement.cpu_s),
                text(placement.stall_ms)
            ),
        );
    } else {
        command.env_remove(LIMITS);
    }
}

/// Limit this process as its parent asked.
pub(super) fn apply() -> Result<()> {
    let [memory, cpu, _] = read();
    for (resource, limit) in [(Resource::Data, memory), (Resource::Cpu, cpu)] {
        let Some(limit) = limit else { continue };
        let wanted = Rlimit {
            current: Some(limit),
            maximum: Some(limit.saturating_add(u64::from(resource == Resource::Cpu))),
        };
        setrlimit(resource, wanted).map_err(|error| {
            Error::new(
                ErrorKind::Unsupported,
                format!("the limit {resource:?} = {limit} cannot be set"),
            )
            .with_source(error)
            .fatal()
        })?;
    }
    Ok(())
}

/// How long this job process may go without sending a sign of life to its parent.
pub(super) fn stall() -> Option<Duration> {
    let [.., stall] = read();
    stall.map(Duration::from_millis)
}

fn read() -> [Option<u64>; 3] {
    let limits = std::env::var(LIMITS).unwrap_or_default();
    let mut limits = limits.split(':').map(|limit| limit.parse().ok());
    std::array::from_fn(|_| limits.next().flatten())
}

/// How often the kernel killed a process of this control group for want of memory, where it tells:
/// of version 2, or of version 1, which a machine may have for memory beside an empty version 2.
pub(super) fn memory_kills() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let file = match controllers {
            "" => format!("/sys/fs/cgroup{path}/memory.events"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                format!("/sys/fs/cgroup/memory{path}/memory.oom_control")
            }
            _ => return None,
        };
        let counts = std::fs::read_to_string(file).ok()?;
        counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    })
}

/// Whether the kernel killed a process for want of memory since a count was taken that no other
/// worker's end was explained with: where one of several workers was killed so, the next one that
/// dies by the same signal was not.
fn was_killed_for_memory(before: Option<u64>) -> bool {
    static EXPLAINED: Mutex<u64> = Mutex::new(0);
    let mut explained = EXPLAINED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((before, now)) = before.zip(memory_kills()) else { return false };
    let from = before.max(*explained);
    if now > from {
        *explained = from + 1;
    }
    now > from
}

/// Why a worker ended without recording a result.
pub(super) fn describe(
    status: ExitStatus,
    placement: &Placement,
    kills_before: Option<u64>,
) -> JobFailure {
    use std::os::unix::process::ExitStatusExt;
    const ABORT: i32 = 6;
    const KILL: i32 = 9;
    const CPU: i32 = 24;
    let lost = |text: String| JobFailure::new(FailureKind::WorkerLost, text);
    match (status.signal(), status.code()) {
        (Some(CPU), _) => {
            let limit = placement.cpu_s.unwrap_or_default();
            JobFailure::new(
                FailureKind::Timeout,
                format!(
                    "the worker was killed by signal {CPU}: it used more than {limit} s of processor time"
                ),
            )
        }
        (Some(KILL), _) if was_killed_for_memory(kills_before) => lost(format!(
            "the worker was killed by signal {KILL}; the kernel reports that it ran out of memory"
        )),
        (Some(signal), _) => match placement.memory.filter(|_| signal == ABORT) {
            Some(limit) => lost(format!(
                "the worker was killed by signal {signal} (a memory limit of {limit} bytes was set)"
            )),
            None => lost(format!("the worker was killed by signal {signal}")),
        },
        (None, Some(0)) => lost("the worker ended without recording a result".to_owned()),
        (None, code) => lost(format!(
            "the worker ended with exit code {} without recording a result",
            code.unwrap_or(-1)
        )),
    }
}
