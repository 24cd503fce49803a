//! Logs, progress and metrics of jobs.

use crate::state::State;
use superduper_core::{
    Error, Result,
    store::{
        JobId, LogFilter, LogLine, MIN_PROGRESS_MS, MetricFilter, MetricPoint, MetricRow,
        Telemetry, Timestamp,
    },
};

impl State {
    pub(crate) fn record_telemetry(&mut self, notes: Telemetry) -> Result<()> {
        for (index, log) in notes.logs.into_iter().enumerate() {
            if !self.jobs.contains(&log.job) {
                return Err(Error::not_found(format!("there is no job {}", log.job))
                    .context(format!("log line {index}")));
            }
            let next = self
                .logs
                .range((log.job, 0)..=(log.job, usize::MAX))
                .next_back()
                .map_or(0, |((_, last), _)| last + 1);
            self.logs.set((log.job, next), log);
        }
        for (job, done, total) in notes.progress {
            self.progress(job, (done, total), Timestamp::now());
        }
        for metric in notes.metrics.into_iter().filter(|metric| metric.value.is_finite()) {
            if !self.jobs.contains(&metric.job) {
                return Err(Error::not_found(format!("there is no job {}", metric.job))
                    .context(format!("metric `{}`", metric.name)));
            }
            self.metrics.set((metric.job, metric.name.clone(), metric.step), metric);
        }
        Ok(())
    }

    /// Keep what a job reported; an event tells it at most once in a second.
    fn progress(&mut self, id: JobId, (done, total): (u64, u64), now: Timestamp) {
        let Some(job) = self.jobs.get(&id) else { return };
        let run = job.row.run;
        let is_told = !job.row.state.is_terminal()
            && job
                .progressed_at
                .is_none_or(|at| now.0.saturating_sub(at.0) >= MIN_PROGRESS_MS || at > now);
        self.jobs.change(&id, |job| {
            job.row.progress = Some((done, total));
            if is_told {
                job.progressed_at = Some(now);
            }
        });
        if is_told {
            let detail = Some(format!("{done}/{total}"));
            self.append_event(now, Some(run), Some(id), "job.progressed", detail);
        }
    }

    pub(crate) fn filter_logs(&self, filter: &LogFilter) -> Vec<LogLine> {
        let from = usize::try_from(filter.after.max(0)).unwrap_or(usize::MAX);
        let later = self.logs.range((filter.job, from)..=(filter.job, usize::MAX));
        later
            .map(|((_, place), row)| (i64::try_from(place + 1).unwrap_or(i64::MAX), row))
            .filter(|(id, row)| filter.matches(*id, row))
            .take(filter.limit.unwrap_or(usize::MAX))
            .map(|(id, row)| LogLine::new(id, row.clone()))
            .collect()
    }

    pub(crate) fn filter_metrics(&self, filter: &MetricFilter) -> Vec<MetricPoint> {
        let mut points = Vec::new();
        for job in &filter.jobs {
            let of_job = self
                .metrics
                .range((*job, String::new(), 0)..)
                .take_while(|((of, _, _), _)| of == job)
                .map(|(_, row)| row)
                .filter(|row| (filter.first..=filter.last).contains(&row.step))
                .filter(|row| filter.names.as_ref().is_none_or(|names| names.contains(&row.name)));
            let mut series: Vec<MetricRow> = Vec::new();
            for row in of_job {
                if series.last().is_some_and(|last| last.name != row.name) {
                    let of_name = std::mem::take(&mut series);
                    points.extend(MetricPoint::of_series(of_name, filter.points));
                }
                series.push(row.clone());
            }
            points.extend(MetricPoint::of_series(series, filter.points));
        }
        points
    }
}
