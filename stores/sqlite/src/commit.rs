//! Writing a batch inside of a transaction: conditions first, then the operations in order.
//!
//! Neighbouring puts, deletions and all events go into few statements with many rows. Invariant:
//! after an error the caller rolls the transaction or savepoint back; nothing here repairs a
//! half-written batch.

pub(crate) mod blobs;
mod checkpoint;
mod delete;
mod expect;
mod forget;
mod jobs;
mod known;
mod names;
pub(crate) mod once;
mod places;
mod put;
mod signals;
pub(crate) mod telemetry;
mod transitions;

use crate::{
    codec::{Code, json_text, number_list},
    sql::Sql,
};
use known::Known;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};
use superduper_core::{
    Address, Error, Result,
    store::{
        Batch, Committed, JobId, NewRun, Op, RunId, RunPurpose, RunState, Timestamp, WorkerId,
        event_detail,
    },
};

/// Where an event belongs.
#[derive(Clone, Copy)]
enum Of {
    /// The batch's run, if it has one.
    Batch,
    Run(i64),
    Job {
        run: i64,
        job: i64,
    },
}

struct Event<'b> {
    at: i64,
    of: Of,
    kind: &'static str,
    detail: Option<Cow<'b, str>>,
}

/// How many jobs of the run `?1` are in each state, by the codes of the states: none is open.
const COUNTED: &str = "(SELECT json_array(0, 0, 0, count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4), \
    count(*) FILTER (WHERE state = 5), count(*) FILTER (WHERE state = 6)) FROM job WHERE run = ?1)";

/// A batch under way.
struct Commit<'s, 'b> {
    sql: Sql<'s>,
    known: Known<'b>,
    events: Vec<Event<'b>>,
    /// Jobs that change in ways that no event tells, by run.
    silent: BTreeMap<i64, BTreeSet<i64>>,
    /// The place of the operation under way in the batch.
    place: usize,
    done: Committed,
}

/// Write a batch.
pub(crate) fn commit(sql: Sql<'_>, batch: &Batch) -> Result<Committed> {
    let once = if let Some(Op::Once { token, again }) = batch.ops.first() {
        Some((*token, *again))
    } else {
        None
    };
    if let Some((token, true)) = once
        && let Some(answer) = once::answer(sql, token)?
    {
        return Ok(answer);
    }
    let known = Known::read(sql, batch)?;
    let mut commit = Commit {
        sql,
        known,
        events: Vec::new(),
        silent: BTreeMap::new(),
        place: 0,
        done: Committed::default(),
    };
    commit.check(&batch.expect)?;
    let mut rest = &batch.ops[..];
    while let [op, after @ ..] = rest {
        commit.place = batch.ops.len() - rest.len();
        match op {
            _ if commit.done.invalidated && op.follows_an_end() => {
                commit.ignore();
                rest = after;
            }
            Op::Put(_) => rest = commit.put(rest)?,
            Op::Delete { .. } => rest = commit.delete(rest)?,
            _ => {
                commit.apply(op)?;
                rest = after;
            }
        }
    }
    commit.write_events()?;
    commit.write_silent_changes()?;
    if let Some((token, _)) = once {
        once::keep(sql, token, &commit.done)?;
    }
    Ok(commit.done)
}

