//! Runs followed where there is no terminal.

use crate::{
    crashes::{ended, parent},
    support::*,
};
use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};
use superduper_train::{Progress, prelude::*};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn all(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn progress(&self) -> Progress {
        Progress::lines(self.clone()).poll(Duration::from_millis(20))
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A reader that went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
}

both! {
    async fn j16_a_run_is_followed_in_few_lines(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let lines = Lines::default();
        let run = trainer.train(Walk::new("loop", 200), TrainSpec::new().id("calm").arg("pause_ms", 4_u64)).await.unwrap();
        let info = lines.progress().follow(&run).await.unwrap();
        assert_eq!(info.status, Status::Completed);
        let all = lines.all();
        assert!(all.iter().all(|line| line.starts_with("calm: ")), "{all:?}");
        let last = all.last().unwrap();
        assert!(last.starts_with("calm: COMPLETED after 200/200 steps in ") && last.contains(", position "), "{all:?}");
        let steps: Vec<&String> = all.iter().filter(|line| line.contains("/200 steps (")).collect();
        assert!((1..=3).contains(&steps.len()), "at most one per quarter: {all:?}");
        assert!(steps.iter().all(|line| line.contains(" steps/s, ") && line.contains(" left")), "{all:?}");
        assert!(all.iter().filter(|line| line.ends_with(": RUNNING")).count() == 1 && all.len() <= 6, "{all:?}");
        assert_eq!(Progress::lines(Closed).follow(&run).await.unwrap().status, Status::Completed, "who reads no longer does no harm");
    }

    async fn j16_following_ends_with_a_failure_and_a_cancellation(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let lines = Lines::default();
        let gate = place.gate();
        let failing = trainer.train(Walk::new("fail", 0), TrainSpec::new().id("failing")).await.unwrap();
        let waiting = trainer.train(Walk::new("wait", 0), gate.spec().id("waiting")).await.unwrap();
        until_status(&waiting, Status::Running).await;
        let all = [&*failing, &*waiting];
        let progress = lines.progress().every(Duration::from_millis(1));
        let (infos, _) = tokio::join!(progress.follow_all(all), async {
            let told = async || lines.all().iter().any(|line| line.starts_with("waiting: ") && line.contains("/4000 steps ("));
            until("there is a line per `every`", told).await;
            // Whoever looks away, as a program does at Ctrl-C, changes nothing.
            drop(tokio::time::timeout(Duration::from_millis(50), progress.follow(&waiting)).await);
            waiting.cancel().await.unwrap();
        });
        let statuses: Vec<Status> = infos.unwrap().iter().map(|info| info.status).collect();
        assert_eq!(statuses, [Status::Errored, Status::Cancelled]);
        let all = lines.all();
        let failed: Vec<&String> = all.iter().filter(|line| line.starts_with("failing: ERRORED")).collect();
        assert_eq!(failed.len(), 1);
        assert!(failed[0].ends_with(": Batch size of 999 is not allowed!: the sampler has 12 rows"), "{all:?}");
        assert_eq!(all.iter().filter(|line| line.starts_with("waiting: CANCELED")).count(), 1, "{all:?}");
    }

    async fn j16_a_run_of_another_process_is_followed(isolation: Isolation) {
        let place = Place::new();
        let folder = place.path("db");
        let mut process = parent(&folder, 2, 150, isolation);
        until("jobs are under way", async || folder.join("metadata.sqlite").exists()).await;
        let db = place.db().await;
        until("both are on record", async || db.trainings().await.is_ok_and(|runs| runs.len() == 2)).await;
        let runs = db.trainings().await.unwrap();
        let lines = Lines::default();
        let infos = lines.progress().follow_all(runs.iter().map(|run| &**run)).await.unwrap();
        assert!(infos.iter().all(|info| info.status == Status::Completed), "{infos:?}");
        let all = lines.all();
        assert!((0..2).all(|number| all.iter().any(|line| line.starts_with(&format!("storm-{number}: COMPLETED")))), "{all:?}");
        ended(&mut process).await;
    }
}
