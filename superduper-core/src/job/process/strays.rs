//! Ends the processes that a job process started and left behind.
//!
//! The processes that a job starts are in its process group, unless they leave the group with
//! `setsid`. On Linux, processes that left the group are found in two ways: a job process is a
//! subreaper, so its descendants stay below it as long as it lives; and they have the variables of
//! its request, which are unique to the attempt.
//!
//! Limits: a process that left the group *and* cleared these variables is not found if the job
//! process was killed from outside, or exited without returning from its job. A process that left
//! the group is not found if the job process and its parent are killed at the same moment, nor on
//! systems other than Linux.

use super::request::Marks;
use crate::unreturned::Unreturned;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};
use std::time::Duration;

/// The most rounds of finding and killing processes: a process may start another one before it is
/// killed.
const ROUNDS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Make this process the parent of the orphans of its descendants.
pub(super) fn keep_orphans() {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(getpid()))
        .ignored("without it they are found by their variables");
}

/// End a job process by force, with all processes that it started.
pub(super) fn end(process: Pid) {
    // A stopped process starts no others, and orphans of its descendants stay below it.
    signal(process, Signal::STOP);
    end_below(process);
    end_group(process);
}

/// End all processes that this process started.
pub(super) fn end_own() {
    end_below(getpid());
}

/// End the process group of a job process.
pub(super) fn end_group(group: Pid) {
    kill_process_group(group, Signal::KILL).ignored("it may be gone already");
}

/// End the processes of an attempt that are left after its job process has ended.
pub(super) fn end_marked(marks: &Marks) {
    end_all(|| linux::all().into_iter().filter(|pid| linux::has(*pid, marks)).collect());
}

fn end_below(root: Pid) {
    end_all(|| linux::below(root));
}

fn end_all(find: impl Fn() -> Vec<Pid>) {
    for _ in 0..ROUNDS {
        let found = find();
        if found.is_empty() {
            return;
        }
        found.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        std::thread::sleep(PAUSE);
    }
}

pub(super) fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).ignored("it may be gone already");
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Marks, Pid};
    use std::{fs, path::Path};

    /// All processes that `/proc` shows.
    pub(super) fn all() -> Vec<Pid> {
        numbers(Path::new("/proc"))
    }

    /// The descendants of a process that have not ended.
    pub(super) fn below(root: Pid) -> Vec<Pid> {
        let (mut found, mut next) = (vec![root], 0);
        while let Some(parent) = found.get(next).copied() {
            next += 1;
            found.extend(children(parent));
        }
        found.into_iter().skip(1).filter(|pid| *pid != root && lives(*pid)).collect()
    }

    fn children(parent: Pid) -> Vec<Pid> {
        let tasks = format!("/proc/{parent}/task");
        let mut children = Vec::new();
        for task in numbers(Path::new(&tasks)) {
            // A thread may have ended meanwhile. On a kernel without such files, processes are
            // found by their variables.
            let text = fs::read_to_string(format!("{tasks}/{task}/children")).unwrap_or_default();
            children.extend(
                text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)),
            );
        }
        children
    }

    fn numbers(folder: &Path) -> Vec<Pid> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries
            .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    /// Whether a process has not ended. A process that has ended stays listed until its parent has
    /// waited for it.
    fn lives(pid: Pid) -> bool {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state follows the name in brackets, which may hold any characters.
        let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
        state.is_some_and(|state| !matches!(state, b'Z' | b'X'))
    }

    /// Whether a process has the variables of a request. A process of another user cannot be read.
    /// A process that has ended has no variables.
    pub(super) fn has(pid: Pid, marks: &Marks) -> bool {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|variables| marks.are_in(&variables))
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use super::{Marks, Pid};

    pub(super) fn all() -> Vec<Pid> {
        Vec::new()
    }

    pub(super) fn below(_root: Pid) -> Vec<Pid> {
        Vec::new()
    }

    pub(super) fn has(_pid: Pid, _marks: &Marks) -> bool {
        false
    }
}
