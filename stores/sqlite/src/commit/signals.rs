//! What is asked of jobs.

use super::{Commit, Of};
use crate::codec::{asked, number_list};
use std::collections::BTreeMap;
use superduper_core::{
    Result,
    store::{JobId, JobSignal, Timestamp, event_of_jobs},
};

impl Commit<'_, '_> {
    /// Signal jobs that are not final. An event tells those that were not signalled so before.
    pub(super) fn signal(&mut self, jobs: &[JobId], signal: JobSignal) -> Result<()> {
        let (bit, is_on) = match signal {
            JobSignal::Cancel => (asked::CANCEL, true),
            JobSignal::Stop => (asked::STOP, true),
            JobSignal::Pause => (asked::PAUSE, true),
            JobSignal::Continue => (asked::PAUSE, false),
        };
        let list = number_list(jobs.iter().map(|job| job.0));
        let of = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let text = "SELECT run, id FROM job WHERE id IN (SELECT value FROM json_each(?1)) AND state < 3 \
            AND (cancel_requested & ?2 <> 0) <> ?3 ORDER BY id";
        let values = (&list, bit, is_on);
        let changed = self.sql.query("look what is asked of jobs", text, values, of)?;
        let text = "UPDATE job SET cancel_requested = iif(?3, cancel_requested | ?2, cancel_requested & ~?2) \
            WHERE id IN (SELECT value FROM json_each(?1)) AND state < 3 RETURNING run, id";
        let reached = self.sql.query("ask something of jobs", text, values, of)?;
        if reached.is_empty() {
            self.ignore();
        }
        for (run, job) in reached {
            self.silent_change(run, job);
        }
        let mut by_run: BTreeMap<i64, Vec<JobId>> = BTreeMap::new();
        for (run, job) in changed {
            by_run.entry(run).or_default().push(JobId(job));
        }
        for (run, jobs) in by_run {
            self.event_of(Timestamp::now(), run, "job.signalled", &jobs, Some(signal.name()));
        }
        Ok(())
    }

    /// An event about jobs of a run.
    pub(super) fn event_of(
        &mut self,
        at: Timestamp,
        run: i64,
        kind: &'static str,
        jobs: &[JobId],
        what: Option<&str>,
    ) {
        let (job, detail) = event_of_jobs(jobs, what);
        let of = job.map_or(Of::Run(run), |job| Of::Job { run, job: job.0 });
        self.event(at, of, kind, detail.map(Into::into));
    }
}
