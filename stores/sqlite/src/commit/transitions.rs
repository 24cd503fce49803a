//! The ends of attempts and jobs.
//!
//! Invariant: a statement that changes a job's state names the owner and attempt, or that nobody
//! has taken the job, in its condition; so a late attempt changes nothing, and a final job is never
//! touched again. A success whose blobs a sweep takes, or may have taken, changes nothing either.

use super::{Commit, Of, blobs::Reference, jobs::attempt_text};
use crate::codec::{Code, asked, entering, failure_text, json_text, number, number_list};
use superduper_core::{
    Error, FailureKind, JobFailure, Result,
    store::{
        Block, BlockedUntil, Completion, Finish, Finished, JobId, JobState, Timestamp, WorkerId,
    },
};

/// With so many lost attempts a job is given up.
const MAX_LOST: i64 = 3;

/// What an end writes into the job's row.
struct End<'b> {
    state: JobState,
    result: Option<String>,
    failure: Option<&'b JobFailure>,
    blocked: Option<&'b str>,
    until: Option<Timestamp>,
    not_before: Option<Timestamp>,
    /// Whether it is blocked only as long as the wish to pause is on record; else it is queued.
    if_paused: bool,
    /// Whether the attempt counts as one that ran; else it was given back.
    ran: bool,
    is_try: bool,
}

/// The row of a job whose end was written.
struct Ended {
    run: i64,
    component: i64,
    version: u32,
    /// Whether the attempt was on record as started.
    was_started: bool,
    /// Whether the job is blocked now.
    is_blocked: bool,
    is_cancelled: bool,
    /// Whether its executor names a pool.
    may_have_place: bool,
}

impl<'b> End<'b> {
    fn of(end: &'b Finished) -> Self {
        let base = End {
            state: JobState::Queued,
            result: None,
            failure: None,
            blocked: None,
            until: None,
            not_before: None,
            if_paused: false,
            ran: true,
            is_try: false,
        };
        match end {
            Finished::Succeeded(result) => {
                End { state: JobState::Succeeded, result: Some(json_text(result)), ..base }
            }
            Finished::Failed(failure) => {
                End { state: JobState::Failed, failure: Some(failure), is_try: true, ..base }
            }
            Finished::Cancelled(failure) => {
                End { state: JobState::Cancelled, failure: Some(failure), ..base }
            }
            Finished::Retry(_, not_before) => {
                End { not_before: Some(*not_before), is_try: true, ..base }
            }
            Finished::Released => End { ran: false, ..base },
            Finished::Blocked(block) => End {
                state: JobState::Blocked,
                blocked: Some(&block.reason),
                until: block.until,
                ran: false,
                ..base
            },
            Finished::Paused(reason) => End {
                state: JobState::Blocked,
                blocked: Some(reason),
                if_paused: true,
                ran: false,
                ..base
            },
        }
    }
}

