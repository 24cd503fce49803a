//! Runs followed on a terminal: a bar each, or plain lines where there is no terminal.
//!
//! Invariants: nothing is shown unless somebody asks for it. Only the record is read, so a run of
//! another process is followed as one of this is, and following changes nothing about it. However
//! following ends, the terminal is left in order.

use crate::{
    handle::JobRun,
    info::{Info, Status},
    pace::Pace,
    text::{brief, one_line},
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt,
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use superduper::Result;
use superduper::unreturned::Unreturned;

/// So many metrics are shown; the others are in the record.
const METRICS: usize = 6;

/// Shows how runs are doing until they end.
///
/// On a terminal each run has a bar with steps, rate, time left and its newest metrics. Elsewhere
/// there are plain lines: one per change of its status, one per quarter of its steps, and beyond
/// that at most one per [`Progress::every`]. A handle; clones share the terminal.
///
/// # Guarantees
/// - Nothing is read but the record: it works for a run of another process too.
/// - Dropping the future, as `tokio::select!` with `ctrl_c` does, leaves the terminal in order; the
///   run goes on.
///
/// ```no_run
/// # async fn example(first: superduper_train::TrainingRun, second: superduper_train::TrainingRun) -> superduper::Result<()> {
/// use superduper_train::Progress;
///
/// let info = first.follow().await?; // on stderr
/// let infos = Progress::new().follow_all([&*first, &*second]).await?;
/// tokio::select! {
///     info = first.follow() => println!("{}", info?.status),
///     _ = tokio::signal::ctrl_c() => drop(first.cancel().await?),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Progress {
    pub(crate) output: Output,
    every: Duration,
    pub(crate) poll: Duration,
}

#[derive(Clone)]
pub(crate) enum Output {
    Bars(MultiProgress),
    Lines(Arc<Mutex<Box<dyn Write + Send>>>),
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

impl Progress {
    /// Bars on stderr where that is a terminal, else lines there.
    pub fn new() -> Self {
        if std::io::stderr().is_terminal() {
            Progress::bars(ProgressDrawTarget::stderr())
        } else {
            Progress::lines(std::io::stderr())
        }
    }

    /// Plain lines to a writer. What it refuses is not shown, and nothing else.
    pub fn lines(writer: impl Write + Send + 'static) -> Self {
        Progress::of(Output::Lines(Arc::new(Mutex::new(Box::new(writer)))))
    }

    fn bars(target: ProgressDrawTarget) -> Self {
        Progress::of(Output::Bars(MultiProgress::with_draw_target(target)))
    }

    fn of(output: Output) -> Self {
        Progress { output, every: Duration::from_secs(10), poll: Duration::from_millis(200) }
    }

    /// The time between two lines about the steps of a run; 10 seconds unless this is called.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// How often to look; 200 milliseconds unless this is called, at least 1.
    pub fn poll(mut self, poll: Duration) -> Self {
        // Without a pause, nothing else would run where it is followed.
        self.poll = poll.max(Duration::from_millis(1));
        self
    }

    /// Follow a run until it is final, or INTERRUPTED. A failed run is no error here.
    ///
    /// # Errors
    /// `Store`.
    pub async fn follow(&self, run: &JobRun) -> Result<Info> {
        let mut view = View::new(self, run.id());
        let mut pace = Pace::default();
        let mut newest = Newest::default();
        loop {
            let mut info = run.info().await?;
            let over = info.status.is_terminal() || info.status == Status::Interrupted;
            if over {
                run.telemetry_written().await;
                info = run.info().await?;
            }
            if over || newest.is_due() {
                newest.read(run).await?;
            }
            pace.see(&info, Instant::now());
            view.show(&info, &pace, &newest.text, over);
            if over {
                return Ok(info);
            }
            tokio::time::sleep(self.poll).await;
        }
    }

    /// Follow several runs at once until all are final, or INTERRUPTED; what became of them is in
    /// their order.
    ///
    /// # Errors
    /// `Store`.
    pub async fn follow_all<'a>(
        &self,
        runs: impl IntoIterator<Item = &'a JobRun>,
    ) -> Result<Vec<Info>> {
        let mut following = tokio::task::JoinSet::new();
        for (place, run) in runs.into_iter().enumerate() {
            let (progress, run) = (self.clone(), run.clone());
            following.spawn(async move { (place, progress.follow(&run).await) });
        }
        let mut infos = Vec::new();
        while let Some(followed) = following.join_next().await {
            let (place, info) =
                followed.map_err(|error| superduper::Error::internal(error.to_string()))?;
            infos.push((place, info?));
        }
        infos.sort_by_key(|(place, _)| *place);
        Ok(infos.into_iter().map(|(_, info)| info).collect())
    }
}

