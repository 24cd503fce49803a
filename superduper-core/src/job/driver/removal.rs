//! What only removals do: they cancel the jobs that are still at work on what goes, and wait for them.
//!
//! Invariant: no cleanup starts, and nothing is deleted, while a job of what goes is unfinished. Which jobs those were when
//! the removal was recorded is part of its run, so that any process that drives the run waits
//! for them.

use super::*;
use crate::store::{LogLevel, LogRow};

impl Driver {
    /// What the run removes; `None` for a run that removes nothing.
    pub(super) fn removal(&self) -> Option<Removal> {
        if self.run.purpose != RunPurpose::Remove {
            return None;
        }
        serde_json::from_value(self.run.data.clone()).ok()
    }

    /// Whether the run waits for jobs of other runs that work on what goes; those of its own wait for them too.
    pub(super) fn waits_for_live_jobs(&self) -> bool {
        self.externals > 0 && self.run.purpose == RunPurpose::Remove && self.run.state == RunState::Running
    }

    /// Cancel the unfinished jobs of what goes, those included that were spawned since the removal was recorded, and let the run
    /// wait for them.
    pub(super) async fn stop_what_goes(&mut self) -> Result<()> {
        let Some(removal) = self.removal().filter(|removal| !removal.live.is_empty()) else { return Ok(()) };
        if self.run.state != RunState::Running {
            return Ok(());
        }
        let recorded = self.db.metadata.jobs(JobFilter { ids: Some(removal.live.clone()), ..JobFilter::default() }).await?;
        let runs: BTreeSet<RunId> = recorded.iter().map(|job| job.run).collect();
        for run in runs {
            let states = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
            let open = self.db.metadata.jobs(JobFilter { run: Some(run), states, ..JobFilter::default() }).await?;
            let goes = |job: &JobRow| {
                let version = job.target.version.map_or(0, |at| at.version);
                let path = job.target.path();
                removal.versions.iter().any(|(address, versions)| versions.contains(&version) && address.path() == path)
            };
            let jobs: Vec<JobId> = open.iter().filter(|job| removal.live.contains(&job.id) || goes(job)).map(|job| job.id).collect();
            if jobs.is_empty() {
                continue;
            }
            let unmarked: Vec<JobId> = open.iter().filter(|job| !job.cancel_requested).map(|job| job.id).collect();
            let unmarked: Vec<JobId> = jobs.iter().copied().filter(|job| unmarked.contains(job)).collect();
            if !unmarked.is_empty() {
                // On record, so that other processes see it too.
                let ops = vec![Op::RequestCancel { jobs: unmarked }];
                self.db.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full).await?;
            }
            jobs.iter().for_each(|job| self.wait_for_end_of(*job));
            // A run without a driver has to be driven to its end. Boxed: that driver may wait for others in turn.
            let attach: BoxFuture<'_, Result<RunHandle>> = Box::pin(self.db.attach(run));
            attach.await?.tell(Command::Cancel(Some(jobs)));
        }
        Ok(())
    }

    /// Let the jobs of this run that have not started wait for the end of a job of another run, whatever the end is.
    fn wait_for_end_of(&mut self, job: JobId) {
        let known = |slot: &Slot| matches!(slot, Slot::External(external) if external.id == job && external.settled.is_none());
        if self.slots.iter().any(known) {
            return;
        }
        let index = self.dag.add(&[]);
        self.dag.take(index);
        self.slots.push(Slot::External(External { id: job, must_succeed: false, result: None, settled: None }));
        self.externals += 1;
        for own in 0..index {
            let waits = |node: &Node| node.hold == Hold::None && node.row.state == JobState::Queued;
            if matches!(&self.slots[own], Slot::Job(node) if waits(node)) {
                self.dag.need(own, index);
            }
        }
    }

    /// The store refuses to delete what was removed: something got hold of it although it was marked, as programs can that do
    /// not know the mark. The run ends as failed; it would never end else, and be tried again at every resume.
    ///
    /// Gives whether it was such an error.
    pub(super) fn end_without_deletion(&mut self, error: &Error) -> bool {
        let is_refusal = matches!(error.kind(), crate::ErrorKind::InUse | crate::ErrorKind::Conflict);
        if !is_refusal || !self.ops.iter().any(|op| matches!(op, Op::Delete { .. })) {
            return false;
        }
        self.ops.retain(|op| !matches!(op, Op::Delete { .. }));
        for op in &mut self.ops {
            if let Op::EndRun { state, .. } = op {
                *state = RunState::Failed;
            }
        }
        self.run.state = RunState::Failed;
        let last = self.slots.iter().rev().find_map(|slot| if let Slot::Job(node) = slot { Some(&node.row) } else { None });
        if let Some(row) = last {
            let (job, attempt, at) = (row.id, row.attempt, Timestamp::now());
            let message = format!("nothing was deleted: {error}");
            self.db.notes.log(LogRow { job, attempt, at, level: LogLevel::Error, message });
        }
        true
    }
}