impl<'b> Commit<'_, 'b> {
    /// The operation under way changes nothing.
    fn ignore(&mut self) {
        self.done.ignored.push(self.place);
    }

    /// The operation under way changes nothing, and neither does what follows it.
    fn invalidate(&mut self) {
        self.ignore();
        self.done.invalidated = true;
    }

    /// A job changes in a way that no event tells.
    fn silent_change(&mut self, run: i64, job: i64) {
        self.silent.entry(run).or_default().insert(job);
    }

    fn write_silent_changes(&self) -> Result<()> {
        let rows: Vec<(i64, String)> = self
            .silent
            .iter()
            .map(|(run, jobs)| (*run, number_list(jobs.iter().copied())))
            .collect();
        self.sql.insert(
            "record changes of jobs",
            ("INSERT INTO job_change (run, jobs)", 2, ""),
            &rows,
            |row, (run, jobs)| {
                row.bind(run)?;
                row.bind(jobs)
            },
        )
    }

    fn apply(&mut self, op: &'b Op) -> Result<()> {
        match op {
            // Handled in groups by the caller.
            Op::Put(_) | Op::Delete { .. } => Ok(()),
            Op::Once { .. } => Ok(()),
            Op::Append { .. }
                if self
                    .place
                    .checked_sub(1)
                    .is_some_and(|before| self.done.ignored.last() == Some(&before)) =>
            {
                self.ignore();
                Ok(())
            }
            Op::Append { log, payload, at } => self.append(log, payload, *at),
            Op::SetJobsPending { address, pending } => {
                let (component, version) = self.known.find_or_error(address)?;
                let update =
                    "UPDATE version SET owes_jobs = ?3 WHERE component = ?1 AND number = ?2";
                self.sql.execute("note owed jobs", update, (component, version, pending)).map(drop)
            }
            Op::Run(run) => self.start_run(run),
            Op::Jobs { run, jobs } => {
                let run = run
                    .or(self.done.run)
                    .ok_or_else(|| Error::invalid("the batch has jobs but no run"))?;
                self.refuse_jobs_of_removed(jobs)?;
                let ids = self.insert_jobs(run.0, jobs, 0)?;
                if self.done.run != Some(run) {
                    // What was counted when an older run ended, if it has.
                    let forget = "UPDATE run SET jobs = NULL WHERE id = ?1 AND jobs IS NOT NULL";
                    self.sql.execute("count the jobs of a run again", forget, [run.0])?;
                }
                self.done.jobs.extend(ids);
                Ok(())
            }
            Op::Claim { jobs, owner, start, pool, at } => {
                self.claim(jobs, (*owner, pool.as_ref()), *start, *at)
            }
            Op::ReturnPlace { job, attempt, owner } => self.return_place(*job, *attempt, *owner),
            Op::Start { job, attempt, at } => self.start(*job, *attempt, *at),
            Op::Finish(finish) => self.finish(finish),
            Op::Settle { job, state, failure, at } => self.settle(*job, *state, failure, *at),
            Op::Block { job, reason, at } => self.block(*job, reason.as_deref(), *at),
            Op::Release { job, blocked, at } => self.release(*job, *blocked, *at),
            Op::Complete(end) => self.complete(end),
            Op::Signal { jobs, signal } => self.signal(jobs, *signal),
            Op::Checkpoint(new) => self.checkpoint(new),
            Op::Reclaim { owners, at } => self.reclaim(owners, *at),
            Op::EndRun { run, state, at } => self.end_run(*run, *state, *at),
            Op::Removing { address, on } => self.removing(address, *on),
            Op::CopyOutputs { address, from, to, outputs } => {
                self.copy_outputs(address, (*from, *to), outputs)
            }
            Op::Label { address, label, version, at } => self.label(address, label, *version, *at),
            Op::Rename { from, to, at } => self.rename(from, to, *at),
            Op::Rewrite { address, document, uuid, content_hash } => {
                self.rewrite(address, document, *uuid, *content_hash)
            }
            Op::SetOutputs { address, outputs } => {
                let (component, version) = self.known.find_or_error(address)?;
                self.set_outputs(component, version, outputs)
            }
            Op::Relink { address, edges, blobs } => self.relink(address, edges, blobs),
            Op::MarkForDeletion { digests, lock } => {
                self.check_lock(*lock).and_then(|()| self.mark_blobs(digests))
            }
            Op::ConfirmDeleted { digests, lock } => {
                self.check_lock(*lock).and_then(|()| self.confirm_deleted(digests))
            }
            Op::Forget { runs, jobs, logs } => self.forget_past(runs, jobs, logs),
            Op::Delivered { message } => self
                .sql
                .execute(
                    "forget a delivered message",
                    "DELETE FROM message WHERE id = ?1",
                    [message],
                )
                .map(drop),
        }
    }

    fn start_run(&mut self, run: &'b NewRun) -> Result<()> {
        if self.done.run.is_some() {
            return Err(Error::invalid("a batch records at most one run"));
        }
        let root = self.known.live_or_error(&run.root)?;
        let version = run.root.version;
        let insert = "INSERT INTO run (purpose, root, root_version, root_revision, created_at, data, actor, origin, note) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let actor = run.actor.as_ref();
        let values = (
            run.purpose.code(),
            root,
            version.map(|at| at.version),
            version.and_then(|at| at.revision),
            run.at.0,
            json_text(&run.data),
            actor.map(|actor| &actor.name),
            actor.and_then(|actor| actor.origin.as_ref()),
            actor.and_then(|actor| actor.note.as_ref()),
        );
        self.sql.execute("record a run", insert, values)?;
        let id = self.sql.connection.last_insert_rowid();
        self.done.run = Some(RunId(id));
        if run.purpose == RunPurpose::Remove {
            self.known.marked(&run.root);
        }
        self.event(run.at, Of::Run(id), "run.started", Some(run.root.to_string().into()));
        Ok(())
    }

    fn end_run(&mut self, run: RunId, state: RunState, at: Timestamp) -> Result<()> {
        if state == RunState::Running {
            return Err(Error::invalid(format!("run {run} cannot end as running")));
        }
        // A job that is open after all, because the end of its attempt was fenced off, keeps its
        // run open.
        let update = format!(
            "UPDATE run SET state = ?2, ended_at = ?3, jobs = {COUNTED} WHERE id = ?1 AND state = 0 \
            AND NOT EXISTS (SELECT 1 FROM job WHERE run = ?1 AND state < 3)"
        );
        if self.sql.execute("end a run", &update, (run.0, state.code(), at.0))? == 1 {
            self.event(at, Of::Run(run.0), "run.ended", Some(state.name().into()));
            // Each job that changed without an event has also ended since, with an event.
            self.silent.remove(&run.0);
            self.sql.execute(
                "forget changes of jobs",
                "DELETE FROM job_change WHERE run = ?1",
                [run.0],
            )?;
        } else {
            self.invalidate();
        }
        Ok(())
    }

    fn removing(&mut self, address: &'b Address, on: bool) -> Result<()> {
        let id = self.known.live_or_error(address)?;
        let update = "UPDATE component SET removing = ?2 WHERE id = ?1 AND removing <> ?2";
        if self.sql.execute("mark a component as being removed", update, (id, on))? == 1 {
            let kind = if on { "component.removing" } else { "component.kept" };
            self.event(Timestamp::now(), Of::Batch, kind, Some(address.path().into()));
        }
        Ok(())
    }

    fn reclaim(&mut self, owners: &[WorkerId], at: Timestamp) -> Result<()> {
        self.return_places_of(owners)?;
        for (job, state) in self.taken_by(owners)? {
            self.done.reclaimed.push(JobId(job));
            self.take_back(job, state, at)?;
        }
        Ok(())
    }

    fn event(&mut self, at: Timestamp, of: Of, kind: &'static str, detail: Option<Cow<'b, str>>) {
        self.events.push(Event { at: at.0, of, kind, detail });
    }

    fn write_events(&mut self) -> Result<()> {
        let batch_run = self.done.run.map(|run| run.0);
        let insert = ("INSERT INTO event (at, run, job, kind, detail)", 5, "");
        self.sql.insert("record events", insert, &self.events, |row, event| {
            let (run, job) = match event.of {
                Of::Batch => (batch_run, None),
                Of::Run(run) => (Some(run), None),
                Of::Job { run, job } => (Some(run), Some(job)),
            };
            row.bind(event.at)?;
            row.bind(run)?;
            row.bind(job)?;
            row.bind(event.kind.code())?;
            row.bind(
                event
                    .detail
                    .as_deref()
                    .map(|detail| event_detail(event.kind, detail.into()))
                    .as_deref(),
            )
        })
    }
}
