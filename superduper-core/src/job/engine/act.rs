//! What the scheduler wants done.

use super::shell::{Message, Shell};
use crate::{
    db::DbInner,
    error::{Error, ErrorKind, FailureKind, JobFailure, Result},
    job::{
        Outcome, events,
        record::{MOST_FAILURES, PAUSE},
        scheduler::{Effect, Input, Report},
    },
    store::{
        Batch, ChangeCursor, Durability, Finish, Finished, JobFilter, JobId, JobRow, Op, RunId,
        RunPurpose, RunState, Timestamp,
    },
    unreturned::{Site, Unreturned},
};
use futures_util::FutureExt;
use std::sync::Arc;

impl Shell {
    pub(super) fn act(&mut self, db: &Arc<DbInner>, effect: Effect) {
        match effect {
            Effect::Commit { run, ops } => self.commit(db, run, ops),
            Effect::Read { run, after, others } => self.read(db, run, after, others),
            Effect::Look { run, jobs } => self.look(db, run, jobs),
            Effect::Start { run, job, attempt, tries, lost, signals } => {
                if self.has_lapsed(db) {
                    // The job may not be ours any more.
                    return self.refuse(run, job, attempt);
                }
                let owner = self.owner;
                let Some(book) = self.books.get_mut(&run) else {
                    return self.refuse(run, job, attempt);
                };
                match book.start(owner, job, attempt, (tries, lost), signals) {
                    Some((spec, cancel)) => self.start_attempt(db, run, spec, cancel),
                    None => self.refuse(run, job, attempt),
                }
            }
            Effect::Save { run, job, attempt } => self.save(db, run, job, attempt),
            Effect::ReturnPlace { run, job, attempt } => self.return_place(db, run, job, attempt),
            Effect::Timer(time) => self.timer = Some(time),
            Effect::Done { run, state, at } => self.done(db, run, state, at),
            Effect::Stopped { run, failure, ops } => self.stopped(db, run, &failure, ops),
            Effect::Fenced { run, job, attempt } => {
                db.note_fenced(job, attempt);
                if let Some(book) = self.books.get_mut(&run) {
                    // A commit that was told to have failed may have been written all the same.
                    book.ended_elsewhere(job);
                }
            }
            Effect::Signal { run, .. }
            | Effect::Abandon { run, .. }
            | Effect::Stop { run, .. }
            | Effect::Recorded { run, .. }
            | Effect::Settled { run, .. }
            | Effect::EndedElsewhere { run, .. } => self.note(run, effect),
            Effect::Took(loaded) => {
                if let Some(book) = self.books.get_mut(&loaded.changes.run.id) {
                    book.take(*loaded);
                }
            }
        }
    }

    /// What only changes what is kept of a run.
    fn note(&mut self, run: RunId, effect: Effect) {
        let Some(book) = self.books.get_mut(&run) else { return };
        match effect {
            Effect::Signal { job, attempt, signals, .. } => book.signal(job, attempt, signals),
            Effect::Abandon { job, attempt, .. } => book.abandon(job, attempt),
            Effect::Stop { job, attempt, .. } => book.stop(job, attempt),
            Effect::Recorded { end, spawned, .. } => book.recorded(*end, &spawned),
            Effect::Settled { job, state, failure, at, .. } => {
                book.settled(job, state, failure, at)
            }
            Effect::EndedElsewhere { job, .. } => book.ended_elsewhere(job),
            _ => {}
        }
    }

    /// Give an attempt back that was not started.
    fn refuse(&mut self, run: RunId, job: JobId, attempt: u32) {
        let at = Timestamp::now();
        let finish = Finish::plain(job, attempt, self.owner, at, at, Finished::Released);
        self.own.push(Input::Ended {
            run,
            job,
            attempt,
            report: Report::Finish(Box::new(finish)),
            late: false,
        });
    }

