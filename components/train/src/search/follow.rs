//! A search followed by one bar, or by plain lines where there is no terminal.

use super::{
    result::{SearchResult, Trial},
    run::SearchRun,
};
use crate::{
    info::Status,
    progress::{Output, Progress, style},
    text::{brief, one_line},
};
use indicatif::ProgressBar;
use superduper::Result;

impl SearchRun {
    /// Follow it on stderr until all trainings have ended: one bar where that is a terminal, else a
    /// line per candidate.
    ///
    /// # Errors
    /// `Store`.
    pub async fn follow(&self) -> Result<SearchResult> {
        Progress::new().follow_search(self).await
    }
}

impl Progress {
    /// Follow a search until all trainings have ended: one bar that counts candidates and shows the
    /// best so far, else a line per candidate.
    ///
    /// # Errors
    /// `Store`.
    pub async fn follow_search(&self, search: &SearchRun) -> Result<SearchResult> {
        let view = View::new(self, search);
        let mut trials: Vec<Option<Trial>> = vec![None; search.started.len()];
        loop {
            let mut running = 0;
            for (place, started) in search.started.iter().enumerate() {
                if trials[place].is_some() {
                    continue;
                }
                let info = match &started.run {
                    Ok(run) => Some(run.info().await?),
                    Err(_) => None,
                };
                let status = info.as_ref().map(|info| info.status);
                if status
                    .is_some_and(|status| !status.is_terminal() && status != Status::Interrupted)
                {
                    running += usize::from(status == Some(Status::Running));
                    continue;
                }
                if let Ok(run) = &started.run {
                    run.telemetry_written().await;
                }
                let trial = search.trial(started, info).await?;
                trials[place] = Some(trial);
                view.ended(place, &trials);
            }
            view.count(running, &trials);
            if trials.iter().all(Option::is_some) {
                return Ok(search.result(trials.into_iter().flatten().collect()));
            }
            tokio::time::sleep(self.poll).await;
        }
    }
}

/// What is shown of a search.
struct View<'a> {
    progress: &'a Progress,
    search: &'a SearchRun,
    bar: Option<ProgressBar>,
}

impl<'a> View<'a> {
    fn new(progress: &'a Progress, search: &'a SearchRun) -> Self {
        let bar = match &progress.output {
            Output::Bars(bars) => {
                let bar = ProgressBar::new(search.started.len() as u64)
                    .with_style(style("{prefix} [{bar:24}] {pos}/{len}{wide_msg}"))
                    .with_prefix(one_line(&search.id, 60));
                Some(bars.add(bar))
            }
            Output::Lines(_) => None,
        };
        View { progress, search, bar }
    }

    /// A candidate has ended: a line of its own where there is no bar.
    fn ended(&self, place: usize, trials: &[Option<Trial>]) {
        let Some(trial) = trials.get(place).and_then(Option::as_ref) else { return };
        if self.bar.is_some() {
            return;
        }
        let outcome = match (&trial.error, trial.value) {
            (Some(error), _) => one_line(&format!("failed: {error}"), 300),
            (None, value) => {
                let metric = one_line(&self.search.metric, 40);
                format!("{metric} {}", value.map(brief).unwrap_or_default())
            }
        };
        let done = trials.iter().flatten().count();
        let values = one_line(&trial.to_string(), 200);
        let text = format!("{done}/{} {values}: {outcome}{}", trials.len(), self.best(trials));
        self.progress.write_line(&self.search.id, &text);
    }

    fn count(&self, running: usize, trials: &[Option<Trial>]) {
        let Some(bar) = &self.bar else { return };
        let failed = trials.iter().flatten().filter(|trial| trial.error.is_some()).count();
        let mut text = if running > 0 { format!(", {running} running") } else { String::new() };
        if failed > 0 {
            text += &format!(", {failed} failed");
        }
        bar.set_position(trials.iter().flatten().count() as u64);
        bar.set_message(text + &self.best(trials));
    }

    /// `; best loss 0.12 (rate=0.1)`, as far as there is one.
    fn best(&self, trials: &[Option<Trial>]) -> String {
        let result = self.search.result(trials.iter().flatten().cloned().collect());
        let Ok(best) = result.best() else { return String::new() };
        let values = one_line(&best.to_string(), 200);
        let value = best.value.map(brief).unwrap_or_default();
        format!("; best {} {value} ({values})", one_line(&self.search.metric, 40))
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        // Also where the future is dropped: the terminal is left in order.
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
