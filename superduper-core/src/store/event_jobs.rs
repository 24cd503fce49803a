//! The jobs that an event is about.
//!
//! Many jobs that are added or signalled together make one event, so that a wide apply does not
//! write a second row for each of its jobs. The detail of such an event lists them.

use super::{
    batch::JobSignal,
    rows::{EventRow, JobId},
};
use std::fmt::Write;

/// An event `job.progressed` of a job comes at least so many milliseconds after the one before it.
pub const MIN_PROGRESS_MS: i64 = 1000;

impl JobSignal {
    /// The lowercase name.
    pub fn name(self) -> &'static str {
        match self {
            JobSignal::Cancel => "cancel",
            JobSignal::Stop => "stop",
            JobSignal::Pause => "pause",
            JobSignal::Continue => "continue",
        }
    }
}

impl EventRow {
    /// The jobs that the event is about, ascending; none for events of runs and components.
    ///
    /// `job.added` and `job.signalled` may be about several jobs.
    pub fn jobs(&self) -> Vec<JobId> {
        if self.job.is_some() || !matches!(&*self.kind, "job.added" | "job.signalled") {
            return self.job.into_iter().collect();
        }
        let detail = self.detail.as_deref().unwrap_or_default();
        let number = |text: &str| text.parse::<i64>().ok();
        let mut jobs = Vec::new();
        for part in detail.rsplit(' ').next().unwrap_or_default().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Some(first), Some(last)) = (number(first), number(last)) {
                jobs.extend((first..=last).map(JobId));
            }
        }
        jobs
    }
}

/// For stores: job and detail of an event about several jobs, which are given ascending. `what` is
/// the name of a signal. The detail is as `cancel 3-7,9`, or `cancel` if there is one job.
pub fn event_of_jobs(jobs: &[JobId], what: Option<&str>) -> (Option<JobId>, Option<String>) {
    if let [job] = jobs {
        return (Some(*job), what.map(str::to_owned));
    }
    let mut text = what.map_or_else(String::new, |what| format!("{what} "));
    let mut rest = jobs;
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(first.0..).take_while(|(job, id)| job.0 == *id).count();
        let comma = if rest.len() == jobs.len() { "" } else { "," };
        let written = match run {
            1 => write!(text, "{comma}{first}"),
            _ => write!(text, "{comma}{first}-{}", rest[run - 1]),
        };
        crate::unreturned::Unreturned::ignored(written, "writing to a string does not fail");
        rest = &rest[run..];
    }
    (None, Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Cursor, Timestamp};

    fn row(kind: &str, (job, detail): (Option<JobId>, Option<String>)) -> EventRow {
        EventRow {
            seq: 1,
            cursor: Cursor::default(),
            at: Timestamp(0),
            run: None,
            job,
            kind: kind.to_owned(),
            detail,
        }
    }

    #[test]
    fn an_event_of_several_jobs_lists_them() {
        let ids = |ids: &[i64]| ids.iter().copied().map(JobId).collect::<Vec<_>>();
        for (jobs, text) in [
            (vec![3, 4, 5, 9], Some("3-5,9")),
            (vec![1, 3], Some("1,3")),
            (vec![7, 8], Some("7-8")),
            (vec![4], None),
        ] {
            let jobs = ids(&jobs);
            let added = event_of_jobs(&jobs, None);
            assert_eq!(added.1.as_deref(), text);
            assert_eq!(row("job.added", added).jobs(), jobs);
            let asked = event_of_jobs(&jobs, Some("cancel"));
            assert!(asked.1.as_deref().is_some_and(|text| text.starts_with("cancel")));
            assert_eq!(row("job.signalled", asked).jobs(), jobs);
        }
        let other = row("run.started", (None, Some("acme.Model/3-5".to_owned())));
        assert!(other.jobs().is_empty());
    }
}
