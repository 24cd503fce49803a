//! Lists for people: components, runs and jobs in pages.
//!
//! Invariant: a page is read from a place in an order that does not change, so the last page costs
//! what the first one costs, and rows that are added meanwhile move no row to another page.

use super::{Db, DbInner, read::is_of_the_past};
use crate::{
    address::Address,
    error::{Error, Result},
    future::BoxFuture,
    store::{
        After, ComponentFilter, ComponentLine, Cursor, Health, JobFilter, JobId, JobLine,
        RunFilter, RunId, RunLine,
    },
};
use std::{future::IntoFuture, ops::Deref, sync::Arc};

/// The size of a page, unless another one is asked for.
const PAGE: usize = 100;
/// So many components are read at once where their health is looked for.
const CHUNK: usize = 512;

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Lines<T> {
    /// The lines, in order.
    pub lines: Vec<T>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<Cursor>,
}

impl<T> Lines<T> {
    /// The first `limit` lines of what was read: one more, where there is a next page.
    fn cut(mut lines: Vec<T>, limit: usize, place: impl Fn(&T) -> Cursor) -> Self {
        let is_last = lines.len() <= limit;
        lines.truncate(limit);
        let next = lines.last().filter(|_| !is_last).map(place);
        Lines { lines, next }
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.lines
    }
}

impl<T> IntoIterator for Lines<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.lines.into_iter()
    }
}

/// A page of components under construction; await it. Made by [`Db::component_lines`].
#[must_use = "a list is not read until it is awaited"]
pub struct ComponentLines {
    db: Db,
    filter: ComponentFilter,
    after: Option<Cursor>,
    limit: usize,
}

/// A page of runs under construction; await it. Made by [`Db::run_lines`].
#[must_use = "a list is not read until it is awaited"]
pub struct RunLines {
    db: Db,
    filter: RunFilter,
    after: Option<Cursor>,
    newest_first: bool,
    limit: usize,
}

/// A page of jobs under construction; await it. Made by [`Db::job_lines`].
#[must_use = "a list is not read until it is awaited"]
pub struct JobLines {
    db: Db,
    filter: JobFilter,
    after: Option<Cursor>,
    newest_first: bool,
    limit: usize,
}

impl Db {
    /// Components by kind and identifier, in pages, without their documents: name, versions,
    /// labels and how they are doing. Await it for a page of 100 lines.
    ///
    /// A page costs the same wherever it begins. A filter by text, label or health that few
    /// components match reads those between them.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// use superduper::{ store::{ComponentFilter, Health}};
    ///
    /// let broken = ComponentFilter::new().health(Health::Degraded);
    /// let mut page = db.component_lines(broken.clone()).limit(50).await?;
    /// loop {
    ///     for line in &page.lines {
    ///         println!("{line}");
    ///     }
    ///     let Some(next) = page.next else { break };
    ///     page = db.component_lines(broken.clone()).after(next).limit(50).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another list; `Store`.
    pub fn component_lines(&self, filter: ComponentFilter) -> ComponentLines {
        ComponentLines { db: self.clone(), filter, after: None, limit: PAGE }
    }

    /// Runs, the newest first, in pages: who recorded them, and how many of their jobs are in each
    /// state. Await it for a page of 100 lines. A `limit` in the filter is the size of the page.
    ///
    /// A page costs the same wherever it begins. The jobs of an unfinished run are counted for each
    /// page that shows it.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// use superduper::store::RunFilter;
    ///
    /// for run in db.run_lines(RunFilter { unfinished: true, ..RunFilter::default() }).await? {
    ///     let actor = run.actor.as_ref().map_or("somebody", |actor| &actor.name);
    ///     println!("run {} of {}, by {actor}: {}", run.id, run.root, run.jobs);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another list; `Store`.
    pub fn run_lines(&self, filter: RunFilter) -> RunLines {
        let limit = filter.limit.unwrap_or(PAGE);
        RunLines { db: self.clone(), filter, after: None, newest_first: true, limit }
    }

    /// Jobs, the newest first, in pages, without inputs and results: [`Db::job`] has those of one.
    /// Await it for a page of 100 lines. A `limit` in the filter is the size of the page.
    ///
    /// A page costs the same wherever it begins: of all jobs, of a run and of a component. Filters
    /// by kind, method, pool and state read the jobs between those that match.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// use superduper::store::{JobFilter, JobState};
    ///
    /// let failed = JobFilter { states: Some(vec![JobState::Failed]), ..JobFilter::default() };
    /// for job in db.job_lines(failed).limit(20).await? {
    ///     println!("{job}: {}", job.error.as_deref().unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another list; `Store`.
    pub fn job_lines(&self, filter: JobFilter) -> JobLines {
        let limit = filter.limit.unwrap_or(PAGE);
        JobLines { db: self.clone(), filter, after: None, newest_first: true, limit }
    }
}

