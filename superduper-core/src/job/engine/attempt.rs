//! Attempts: their tasks, and what they come back with.

use super::shell::{Message, Shell};
use crate::{
    component::policy::Placement,
    db::DbInner,
    error::{FailureKind, JobFailure},
    job::{
        CancelToken, JobSpec, events,
        executor::{Attempt, AttemptEnd, End},
        record::{MOST_FAILURES, PAUSE},
        run_job::AttemptResult,
        scheduler::{Input, Report},
    },
    store::{Finish, Finished, JobId, RunId, Timestamp},
    unreturned::{Site, Unreturned},
};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc};
use tracing::Instrument;

impl Shell {
    pub(super) fn start_attempt(
        &mut self,
        db: &Arc<DbInner>,
        run: RunId,
        spec: JobSpec,
        cancel: Arc<CancelToken>,
    ) {
        let Some(book) = self.books.get(&run) else { return };
        let (instances, unshown) = (book.instances.clone(), book.unshown.clone());
        let executor = Placement::of_text(spec.row.executor.as_deref()).executor;
        let executor = db.executor(executor.as_deref().unwrap_or(db.options.executor));
        let (job, number) = (spec.row.id, spec.attempt);
        let db = db.clone();
        self.answer(async move {
            if !unshown.is_empty() {
                let mut failures = 0;
                while let Err(error) = unshown.show(&db, &instances).await {
                    failures += 1;
                    Site::RUN
                        .run(run)
                        .job(job)
                        .attempt(number)
                        .warn(&error, "reading the outputs of other processes");
                    if failures > MOST_FAILURES || !error.is_retryable() {
                        let failure = JobFailure::of(
                            &error.context("reading the outputs of other processes"),
                        );
                        return Message::Ended {
                            run,
                            job,
                            attempt: number,
                            ended: AttemptEnd::lost(failure),
                        };
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            let attempt = Attempt { db, spec, instances, cancel };
            let ended = match executor {
                Ok(executor) => {
                    // Without an answer the job would hold its place for ever.
                    let execution = async move { executor.execute(attempt).await }
                        .instrument(events::started(run, job, number));
                    let ended = AssertUnwindSafe(execution).catch_unwind().await;
                    ended.unwrap_or_else(|_| {
                        AttemptEnd::lost(JobFailure::new(
                            FailureKind::Panic,
                            "the executor panicked",
                        ))
                    })
                }
                Err(error) => AttemptEnd::lost(JobFailure::of(
                    &error.context(format_args!("run {run}")).fatal(),
                )),
            };
            Message::Ended { run, job, attempt: number, ended }
        });
    }

    pub(super) fn ended(
        &mut self,
        db: &Arc<DbInner>,
        run: RunId,
        job: JobId,
        attempt: u32,
        ended: AttemptEnd,
    ) {
        let mut late = None;
        let elsewhere = matches!(ended.0, End::Unable);
        let report = match ended.0 {
            End::Unable => Report::Unable,
            End::Recorded => Report::Recorded,
            End::Lost(failure) => {
                let at = Timestamp::now();
                let started_at =
                    self.books.get(&run).and_then(|book| book.started_at(job)).unwrap_or(at);
                Report::Finish(Box::new(Finish::plain(
                    job,
                    attempt,
                    self.owner,
                    started_at,
                    at,
                    Finished::Failed(failure),
                )))
            }
            // Another program may have what this one lacks.
            End::Here(draft) if draft.lacks => Report::Unable,
            End::Here(draft) => {
                let AttemptResult { mut finish, blobs, lingering, progress, .. } = *draft;
                late = lingering;
                if let Some(book) = self.books.get_mut(&run) {
                    book.came_back(job, attempt, blobs, progress);
                }
                // Whether there is another try, the scheduler says.
                if let Finished::Retry(failure, _) = finish.end {
                    finish.end = Finished::Failed(failure);
                }
                Report::Finish(Box::new(finish))
            }
        };
        if matches!(report, Report::Unable)
            && let Some((target, executor)) = self.books.get(&run).and_then(|book| book.place(job))
        {
            // What the program of an executor lacks, this one may have.
            db.program.cannot_read(target, executor.filter(|_| elsewhere));
        }
        events::ended(run, job, attempt, &report);
        let is_late = late.is_some();
        if let Some(returned) = late {
            self.answer(async move {
                returned.await.ignored("an error means that the thread is gone, too");
                Message::Input(Input::Returned { run, job })
            });
        }
        self.on(db, Input::Ended { run, job, attempt, report, late: is_late });
    }
}
