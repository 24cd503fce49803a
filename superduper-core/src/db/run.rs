//! A run that is under way.

use super::{Applied, Db, DbInner, EventStream};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{Outcome, RunHandle},
    plan::Action,
    store::{Actor, JobFilter, JobId, JobRow, RunId},
    unreturned::{Site, Unreturned},
};
use std::{sync::Arc, time::Duration};

/// A run that is under way: what `apply(…).detach()` and `resume` give.
///
/// Dropping it changes nothing: the run goes on.
#[derive(Clone)]
pub struct Run {
    db: Arc<DbInner>,
    id: Option<RunId>,
    handles: Vec<RunHandle>,
    applied: Option<Applied>,
    recorded: Vec<JobId>,
    ended_stale: bool,
    /// The actor that started the run. A cancel of the run is recorded under it.
    actor: Option<Arc<Actor>>,
}

impl Run {
    pub(crate) fn new(
        db: Arc<DbInner>,
        id: Option<RunId>,
        handles: Vec<RunHandle>,
        applied: Applied,
    ) -> Self {
        Run {
            db,
            id,
            handles,
            applied: Some(applied),
            recorded: Vec::new(),
            ended_stale: false,
            actor: None,
        }
    }

    pub(crate) fn resumed(db: Arc<DbInner>, id: RunId, handle: RunHandle) -> Self {
        Run {
            db,
            id: Some(id),
            handles: vec![handle],
            applied: None,
            recorded: Vec::new(),
            ended_stale: false,
            actor: None,
        }
    }

    /// Take over the actor of a handle.
    pub(crate) fn started_by(self, db: &Db) -> Self {
        Run { actor: db.actor().cloned(), ..self }
    }

    pub(crate) fn with_ended_stale(self, ended_stale: bool) -> Self {
        Run { ended_stale, ..self }
    }

    /// Whether jobs were ended whose triggers are gone.
    pub(crate) fn ended_stale(&self) -> bool {
        self.ended_stale
    }

    pub(crate) fn with_recorded(self, recorded: Vec<JobId>) -> Self {
        Run { recorded, ..self }
    }

    /// The jobs that an apply recorded for this run, in the order of the plan; none for a run that
    /// it joined or resumed.
    pub fn recorded(&self) -> &[JobId] {
        &self.recorded
    }

    pub(crate) fn db(&self) -> &Arc<DbInner> {
        &self.db
    }

    pub(crate) fn handles(&self) -> &[RunHandle] {
        &self.handles
    }

    /// The run; `None` where there was nothing to run.
    pub fn id(&self) -> Option<RunId> {
        self.id
    }

    /// What was stored, for a run that an apply started.
    pub fn applied(&self) -> Option<&Applied> {
        self.applied.as_ref()
    }

    /// Wait until every job is final.
    ///
    /// # Errors
    /// `JobFailed` or `Cancelled` with the whole outcome attached; `Store` where the run had to
    /// stop. `UnknownKind` or `Unsupported` if the run can only go on in another program and no
    /// other worker lives. `Cancelled` without an outcome if this process called
    /// [`Db::close`](crate::Db::close).
    pub async fn wait(&self) -> Result<Option<Outcome>> {
        let mut first = None;
        for handle in &self.handles {
            let outcome =
                outcome_of(&self.db, handle).await.map_err(|error| self.stopped(error))?;
            first.get_or_insert(outcome);
        }
        first.map(Outcome::into_result).transpose()
    }

    /// Say what is on record where the run had to stop: the write that failed is not all there was.
    fn stopped(&self, error: Error) -> Error {
        match self.applied.as_ref().filter(|applied| applied.action != Action::Remove) {
            Some(applied) => error.context(format_args!("`{}` is on record", applied.address)),
            None => error,
        }
    }

    /// Like [`Run::wait`], for at most so long.
    ///
    /// # Errors
    /// Also `Timeout`; the run goes on.
    pub async fn wait_timeout(&self, limit: Duration) -> Result<Option<Outcome>> {
        crate::runtime_check::current()?;
        match tokio::time::timeout(limit, self.wait()).await {
            Ok(result) => result,
            Err(_) => {
                let name = self.id.map_or_else(|| "the run".to_owned(), |id| format!("run {id}"));
                Err(Error::new(
                    ErrorKind::Timeout,
                    format!("{name} did not end within {limit:?}; it goes on"),
                ))
            }
        }
    }

    /// Ask for all its jobs to be cancelled. Returns at once; `wait` for the end.
    ///
    /// # Errors
    /// `Store`.
    pub async fn cancel(&self) -> Result<()> {
        match self.id {
            Some(id) => {
                let db = Db::from_inner(self.db.clone());
                let db = self.actor.clone().map_or(db.clone(), |actor| db.with_actor(actor));
                let audit = db.audit("cancel", format!("run {id}"));
                super::cancel::cancel(&self.db, id, None, audit).await
            }
            None => Ok(()),
        }
    }

    /// Its jobs as they are now.
    ///
    /// # Errors
    /// `Store`.
    pub async fn jobs(&self) -> Result<Vec<JobRow>> {
        match self.id {
            Some(id) => {
                self.db.metadata.jobs(JobFilter { run: Some(id), ..JobFilter::default() }).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// What happens in it, from its beginning.
    pub fn events(&self) -> EventStream {
        EventStream::of_run(&self.db, self.id)
    }

    /// Wait, and give what apply gives.
    pub(crate) async fn finish(self) -> Result<Applied> {
        let outcome = self.wait().await?;
        let mut applied =
            self.applied.ok_or_else(|| Error::internal("a resumed run was not applied here"))?;
        applied.outcome = outcome;
        if applied.action != Action::Remove {
            // What was applied is on record, also where this cannot be read.
            super::recorded::fill(&self.db, &mut applied)
                .await
                .or_warn(Site::RUN, "reading the results on record");
        }
        Ok(applied)
    }
}

/// Wait for a run; its outcome, or why it had to stop. Where the runtime has ended in which it was
/// led, it is led on in this one.
pub(crate) async fn outcome_of(db: &Arc<DbInner>, handle: &RunHandle) -> Result<Outcome> {
    let mut handle = handle.clone();
    loop {
        let ended = handle.done.wait_for(Option::is_some).await.map(|ended| ended.clone());
        match ended.as_ref().map(Option::as_deref) {
            Ok(Some(Ok(outcome))) => return Ok(outcome.clone()),
            Ok(Some(Err(error))) => return Err(error.copied()),
            Ok(None) => return Err(Error::internal("a run ended without an outcome")),
            Err(_) => handle = db.attach(handle.run).await?,
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({:?})", self.id)
    }
}