macro_rules! page {
    ($builder:ident, $line:ident) => {
        impl $builder {
            /// Begin at this place: [`Lines::next`] of the page before. `None` is the beginning.
            pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
                self.after = cursor.into().filter(|cursor| *cursor != Cursor::default());
                self
            }

            /// At most so many lines; at least 1.
            pub fn limit(mut self, lines: usize) -> Self {
                self.limit = lines;
                self
            }
        }

        impl IntoFuture for $builder {
            type Output = Result<Lines<$line>>;
            type IntoFuture = BoxFuture<'static, Result<Lines<$line>>>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.read())
            }
        }
    };
}
page!(ComponentLines, ComponentLine);
page!(RunLines, RunLine);
page!(JobLines, JobLine);

macro_rules! by_age {
    ($($builder:ident)*) => {$(
        impl $builder {
            /// The oldest first.
            pub fn oldest_first(mut self) -> Self {
                self.newest_first = false;
                self
            }
        }
    )*};
}
by_age!(RunLines JobLines);

impl ComponentLines {
    async fn read(self) -> Result<Lines<ComponentLine>> {
        let limit = self.limit.max(1);
        let mut after = match place(self.after.as_ref(), "component", "components")? {
            Some(path) => Some(path.parse::<Address>()?),
            None => None,
        };
        let wanted = limit.saturating_add(1);
        let chunk = if self.filter.health.is_some() { wanted.max(CHUNK) } else { wanted };
        let mut lines = Vec::new();
        while lines.len() < wanted {
            let read = self.chunk(after.take(), chunk).await?;
            let is_last = read.len() < chunk;
            after = read.last().map(|line| line.address.unversioned());
            let is_wanted = |health: Health| self.filter.health.is_none_or(|of| of == health);
            lines.extend(read.into_iter().filter(|line| is_wanted(line.health())));
            if is_last {
                break;
            }
        }
        Ok(Lines::cut(lines, limit, |line| {
            Cursor::new(format!("component:{}", line.address.path()))
        }))
    }

    async fn chunk(&self, after: Option<Address>, limit: usize) -> Result<Vec<ComponentLine>> {
        let db: &Arc<DbInner> = self.db.inner();
        let mut lines = db.metadata.component_lines(self.filter.clone(), after, limit).await?;
        for line in &mut lines {
            line.unhealthy.retain(|group| {
                !group.state.is_terminal()
                    || !is_of_the_past(db, &group.kind, group.role, &group.method)
            });
        }
        Ok(lines)
    }
}

impl RunLines {
    async fn read(self) -> Result<Lines<RunLine>> {
        let limit = self.limit.max(1);
        let after = After {
            last: number(self.after.as_ref(), "run", "runs")?.map(RunId),
            newest_first: self.newest_first,
            limit: limit.saturating_add(1),
        };
        let lines = self.db.inner().metadata.run_lines(self.filter, after).await?;
        Ok(Lines::cut(lines, limit, |line| Cursor::new(format!("run:{}", line.id))))
    }
}

impl JobLines {
    async fn read(self) -> Result<Lines<JobLine>> {
        let limit = self.limit.max(1);
        let after = After {
            last: number(self.after.as_ref(), "job", "jobs")?.map(JobId),
            newest_first: self.newest_first,
            limit: limit.saturating_add(1),
        };
        let lines = self.db.inner().metadata.job_lines(self.filter, after).await?;
        Ok(Lines::cut(lines, limit, |line| Cursor::new(format!("job:{}", line.id))))
    }
}

/// What a cursor says behind its mark.
fn place<'c>(cursor: Option<&'c Cursor>, mark: &str, of: &str) -> Result<Option<&'c str>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let found = cursor.as_str().strip_prefix(mark).and_then(|rest| rest.strip_prefix(':'));
    found.map(Some).ok_or_else(|| refused(cursor, of))
}

fn number(cursor: Option<&Cursor>, mark: &str, of: &str) -> Result<Option<i64>> {
    let Some(cursor) = cursor else { return Ok(None) };
    match place(Some(cursor), mark, of)?.map(str::parse) {
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(refused(cursor, of)),
    }
}

fn refused(cursor: &Cursor, of: &str) -> Error {
    Error::invalid(format!("`{cursor}` is not a place in a list of {of}"))
        .with_hint("use `next` of a page of the same list; leave it out for the first page")
}
