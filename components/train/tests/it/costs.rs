//! What many jobs cost: open files, memory, processes. Each in a process of its own, where nothing
//! else opens or takes any.

use crate::{crashes::children, support::*};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use superduper_train::prelude::*;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j12_finished_jobs_keep_no_files_open() {
    if !alone("costs::j12_finished_jobs_keep_no_files_open") {
        return;
    }
    // SUPERDUPER_FILES=1000 for the full run.
    let count: usize =
        std::env::var("SUPERDUPER_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Process).await;
    let mut runs = Vec::new();
    let mut after = Vec::new();
    for number in 0..count {
        runs.push(trainer.train(Walk::new("loop", 1), TrainSpec::new().wait()).await.unwrap());
        if number % 6 == 5 {
            after.push(open_files());
        }
    }
    let (low, high) = (after.iter().min().unwrap(), after.iter().max().unwrap());
    assert!(high - low <= 3, "open files do not grow with the jobs: {after:?}");
}

/// Bytes of memory of a process.
fn resident(process: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    text.split_whitespace().nth(1).map_or(0, |pages| pages.parse::<usize>().unwrap() * 4096)
}

/// Bytes of memory of this process once it is done with what was under way: the last job's own
/// model may go a moment after its end.
async fn settled() -> usize {
    let mut least = resident("self");
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        least = least.min(resident("self"));
    }
    least
}

/// Hundredths of seconds of processor time of children that ended.
fn children_time() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = text.rsplit_once(") ").unwrap().1;
    after_name.split_whitespace().skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

both! {
    async fn j12_finished_jobs_keep_no_model_in_memory(isolation: Isolation) {
        let which = if isolation == Thread { "thread" } else { "process" };
        // What the allocator keeps for later is not what is counted here: it gives large blocks
        // back at once.
        let at_once = [("MALLOC_MMAP_THRESHOLD_", "1048576")];
        if !again(&format!("costs::j12_finished_jobs_keep_no_model_in_memory::{which}"), &at_once) {
            return;
        }
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let mut kept = Vec::new();
        let mut after = Vec::new();
        for number in 0..40_u32 {
            // No two models are equal, so that none is stored for another.
            let run = trainer.train(Walk::new("big", 0), TrainSpec::new().arg("byte", number).wait()).await.unwrap();
            assert_eq!(run.info().await.unwrap().status, Status::Completed);
            kept.push(run);
            if number % 8 == 7 {
                after.push(settled().await >> 20);
            }
        }
        println!("{which}: MiB after each 8 of 40 finished jobs with models of 16 MiB: {after:?}");
        assert!(after[4] <= after[0] + 8, "32 more models of 16 MiB, with their handles, hold less than half of one: {after:?} MiB");
        assert_eq!(weights(&kept[39].load().await.unwrap()).await, vec![39; 16 << 20]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j12_a_hundred_processes_at_once_are_no_more_than_the_limit() {
    if !alone("costs::j12_a_hundred_processes_at_once_are_no_more_than_the_limit") {
        return;
    }
    const LIMIT: usize = 4;
    let place = Place::new();
    let db = place.db().await;
    let trainer = LocalTrainer::new("many")
        .base(JobBase { max_concurrent: LIMIT, ..base(Process) })
        .open(&db)
        .await
        .unwrap();
    static DONE: AtomicBool = AtomicBool::new(false);
    let me = std::process::id();
    let watch = std::thread::spawn(move || {
        let (mut most, mut memory, mut looks) = (0, 0, 0);
        loop {
            let workers = children(me);
            // A copy of this process that has not become a worker yet shares its memory.
            let is_worker = |pid: &&i32| {
                std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program())
            };
            let taken: usize =
                workers.iter().filter(is_worker).map(|pid| resident(&pid.to_string())).sum();
            (most, memory, looks) = (most.max(workers.len()), memory.max(taken), looks + 1);
            if DONE.load(Ordering::SeqCst) {
                return (most, memory >> 20, looks);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    let begun = std::time::Instant::now();
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(trainer.train(Walk::new("loop", 2), TrainSpec::new()).await.unwrap());
    }
    for run in &runs {
        assert_eq!(run.wait().await.unwrap().status, Status::Completed);
    }
    let took = begun.elapsed();
    DONE.store(true, Ordering::SeqCst);
    let (most, memory, looks) = watch.join().unwrap();
    println!(
        "100 process jobs, {LIMIT} at once: {took:?}, at most {most} children with {memory} MiB ({looks} looks), processor time {} ms",
        children_time() * 10
    );
    assert!(looks > 20 && most > 1 && memory > 0, "it was looked at: {looks} {most} {memory}");
    assert!(most <= LIMIT, "{most} children");
    assert!(memory < 190, "{memory} MiB, less than 200 MB");
}
