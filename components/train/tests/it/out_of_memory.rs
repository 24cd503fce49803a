//! What is said of a worker that the kernel killed for want of memory, and of those that died
//! otherwise.

use crate::{crashes::children, support::*};
use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};
use superduper_train::prelude::*;

/// Name of the variable with the folder of a control group with little memory.
const GROUP: &str = "SUPERDUPER_TEST_GROUP";

/// More than the tests need, less than the worker takes.
const MEMORY: &str = "234881024";

/// How many of its workers run out of memory.
const MEMORY_DEATHS: usize = 2;

/// A control group with little memory, gone at the end.
struct Group(PathBuf);

impl Group {
    /// Below or beside the group of this process, where that is allowed.
    fn make() -> Result<Self, String> {
        let groups =
            std::fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let mut reason = "no control group of this process controls memory".to_owned();
        for line in groups.lines() {
            let Some((controllers, path)) =
                line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
            else {
                continue;
            };
            let (base, limit) = match controllers {
                "" => (format!("/sys/fs/cgroup{path}"), "memory.max"),
                "memory" => (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"),
                _ => continue,
            };
            let base = PathBuf::from(base);
            for place in [Some(base.as_path()), base.parent()]
                .into_iter()
                .flatten()
                .filter(|place| place.starts_with("/sys/fs/cgroup"))
            {
                let group = place.join(format!("superduper-test-{}", std::process::id()));
                match std::fs::create_dir(&group) {
                    Err(error) => reason = format!("`{}` cannot be made: {error}", group.display()),
                    Ok(()) => {
                        let group = Group(group);
                        match group.limit(limit) {
                            Ok(()) => return Ok(group),
                            Err(error) => reason = error,
                        }
                    }
                }
            }
        }
        Err(reason)
    }

    /// How often the kernel killed in this group.
    fn kills(&self) -> usize {
        let count = |file: &str| {
            let counts = std::fs::read_to_string(self.0.join(file)).ok()?;
            counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
        };
        count("memory.events").or_else(|| count("memory.oom_control")).expect("the kernel counts")
    }

    fn limit(&self, file: &str) -> Result<(), String> {
        let path = self.0.join(file);
        // Writing to a file that is not there would make none: this is no ordinary folder.
        if !path.exists() {
            return Err(format!("`{}` is missing: memory is not delegated", path.display()));
        }
        std::fs::write(&path, MEMORY)
            .map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
        for (file, value) in [("memory.swap.max", "0"), ("memory.swappiness", "0")] {
            if self.0.join(file).exists() {
                let _ = std::fs::write(self.0.join(file), value);
            }
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group whose last process just ended may need a moment.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j08_out_of_memory_is_said_where_the_kernel_says_it_and_nowhere_else() {
    let name = "out_of_memory::j08_out_of_memory_is_said_where_the_kernel_says_it_and_nowhere_else";
    let Some(group) = std::env::var_os(GROUP) else {
        for _ in 0..10 {
            let group = match Group::make() {
                Ok(group) => group,
                Err(reason) => return println!("skipped: {name}: {reason}"),
            };
            let inner = in_process(name, &[(GROUP, group.0.to_str().unwrap())]);
            if passed(&inner) {
                return assert!(group.kills() >= MEMORY_DEATHS);
            }
            // Where a killed worker is slow to give its memory back, the kernel kills one more:
            // this test, or a bystander.
            let another = inner.status.signal() == Some(9) || group.kills() > MEMORY_DEATHS;
            assert!(another, "{}", all_of(&inner));
        }
        panic!("the kernel always killed another process than the worker");
    };
    std::fs::write(Path::new(&group).join("cgroup.procs"), "0").unwrap();
    let place = Place::new();
    let db = place.db().await;
    let plain = trainer(&db, Process).await;
    let limits = Limits { memory: Some(128 << 20), ..Limits::default() };
    let limited = LocalTrainer::new("limited")
        .base(JobBase { limits, ..base(Process) })
        .open(&db)
        .await
        .unwrap();
    let said = async |trainer: &Trainer, what: &str| {
        let run = trainer.train(Walk::new(what, 0), TrainSpec::new().wait()).await.unwrap();
        let info = run.info().await.unwrap();
        assert!(info.status == Status::Errored && info.worker_died(), "{info:?}");
        text(&info)
    };
    assert_eq!(
        said(&plain, "signal").await,
        "the worker was killed by signal 9",
        "somebody else's signal is not want of memory"
    );
    assert_eq!(
        said(&plain, "memory").await,
        "the worker was killed by signal 9; the kernel reports that it ran out of memory"
    );
    assert_eq!(
        said(&plain, "signal").await,
        "the worker was killed by signal 9",
        "nor is one after it"
    );
    // Of two workers one runs out of memory; the other one dies later, and not of that.
    let gate = place.gate();
    let bystander = plain.train(Walk::new("wait", 0), gate.spec()).await.unwrap();
    until_stepping(&bystander).await;
    let [worker] = children(std::process::id())[..] else { panic!("one worker") };
    assert_eq!(
        said(&plain, "memory").await,
        "the worker was killed by signal 9; the kernel reports that it ran out of memory"
    );
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(worker).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(text(&bystander.wait().await.unwrap()), "the worker was killed by signal 9");
    let died = "the worker was killed by signal 6 (a memory limit of 134217728 bytes was set)";
    let text = said(&limited, "memory").await;
    assert!(
        text.starts_with(&format!("{died}: its standard error ended with: memory allocation of ")),
        "{text}"
    );
}