impl<'b> Commit<'_, 'b> {
    pub(super) fn finish(&mut self, finish: &'b Finish) -> Result<()> {
        if matches!(finish.end, Finished::Succeeded(_)) && self.names_swept(finish)? {
            self.done.swept.push(finish.job);
            self.invalidate();
            return Ok(());
        }
        let end = match &finish.end {
            // What the job waits for may have happened already.
            Finished::Blocked(block) if self.has_moved(block) => End::of(&Finished::Released),
            end => End::of(end),
        };
        let Some(row) = self.record_end(finish, &end)? else {
            self.done.fenced.push(finish.job);
            self.invalidate();
            return Ok(());
        };
        if row.may_have_place && !finish.late {
            self.return_place(finish.job, finish.attempt, finish.owner)?;
        }
        if end.ran && !row.was_started {
            let of = Of::Job { run: row.run, job: finish.job.0 };
            self.event(finish.started_at, of, "job.started", attempt_text(finish.attempt));
        }
        self.follow_end(finish, end.state, &row)
    }

    /// Write an end into the job's row; `None` if the attempt is not the current one of its owner.
    fn record_end(&self, finish: &Finish, end: &End<'_>) -> Result<Option<Ended>> {
        let is_final = end.state.is_terminal();
        // OR FAIL, as where jobs are taken: without it SQLite copies the pages that the statement
        // changes, to undo it alone; here an error takes back the whole request.
        let text = "UPDATE OR FAIL job SET state = iif(?13 AND cancel_requested & 4 = 0, 0, ?4), succeeded = ?4 = 3, result = ?5, \
                failure = ?6, owner = NULL, started_at = coalesce(?7, started_at), ended_at = ?8, \
                not_before = coalesce(?9, not_before), blocked = iif(?13 AND cancel_requested & 4 = 0, NULL, ?10), \
                blocked_since = iif(?4 = 1 AND (NOT ?13 OR cancel_requested & 4), ?15, NULL), blocked_until = iif(?4 = 1, ?14, NULL), \
                tries = tries + ?11, phase = phase + ?12, \
                cancel_requested = iif(?4 = 1, cancel_requested & 3, cancel_requested) \
            WHERE id = ?1 AND owner = ?2 AND attempt = ?3 RETURNING run, component, version, phase & 1, state = 1, \
                cancel_requested & 1, executor LIKE '{%\"pool\":%'";
        let values = rusqlite::params![
            finish.job.0,
            finish.owner.0,
            finish.attempt,
            end.state.code(),
            end.result,
            end.failure.map(failure_text),
            end.ran.then_some(finish.started_at.0),
            is_final.then_some(finish.at.0),
            end.not_before.map(|at| at.0),
            end.blocked,
            end.is_try,
            if is_final { 2 } else { 4 },
            end.if_paused,
            end.until.map(|at| at.0),
            finish.at.0,
        ];
        self.sql.query_first("record the end of a job", text, values, |row| {
            Ok(Ended {
                run: row.get(0)?,
                component: row.get(1)?,
                version: number(row, 2)?,
                was_started: row.get(3)?,
                is_blocked: row.get(4)?,
                is_cancelled: row.get(5)?,
                may_have_place: row.get::<_, Option<bool>>(6)?.unwrap_or(false),
            })
        })
    }

    /// Write what comes with an end: its event, a failed attempt, what a success keeps.
    fn follow_end(&mut self, finish: &'b Finish, state: JobState, row: &Ended) -> Result<()> {
        let of = Of::Job { run: row.run, job: finish.job.0 };
        match &finish.end {
            Finished::Succeeded(_) => {
                let outputs: Vec<&str> =
                    finish.outputs.iter().map(|output| &*output.name).collect();
                self.event(
                    finish.at,
                    of,
                    "job.succeeded",
                    (!outputs.is_empty()).then(|| outputs.join(", ").into()),
                );
                self.keep_success(finish, row)?;
            }
            Finished::Failed(failure) | Finished::Cancelled(failure) => {
                self.event(finish.at, of, entering(state), Some((&*failure.message).into()));
            }
            Finished::Retry(failure, _) => {
                let insert = "INSERT INTO attempt (job, number, started_at, ended_at, failure) VALUES (?1, ?2, ?3, ?4, ?5)";
                let values = (
                    finish.job.0,
                    finish.attempt,
                    finish.started_at.0,
                    finish.at.0,
                    failure_text(failure),
                );
                self.sql.execute("record an attempt", insert, values)?;
                self.event(finish.at, of, "job.retrying", Some((&*failure.message).into()));
            }
            Finished::Blocked(Block { reason, .. }) | Finished::Paused(reason)
                if row.is_blocked =>
            {
                self.event(finish.at, of, "job.blocked", Some((&**reason).into()));
            }
            Finished::Released | Finished::Blocked(_) | Finished::Paused(_) => {
                if row.was_started {
                    self.event(finish.at, of, "job.released", None);
                } else {
                    self.silent_change(row.run, finish.job.0);
                }
            }
        }
        Ok(())
    }

    /// Whether a component that an attempt read before it decided to wait has changed since.
    fn has_moved(&self, block: &Block) -> bool {
        block.has_moved(|address| {
            let live = self.known.live(address)?;
            Some((live.newest, live.revisions.get(&live.newest).copied().unwrap_or(0)))
        })
    }

    /// The time of a blocked job has come.
    pub(super) fn release(
        &mut self,
        job: JobId,
        blocked: BlockedUntil,
        at: Timestamp,
    ) -> Result<()> {
        let text = "UPDATE job SET state = 0, blocked = NULL, blocked_since = NULL, blocked_until = NULL \
            WHERE id = ?1 AND state = 1 AND blocked_since = ?2 AND blocked_until = ?3 RETURNING run";
        let values = (job.0, blocked.since.0, blocked.until.0);
        match self.sql.query_first("release a job", text, values, |row| row.get(0))? {
            Some(run) => self.event(at, Of::Job { run, job: job.0 }, "job.unblocked", None),
            None => self.ignore(),
        }
        Ok(())
    }

    /// A blocked job ends without an attempt.
    pub(super) fn complete(&mut self, end: &'b Completion) -> Result<()> {
        let (state, result, failure) = match &end.end {
            Ok(value) => (JobState::Succeeded, Some(json_text(value)), None),
            Err(failure) => (JobState::Failed, None, Some(failure)),
        };
        let text = "UPDATE job SET state = ?2, succeeded = ?2 = 3, result = ?3, failure = ?4, ended_at = ?5, blocked = NULL, \
                blocked_since = NULL, blocked_until = NULL \
            WHERE id = ?1 AND owner IS NULL AND state = 1 RETURNING run, component, version";
        let values = (end.job.0, state.code(), result, failure.map(failure_text), end.at.0);
        let row = self.sql.query_first("complete a job", text, values, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, number(row, 2)?))
        })?;
        let Some((run, component, version)) = row else {
            self.invalidate();
            return Ok(());
        };
        let owner = Reference::result(component, version, end.job.0);
        let references: Vec<_> = end.blobs.iter().map(|blob| owner.of_job(blob)).collect();
        self.refer(&references).map_err(|error| error.context(format!("job {}", end.job)))?;
        let detail = failure.map(|failure| (&*failure.message).into());
        self.event(end.at, Of::Job { run, job: end.job.0 }, entering(state), detail);
        Ok(())
    }

    /// What comes with success: outputs, references of the result, spawned jobs, messages.
    fn keep_success(&mut self, finish: &'b Finish, row: &Ended) -> Result<()> {
        let Ended { run, component, version, is_cancelled, .. } = *row;
        let job = finish.job;
        self.set_outputs(component, version, &finish.outputs)
            .map_err(|error| error.context(format!("job {job}")))?;
        let owner = Reference::result(component, version, job.0);
        let references: Vec<_> = finish.blobs.iter().map(|blob| owner.of_job(blob)).collect();
        self.refer(&references).map_err(|error| error.context(format!("job {job}")))?;
        if !finish.spawned.is_empty() {
            // It did not look whether it is cancelled: what it spawned must not go on in its place.
            let ids = self.insert_jobs(
                run,
                &finish.spawned,
                if is_cancelled { asked::CANCEL } else { 0 },
            )?;
            let mut needs = Vec::with_capacity(finish.spawned_before.len());
            for (waiting, index) in &finish.spawned_before {
                let missing = || {
                    Error::invalid(format!(
                        "job {waiting} waits for number {index} of {} spawned jobs",
                        ids.len()
                    ))
                };
                // What waits for the spawning job goes on without a tolerated one.
                let any_end = finish.spawned.get(*index).is_some_and(|job| job.tolerated);
                needs.push((waiting.0, ids.get(*index).ok_or_else(missing)?.0, None, any_end));
                self.silent_change(run, waiting.0);
            }
            self.depend(&needs)?;
            self.done.spawned.push((job, ids));
        }
        let head = ("INSERT INTO message (job, topic, payload)", 3, "");
        self.sql.insert("keep messages", head, &finish.messages, |row, (topic, payload)| {
            row.bind(job.0)?;
            row.bind(topic)?;
            row.bind(json_text(payload))
        })
    }

    pub(super) fn settle(
        &mut self,
        job: JobId,
        state: JobState,
        failure: &'b JobFailure,
        at: Timestamp,
    ) -> Result<()> {
        if !matches!(state, JobState::Skipped | JobState::Cancelled | JobState::Failed) {
            return Err(Error::invalid(format!("job {job} cannot be settled as {state}")));
        }
        let text = "UPDATE job SET state = ?2, failure = ?3, ended_at = ?4, blocked = NULL, blocked_since = NULL, blocked_until = NULL \
            WHERE id = ?1 AND owner IS NULL AND state < 3 RETURNING run";
        let values = (job.0, state.code(), failure_text(failure), at.0);
        if let Some(run) = self.sql.query_first("settle a job", text, values, |row| row.get(0))? {
            self.event(
                at,
                Of::Job { run, job: job.0 },
                entering(state),
                Some((&*failure.message).into()),
            );
            return Ok(());
        }
        let text = "SELECT 1 FROM job WHERE id = ?1 AND state = ?2";
        if self.sql.query_first("settle a job", text, (job.0, state.code()), |_| Ok(()))?.is_none()
        {
            self.invalidate();
        }
        Ok(())
    }

    pub(super) fn block(
        &mut self,
        job: JobId,
        reason: Option<&'b str>,
        at: Timestamp,
    ) -> Result<()> {
        let (text, kind) = match reason {
            Some(_) => {
                let text = "UPDATE job SET blocked = ?2 WHERE id = ?1 AND state = 1 RETURNING run";
                if let Some(run) =
                    self.sql.query_first("block a job", text, (job.0, reason), |row| row.get(0))?
                {
                    self.silent_change(run, job.0);
                    return Ok(());
                }
                (
                    "UPDATE job SET state = 1, blocked = ?2, blocked_since = ?3 WHERE id = ?1 AND owner IS NULL AND state = 0 RETURNING run",
                    "job.blocked",
                )
            }
            None => (
                "UPDATE job SET state = 0, blocked = ?2, blocked_since = NULL, blocked_until = NULL WHERE id = ?1 AND state = 1 RETURNING run",
                "job.unblocked",
            ),
        };
        let values: [&dyn rusqlite::ToSql; 3] = [&job.0, &reason, &at.0];
        let values = if reason.is_some() { &values[..] } else { &values[..2] };
        if let Some(run) = self.sql.query_first("block a job", text, values, |row| row.get(0))? {
            self.event(at, Of::Job { run, job: job.0 }, kind, reason.map(Into::into));
        } else {
            self.ignore();
        }
        Ok(())
    }

    /// Jobs that are taken by one of these owners, with their states.
    pub(super) fn taken_by(&self, owners: &[WorkerId]) -> Result<Vec<(i64, JobState)>> {
        let text = "SELECT id, state FROM job INDEXED BY job_unsucceeded \
            WHERE succeeded = 0 AND owner IN (SELECT value FROM json_each(?1)) ORDER BY id";
        let list = number_list(owners.iter().map(|owner| owner.0));
        self.sql.query("read the jobs of owners", text, [list], |row| {
            Ok((row.get(0)?, JobState::of(row.get(1)?)))
        })
    }

    /// Take a job away from an owner that is gone.
    pub(super) fn take_back(&mut self, job: i64, state: JobState, at: Timestamp) -> Result<()> {
        if state != JobState::Running {
            let update = "UPDATE job SET owner = NULL WHERE id = ?1 RETURNING run";
            if let Some(run) =
                self.sql.query_first("take a job back", update, [job], |row| row.get(0))?
            {
                self.silent_change(run, job);
            }
            return Ok(());
        }
        let failure = JobFailure::new(FailureKind::WorkerLost, "worker lost");
        let insert = "INSERT INTO attempt (job, number, started_at, ended_at, failure) SELECT id, attempt, started_at, ?2, ?3 FROM job \
            WHERE id = ?1";
        self.sql.execute("record a lost attempt", insert, (job, at.0, failure_text(&failure)))?;
        let update = "UPDATE job SET owner = NULL, lost = lost + 1, phase = phase + 4, state = iif(lost + 1 < ?2, 0, 4), \
                failure = iif(lost + 1 < ?2, NULL, ?3), ended_at = iif(lost + 1 < ?2, NULL, ?4) \
            WHERE id = ?1 RETURNING run, attempt, state";
        let values = (job, MAX_LOST, failure_text(&failure), at.0);
        let row = self.sql.query_first("take a job back", update, values, |row| {
            Ok((row.get::<_, i64>(0)?, number(row, 1)?, JobState::of(row.get(2)?)))
        })?;
        if let Some((run, attempt, state)) = row {
            let of = Of::Job { run, job };
            self.event(at, of, "job.lost", Some(format!("attempt {attempt}").into()));
            if state == JobState::Failed {
                self.event(at, of, "job.failed", Some("worker lost".into()));
            }
        }
        Ok(())
    }
}
