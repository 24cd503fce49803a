//! The processes that run jobs of a database, and what each says of itself.

use super::{Db, DbInner};
use crate::{
    error::Result,
    store::{NewWorker, Worker},
};

impl Db {
    /// The live processes that run jobs of this database, ascending, with their host, process
    /// number and program, and the kinds and executors that the program has. The jobs that one of
    /// them holds are those of [`Db::job_lines`] with
    /// [`JobFilter::owner`](crate::store::JobFilter::owner).
    ///
    /// A process is registered when it claims its first job, or calls [`Db::work`]. An observer is
    /// none of them.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// for worker in db.workers().await? {
    ///     println!("{worker} runs {}", worker.program.as_deref().unwrap_or("another program"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Store`.
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        self.inner().metadata.workers().await
    }
}

/// What this process says of itself.
pub(super) fn this_process(db: &DbInner) -> NewWorker {
    let mut new = NewWorker::new();
    new.kinds = db.registry.kinds().map(str::to_owned).collect();
    new.artifacts = Some(db.artifacts.location());
    new.host = host();
    new.pid = Some(std::process::id());
    new.program = match std::env::current_exe() {
        Ok(path) => Some(path.display().to_string()),
        // The program may have been deleted since it was started.
        Err(_) => None,
    };
    new.executors = db.executors.keys().map(|name| (*name).to_owned()).collect();
    new.executors.sort_unstable();
    new
}

/// The name of this machine.
#[cfg(unix)]
fn host() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(not(unix))]
fn host() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}
