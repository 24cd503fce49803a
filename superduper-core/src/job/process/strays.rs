//! Ends what a job process started and left behind.
//!
//! A process group holds what a job starts, unless it leaves the group, as `setsid` does. On Linux, such processes are found in
//! two ways: a job process is a subreaper, so whatever it starts stays below it as long as it lives; and its descendants have
//! the variables of its request, which are unique to the attempt. Limits: a process that left the group *and* cleared these
//! variables is not found if the job process was killed from outside, or ended itself without returning from its job; nor is
//! one that is left when job process and parent are killed at the same moment; nor is any outside of Linux.

use super::request::Marks;
use crate::unreturned::Unreturned;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};
use std::time::Duration;

/// How often processes are looked for until there are none: what is being ended may start others.
const ROUNDS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Let this process keep what its children leave behind.
pub(super) fn keep_orphans() {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(getpid())).ignored("without it they are found by their variables");
}

/// End a job process by force, with all that it started.
pub(super) fn end(process: Pid) {
    // It starts nothing more, and what its children leave behind stays below it.
    signal(process, Signal::STOP);
    end_below(process);
    end_group(process);
}

/// End all that this process started.
pub(super) fn end_own() {
    end_below(getpid());
}

/// End the process group of a job process.
pub(super) fn end_group(group: Pid) {
    kill_process_group(group, Signal::KILL).ignored("it may be gone already");
}

/// End what is left of an attempt whose job process has ended without doing so itself.
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

    /// Those below a process that have not ended.
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
            // A thread may have ended meanwhile. A kernel that has no such files leaves the other way.
            let text = fs::read_to_string(format!("{tasks}/{task}/children")).unwrap_or_default();
            children.extend(text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        }
        children
    }

    fn numbers(folder: &Path) -> Vec<Pid> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// Whether a process has not ended; one that has may wait for its parent to look.
    fn lives(pid: Pid) -> bool {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in brackets may hold anything.
        let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
        state.is_some_and(|state| !matches!(state, b'Z' | b'X'))
    }

    /// Whether a process has the variables of a request. What cannot be read belongs to another user; what has ended has none.
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
