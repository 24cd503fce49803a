//! Deaths of workers and parents, and what they leave behind.

use crate::{modules::storm_spec, open, support::*};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use superduper::store::JobFilter;
use superduper_train::prelude::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j08_exit_reasons_are_told_apart() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Process).await;
    for (what, expected) in [
        ("signal", "the worker was killed by signal 9"),
        ("exit", "the worker ended without recording a result"),
        ("code", "the worker ended with exit code 3 without recording a result"),
    ] {
        let run = trainer.train(Walk::new(what, 0), TrainSpec::new()).await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!((info.status, text(&info).as_str()), (Status::Errored, expected));
        assert!(info.worker_died());
        assert!(run.load::<Walk>().await.unwrap_err().to_string().contains(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_memory_and_processor_time_hold_in_the_worker() {
    let place = Place::new();
    let db = place.db().await;
    let limited = async |name: &str, limits: Limits, what: &str| {
        let trainer = LocalTrainer::new(name)
            .base(JobBase { limits, ..base(Process) })
            .open(&db)
            .await
            .unwrap();
        let info = trainer
            .train(Walk::new(what, 0), TrainSpec::new())
            .await
            .unwrap()
            .wait()
            .await
            .unwrap();
        assert_eq!(info.status, Status::Errored);
        text(&info)
    };
    let memory =
        limited("memory", Limits { memory: Some(512 << 20), ..Limits::default() }, "memory").await;
    let died = "the worker was killed by signal 6 (a memory limit of 536870912 bytes was set)";
    assert!(
        memory
            .starts_with(&format!("{died}: its standard error ended with: memory allocation of ")),
        "{memory}"
    );
    let cpu =
        limited("cpu", Limits { cpu: Some("1s".parse().unwrap()), ..Limits::default() }, "cpu")
            .await;
    assert_eq!(cpu, "the worker was killed by signal 24: it used more than 1 s of processor time");
}

pub(crate) fn parent(folder: &Path, jobs: usize, steps: u64, isolation: Isolation) -> Child {
    let isolation = if isolation == Process { "process" } else { "thread" };
    let mut command = Command::new(program());
    command.args([
        "storm",
        folder.to_str().unwrap(),
        &jobs.to_string(),
        &steps.to_string(),
        isolation,
    ]);
    // Workers of a killed parent may say that they were overtaken.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub(crate) async fn ended(process: &mut Child) {
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    while process.try_wait().unwrap().is_none() {
        if tokio::time::Instant::now() > end {
            process.kill().unwrap();
            panic!("the parent did not come to an end");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The job processes of a parent.
pub(crate) fn children(parent: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        })
        .collect()
}

fn is_gone(pid: i32) -> bool {
    // A zombie is gone too: whoever inherits it reaps it.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

both! {
    async fn j10_the_parent_dies_and_nothing_is_lost(isolation: Isolation) {
        let place = Place::new();
        let folder = place.path("db");
        let mut process = parent(&folder, 3, 150, isolation);
        until("jobs are under way", async || folder.join("metadata.sqlite").exists()).await;
        let db = place.db().await;
        until("checkpoints are kept", async || {
            let jobs = db.jobs(JobFilter::default()).await.unwrap();
            let mut with = 0;
            for job in &jobs {
                with += usize::from(!db.checkpoints(job.id).await.unwrap().is_empty());
            }
            jobs.len() == 3 && with == 2
        })
        .await;
        let workers = children(process.id());
        assert_eq!(workers.len(), if isolation == Process { 2 } else { 0 });
        process.kill().unwrap();
        process.wait().unwrap();
        until("no worker is left", async || workers.iter().all(|pid| is_gone(*pid))).await;
        let mut interrupted = 0;
        for run in db.trainings().await.unwrap() {
            let info = run.info().await.unwrap();
            assert_eq!(info.status, Status::Interrupted, "also the one that waited for its turn: {info:?}");
            interrupted += usize::from(info.attempt > 0);
            assert_eq!(run.wait().await.unwrap().status, Status::Interrupted, "waiting for what nobody runs ends");
            assert!(run.load::<Walk>().await.unwrap_err().hint().is_some_and(|hint| hint.contains("resume")));
        }
        assert_eq!(interrupted, 2, "one had not begun");
        // The next process goes on: by hand here, by the trainer's restart policy in the storm
        // below.
        let trainer = db.trainer("storm").await.unwrap();
        db.resume().await.unwrap();
        let expected = LocalTrainer::new("calm").open(&db).await.unwrap();
        for run in db.trainings().await.unwrap() {
            let number: usize = run.id().trim_start_matches("storm-").parse().unwrap();
            let info = run.wait().await.unwrap();
            assert_eq!(info.status, Status::Completed, "{info:?}");
            let calm = expected.train(Walk::new("loop", 150), storm_spec(number).id(format!("calm-{number}")).arg("pause_ms", 0_u64)).await.unwrap();
            assert_eq!(run.load::<Walk>().await.unwrap().trace, calm.load::<Walk>().await.unwrap().trace, "bit for bit");
        }
        drop(trainer);
    }
}

both! {
    async fn j10_a_trainer_that_is_open_takes_over_what_a_dead_process_left(isolation: Isolation) {
        let place = Place::new();
        let folder = place.path("db");
        let db = place.db().await;
        let restart = Restart { retries: 0, backoff: Span::default(), resume: true };
        // It looks four times within its retention.
        let base = JobBase { restart, retention: Some("2s".parse().unwrap()), ..base(isolation) };
        let _open = LocalTrainer::new("storm").base(base).open(&db).await.unwrap();
        let mut process = parent(&folder, 3, 60, isolation);
        let begun = async || {
            let jobs = db.jobs(JobFilter::default()).await.unwrap();
            jobs.len() == 3 && jobs.iter().any(|job| job.state == superduper::store::JobState::Running && job.progress.is_some())
        };
        until("jobs are under way", begun).await;
        process.kill().unwrap();
        process.wait().unwrap();
        // Nobody asks for anything.
        until("all are done", async || {
            let jobs = db.jobs(JobFilter::default()).await.unwrap();
            jobs.iter().all(|job| job.state == superduper::store::JobState::Succeeded)
        })
        .await;
        assert_eq!(db.jobs(JobFilter::default()).await.unwrap().len(), 3, "they went on; nothing was submitted again");
    }
}

both! {
    async fn j10_a_queued_job_is_interrupted_when_its_process_is_gone(isolation: Isolation) {
        let place = Place::new();
        let folder = place.path("db");
        let mut process = parent(&folder, 3, 100_000, isolation);
        until("jobs are under way", async || folder.join("metadata.sqlite").exists()).await;
        let db = place.db().await;
        let running = async || {
            let runs = db.trainings().await.unwrap_or_default();
            let mut begun = 0;
            for run in &runs {
                begun += usize::from(run.info().await.unwrap().status == Status::Running);
            }
            runs.len() == 3 && begun == 2
        };
        until("two run and one waits", running).await;
        let waiting = db.get_model_future("storm-2").await.unwrap();
        assert_eq!(waiting.info().await.unwrap().status, Status::Queued, "its process is alive");
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(waiting.info().await.unwrap().status, Status::Interrupted);
        // Somebody else who runs jobs might have it: nothing is claimed then.
        let other = open::builder(&folder).unwrap().program(program()).build().await.unwrap();
        let busy = trainer(&other, isolation).await;
        let done = busy.train(Walk::new("loop", 1), TrainSpec::new().id("done").wait()).await.unwrap();
        assert_eq!(done.info().await.unwrap().status, Status::Completed);
        assert_eq!(waiting.info().await.unwrap().status, Status::Queued);
        drop((busy, done, other));
        until("it is told again", async || waiting.info().await.unwrap().status == Status::Interrupted).await;
        let resumed = waiting.resume().await.unwrap();
        until_stepping(&resumed).await;
        assert_eq!(waiting.info().await.unwrap().status, Status::Running, "somebody has it again");
        resumed.cancel().await.unwrap();
        assert_eq!(resumed.wait().await.unwrap().status, Status::Cancelled);
    }
}

both! {
    async fn j16_a_storm_of_kills_changes_no_bit(isolation: Isolation) {
        // SUPERDUPER_STORM=100 for the full run.
        let kills: usize = std::env::var("SUPERDUPER_STORM").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
        let (jobs, steps) = (4, 60 + 30 * kills as u64);
        let place = Place::new();
        let folder = place.path("db");
        let mut random = superduper_train::Rng::new(kills as u64);
        let mut process = parent(&folder, jobs, steps, isolation);
        let (mut of_parents, mut of_workers) = (0, 0);
        while of_parents + of_workers < kills {
            tokio::time::sleep(Duration::from_millis(120 + random.below(200))).await;
            if process.try_wait().unwrap().is_some() {
                break;
            }
            let workers = children(process.id());
            let victim = workers.get(random.below(workers.len() as u64) as usize).and_then(|pid| rustix::process::Pid::from_raw(*pid));
            match victim.filter(|_| random.below(3) > 0) {
                Some(worker) => {
                    let _ = rustix::process::kill_process(worker, rustix::process::Signal::KILL);
                    of_workers += 1;
                }
                None => {
                    process.kill().unwrap();
                    process.wait().unwrap();
                    of_parents += 1;
                    process = parent(&folder, jobs, steps, isolation);
                }
            }
        }
        let db = place.db().await;
        // Jobs that lost three processes are errored; the parent tries those again when it starts.
        for _ in 0..20 {
            ended(&mut process).await;
            let mut open = 0;
            for number in 0..jobs {
                match db.get_model_future(&format!("storm-{number}")).await {
                    Ok(run) => open += usize::from(run.info().await.unwrap().status != Status::Completed),
                    Err(_) => open += 1,
                }
            }
            if open == 0 {
                break;
            }
            process = parent(&folder, jobs, steps, isolation);
        }
        ended(&mut process).await;
        println!("killed: {of_parents} parents, {of_workers} workers");
        assert_eq!(of_parents + of_workers, kills, "the jobs last as long as the storm");
        assert!(of_parents > 0 && (of_workers > 0) == (isolation == Process), "{of_parents} parents, {of_workers} workers");
        let calm = LocalTrainer::new("calm").open(&db).await.unwrap();
        for number in 0..jobs {
            let run = db.get_model_future(&format!("storm-{number}")).await.unwrap();
            let info = run.info().await.unwrap();
            assert_eq!(info.status, Status::Completed, "{info:?}");
            let spec = storm_spec(number).id(format!("calm-{number}")).arg("pause_ms", 0_u64);
            let expected: Walk = calm.train(Walk::new("loop", steps), spec).await.unwrap().load().await.unwrap();
            let model: Walk = run.load().await.unwrap();
            assert_eq!((model.trace.clone(), weights(&model).await), (expected.trace.clone(), weights(&expected).await), "bit for bit");
        }
        for job in db.jobs(JobFilter::default()).await.unwrap() {
            assert!(job.state.is_terminal() && job.ended_at.is_some(), "every job is accounted for: {job:?}");
        }
    }
}
