//! Giving up for now, to wait for something outside.

use super::JobContext;
use crate::{
    address::Address,
    error::{Error, ErrorKind},
    store::{Block, Timestamp},
};
use std::fmt;

/// That a job waits for something outside; made by [`JobContext::block`]. Return it as the error of
/// the job.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use std::time::{Duration, SystemTime};
/// use superduper::{JobContext, prelude::*};
///
/// #[derive(Component)]
/// struct Report {
///     identifier: String,
/// }
///
/// #[triggers]
/// impl Report {
///     #[trigger("apply")]
///     fn send(&self, ctx: &JobContext) -> Result<()> {
///         if !std::path::Path::new("numbers.csv").exists() {
///             let soon = SystemTime::now() + Duration::from_secs(60);
///             return Err(ctx.block("the numbers of this week").until(soon).into());
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
#[must_use = "return it as the error of the job"]
pub struct Waiting {
    ctx: JobContext,
    reason: String,
}

impl JobContext {
    /// Block the job: return the result as the error of the method. The job waits until
    /// [`Db::unblock`](crate::Db::unblock) queues it again, or until
    /// [`Db::complete`](crate::Db::complete) or [`Db::reject`](crate::Db::reject) ends it. The
    /// attempt does not count against `retries`. A method that succeeds after this call is not
    /// blocked; one that fails with another error is, but for a panic and the end of its time
    /// limit.
    pub fn block(&self, reason: impl fmt::Display) -> Waiting {
        let reason = reason.to_string();
        self.blocks(|block| *block = Block::new(reason.clone()));
        Waiting { ctx: self.clone(), reason }
    }
}

impl Waiting {
    /// Queue the job again at this time, unless it is unblocked or ended earlier. The process that
    /// leads the run does this; after a restart, `resume` or `work` does. If the clock was set
    /// back, each process that leads the run waits at most the time between the block and `time`.
    pub fn until(self, time: impl Into<Timestamp>) -> Self {
        let until = time.into();
        self.ctx.blocks(|block| block.until = Some(until));
        self
    }

    /// Say which components the job read before it decided to wait. If one of them has changed when
    /// the end of the attempt is recorded, the job is not blocked, but queued again: it must not
    /// wait for a change that has happened already.
    ///
    /// An address with a version says that it was the newest one; without a revision, any revision
    /// of it. An address without a version says that there was no such component. If an address can
    /// never match, as that of an old version, the job tries again and again, after longer and
    /// longer pauses of up to ten seconds.
    pub fn as_read<'a>(self, components: impl IntoIterator<Item = &'a Address>) -> Self {
        let read = |address: &Address| (address.unversioned(), address.version);
        self.ctx.blocks(|block| block.read.extend(components.into_iter().map(read)));
        self
    }
}

impl From<Waiting> for Error {
    fn from(waiting: Waiting) -> Self {
        Error::new(ErrorKind::User, waiting.to_string())
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocked: {}", self.reason)
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiting({})", self.reason)
    }
}

impl std::error::Error for Waiting {}