    fn commit(&mut self, db: &Arc<DbInner>, run: RunId, ops: Vec<Op>) {
        let deletes = ops.iter().any(|op| matches!(op, Op::Delete { .. }));
        let (count, job) = (ops.len(), ops.iter().find_map(job_of));
        let db = db.clone();
        self.answer(async move {
            let answer =
                caught(db.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full))
                    .await;
            match &answer {
                Ok(committed) => {
                    events::written(run, count, committed);
                    db.committed();
                }
                // The commit is written again.
                Err(error) if error.is_retryable() => {
                    Site::RUN.run(run).job(job).warn(error, "writing what happened")
                }
                Err(_) => {}
            }
            Message::Committed { run, deletes, answer }
        });
    }

    fn read(&mut self, db: &Arc<DbInner>, run: RunId, after: ChangeCursor, others: Vec<JobId>) {
        let removal = self.books.get(&run).and_then(|book| book.removal.clone());
        let db = db.clone();
        self.answer(async move {
            let answer =
                caught(super::load::follow(&db, run, after, others, removal.as_deref())).await;
            let answer =
                answer.inspect_err(|error| Site::RUN.run(run).warn(error, "reading a run"));
            Message::Read { run, answer }
        });
    }

    fn look(&mut self, db: &Arc<DbInner>, run: RunId, jobs: Vec<JobId>) {
        let (db, owner) = (db.clone(), self.owner);
        self.answer(async move {
            let look = async {
                db.reclaim_dead().await?;
                let rows: Vec<JobRow> =
                    db.metadata.jobs(JobFilter { ids: Some(jobs), ..JobFilter::default() }).await?;
                Ok((rows, super::load::other_workers(&db, Some(owner)).await?))
            };
            let answer = caught(look).await.inspect_err(|error| {
                Site::RUN.run(run).warn(error, "reading jobs that others may run")
            });
            Message::Looked { run, answer }
        });
    }

    fn save(&mut self, db: &Arc<DbInner>, run: RunId, job: JobId, attempt: u32) {
        let Some(book) = self.books.get_mut(&run) else { return };
        let mut blobs = book.take_blobs(job, attempt);
        let db = db.clone();
        self.answer(async move {
            let answer = caught(blobs.save_again(&db)).await;
            Message::Saved { run, job, attempt, blobs, answer }
        });
    }

    /// Return the place of a late thread. If the store keeps failing, the place is free when this
    /// process is gone.
    fn return_place(&self, db: &Arc<DbInner>, run: RunId, job: JobId, attempt: u32) {
        let (db, owner) = (db.clone(), self.owner);
        self.answer(async move {
            for _ in 0..MOST_FAILURES {
                let ops = vec![Op::ReturnPlace { job, attempt, owner }];
                let written =
                    caught(db.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full))
                        .await;
                let site = Site::RUN.run(run).job(job).attempt(attempt);
                if written.or_warn(site, "returning a place of a pool").is_some() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            // Other jobs of this process may wait for the place.
            Message::Input(Input::Refresh { run })
        });
    }

    /// Work in a task of its own, and tell what came of it.
    pub(super) fn answer(&self, work: impl Future<Output = Message> + Send + 'static) {
        // Nobody who could be told is left where this fails.
        let Some(messages) = self.messages.upgrade() else { return };
        tokio::spawn(async move {
            let message = work.await;
            messages.send(message).ignored("the engine is gone, and its runs are on record");
        });
    }

    /// A run is over: what a removal leaves to do, and the word to who waits.
    fn done(&mut self, db: &Arc<DbInner>, run: RunId, state: RunState, at: Option<Timestamp>) {
        let Some(mut book) = self.books.remove(&run) else { return };
        let outcome = book.outcome(db, state, at);
        let db = db.clone();
        tokio::spawn(async move {
            if outcome.run.purpose == RunPurpose::Remove && state == RunState::Succeeded {
                // The component is gone. What cannot be swept now is on record, and left for `gc`.
                db.sweep_after_removal(&outcome.run)
                    .await
                    .or_warn(Site::SWEEP.run(run), "sweeping the blobs of a removal");
            }
            tell(&db, run, book, Ok(outcome)).await;
        });
    }

    /// This process lets a run go: what it has of it is given back, where that can be written.
    fn stopped(&mut self, db: &Arc<DbInner>, run: RunId, failure: &JobFailure, ops: Vec<Op>) {
        let Some(mut book) = self.books.remove(&run) else { return };
        let error = match book.trouble.last.take() {
            _ if failure.kind == FailureKind::Cancelled => closed(run),
            Some(error) => {
                error.context(format_args!("run {run} stopped; `db.resume()` continues it"))
            }
            None => failure
                .to_error(ErrorKind::Store, "the store refused what this process had to write")
                .context(format_args!("run {run} stopped; `db.resume()` continues it")),
        };
        Site::RUN.run(run).warn(&error, "leading a run");
        let db = db.clone();
        tokio::spawn(async move {
            if !ops.is_empty() {
                // A failure here only means that the jobs are reclaimed when this process is gone,
                // or goes on with the run.
                let given_back =
                    db.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full).await;
                given_back
                    .or_warn(Site::RUN.run(run), "giving back the jobs of a run that stopped");
            }
            tell(&db, run, book, Err(error)).await;
        });
    }
}

/// This process was closed before a run had ended.
pub(super) fn closed(run: RunId) -> Error {
    let text = format!(
        "run {run} is unfinished: this process closed the database; its jobs are on record"
    );
    Error::new(ErrorKind::Cancelled, text)
        .with_hint("another process goes on with it by `db.work()` or `db.resume()`")
}

async fn tell(db: &Arc<DbInner>, run: RunId, book: super::book::Book, outcome: Result<Outcome>) {
    db.flush_notes().await;
    db.engine.forget(run);
    book.told.send_replace(Some(Arc::new(outcome)));
}

/// The job that an operation is about.
fn job_of(op: &Op) -> Option<JobId> {
    match op {
        Op::Finish(finish) => Some(finish.job),
        Op::Start { job, .. } | Op::Settle { job, .. } => Some(*job),
        Op::Claim { jobs, .. } => jobs.first().copied(),
        _ => None,
    }
}

/// A store's panic is an error of the store.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let result = std::panic::AssertUnwindSafe(work).catch_unwind().await;
    result.unwrap_or_else(|_| Err(Error::internal("a call of the store panicked")))
}