impl Progress {
    /// A line, where there are lines.
    pub(crate) fn write_line(&self, id: &str, text: &str) {
        if let Output::Lines(writer) = &self.output {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let written = writeln!(writer, "{id}: {text}").and_then(|()| writer.flush());
            written.ignored("a reader that is gone is no reason to stop");
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = if matches!(self.output, Output::Bars(_)) { "bars" } else { "lines" };
        write!(f, "Progress({output}, every {:?})", self.every)
    }
}

impl JobRun {
    /// Follow it on stderr: a bar where that is a terminal, else plain lines; see [`Progress`].
    ///
    /// # Errors
    /// `Store`.
    pub async fn follow(&self) -> Result<Info> {
        Progress::new().follow(self).await
    }
}

/// The newest metrics. They are read the more seldom the longer it takes.
#[derive(Default)]
struct Newest {
    text: String,
    next: Option<Instant>,
}

impl Newest {
    fn is_due(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    async fn read(&mut self, run: &JobRun) -> Result<()> {
        let begun = Instant::now();
        let newest = run.newest_metrics().await?;
        let shown = newest
            .iter()
            .take(METRICS)
            .map(|row| format!(", {} {}", one_line(&row.name, 40), brief(row.value)));
        self.text = shown.collect();
        self.next = Some(Instant::now() + Duration::from_millis(500).max(begun.elapsed() * 20));
        Ok(())
    }
}

/// What is shown of one run.
struct View<'a> {
    progress: &'a Progress,
    id: String,
    bar: Option<ProgressBar>,
    status: Option<(Status, bool)>,
    quarter: u64,
    line: Option<Instant>,
    over: bool,
}

impl<'a> View<'a> {
    fn new(progress: &'a Progress, id: &str) -> Self {
        let id = one_line(id, 60);
        let bar = match &progress.output {
            Output::Bars(bars) => Some(
                bars.add(
                    ProgressBar::new(0)
                        .with_style(style("{prefix} {wide_msg}"))
                        .with_prefix(id.clone()),
                ),
            ),
            Output::Lines(_) => None,
        };
        View { progress, id, bar, status: None, quarter: 0, line: None, over: false }
    }

    fn show(&mut self, info: &Info, pace: &Pace, metrics: &str, over: bool) {
        self.over = over;
        let state = (info.status, info.paused);
        let changed = self.status != Some(state);
        let name = if info.paused { "paused".to_owned() } else { info.status.to_string() };
        let end = || {
            let why = info
                .error
                .as_ref()
                .map(|error| format!(": {}", one_line(&error.to_string(), 300)))
                .unwrap_or_default();
            format!("{name}{}{metrics}{why}", pace.took())
        };
        if let Some(bar) = &self.bar {
            if let Some((done, total)) = info.progress.filter(|_| info.status == Status::Running) {
                if bar.length() != Some(total) {
                    bar.set_style(style("{prefix} [{bar:24}] {pos}/{len}{wide_msg}"));
                    bar.set_length(total);
                }
                bar.set_position(done);
                bar.set_message(format!("{}{metrics}", pace.rate_and_left()));
            } else if over {
                bar.set_style(style("{prefix} {wide_msg}"));
                bar.abandon_with_message(end());
            } else if changed {
                bar.set_message(name);
            }
        } else if over {
            self.write(&end());
        } else {
            if changed {
                self.write(&name);
            }
            self.steps(info, pace, metrics);
        }
        self.status = Some(state);
    }

    /// A line about the steps, where there is something to tell.
    fn steps(&mut self, info: &Info, pace: &Pace, metrics: &str) {
        let Some((done, total)) = info
            .progress
            .filter(|(done, total)| *total > 0 && *done > 0 && info.status == Status::Running)
        else {
            return;
        };
        // In 128 bits: a module may count by its own measure, up to the largest number.
        let share = |of: u64| {
            u64::try_from(u128::from(done) * u128::from(of) / u128::from(total)).unwrap_or(u64::MAX)
        };
        let quarter = share(4);
        // The beginning is no news; the end has a line of its own.
        let due =
            self.line.is_some_and(|line| line.elapsed() >= self.progress.every) && pace.moved();
        self.line.get_or_insert_with(Instant::now);
        if (quarter > self.quarter && quarter < 4) || due {
            let percent = share(100);
            self.write(&format!(
                "{done}/{total} steps ({percent} %){}{metrics}",
                pace.rate_and_left()
            ));
            self.line = Some(Instant::now());
        }
        self.quarter = quarter;
    }

    fn write(&self, text: &str) {
        self.progress.write_line(&self.id, text);
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.as_ref().filter(|_| !self.over) {
            bar.abandon();
        }
    }
}

pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
