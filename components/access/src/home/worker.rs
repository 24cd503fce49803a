//! The worker of a site: it runs the jobs of the site, which its own database decides about.

use super::{
    carrier::Carrier,
    executor::{SiteExecutor, name_of},
};
use crate::{gate::SiteGate, homes, site_data::DataOfSite};
use std::{sync::Arc, time::Duration};
use superduper::{
    Db, DbBuilder, Result,
    unreturned::{Site as Place, Unreturned},
};
use superduper_federated::Site;

/// The worker of a site that decides in a database of its own, its *home*.
///
/// The owner of the site runs it. Policies, roles, grants, the audit and the data are in the home.
/// Trainings are in another database, which the coordinator and the workers share. Other processes
/// neither run the jobs of the site nor decide about it.
///
/// ```
/// # use superduper::prelude::*;
/// use superduper_access::SiteWorker;
///
/// # async fn example(home: Db, shared: superduper::DbBuilder) -> Result<()> {
/// let worker = SiteWorker::new("north", &home);
/// // `shared` opens the database of the trainings.
/// let trainings = worker.executor_for(shared).build().await?;
/// let working = worker.start(&trainings).await?;
/// // … until the program ends:
/// working.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SiteWorker {
    site: String,
    home: Db,
}

impl SiteWorker {
    /// The worker of a site. In this process, the home decides about the site from now on.
    pub fn new(site: impl Into<String>, home: &Db) -> Self {
        let site = site.into();
        homes::register(&site, home);
        SiteWorker { site, home: home.clone() }
    }

    /// Let a database of trainings have the executor of this site's jobs, and claim no other jobs: a
    /// training has jobs of its coordinator, whose code the site has not agreed to.
    pub fn executor_for(&self, trainings: DbBuilder) -> DbBuilder {
        let executor = SiteExecutor::new(&self.site);
        trainings.with_executor(Arc::new(executor)).claims_only(name_of(&self.site))
    }

    /// List the site in the database of the trainings, and run its jobs until
    /// [`Working::stop`]. Requests for access are brought to the home, decisions and wake-ups from it.
    ///
    /// # Errors
    /// `NotFound` if the home does not govern the site; `Store`.
    pub async fn start(&self, trainings: &Db) -> Result<Working> {
        let mut sync = Carrier::new(&self.site, &self.home, trainings);
        // The first time at once, so that the site is listed when this returns.
        sync.once().await?;
        let task = tokio::spawn(sync.run());
        let jobs = trainings.clone();
        let jobs = tokio::spawn(async move {
            // `work` gives up when the store fails again and again. The worker does not.
            while jobs.work().await.or_warn(Place::WORKER, "running the jobs of a site").is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Working { tasks: [task.abort_handle(), jobs.abort_handle()] })
    }
}

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A worker that runs. It goes on until it is stopped or dropped.
#[derive(Debug)]
#[must_use = "the worker stops when this is dropped"]
pub struct Working {
    tasks: [tokio::task::AbortHandle; 2],
}

impl Working {
    /// Stop. Close the database of the trainings to give jobs back that run.
    pub async fn stop(self) {
        drop(self);
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// Let the jobs of a site run in the site's own worker alone, with the data and the gate of its home.
#[must_use]
pub fn at_home(site: Site) -> Site {
    let mut site = site.gate(SiteGate {});
    if site.data.is_none() {
        site.data = Some(Box::new(DataOfSite::unknown()));
    }
    site.jobs.executor = Some(name_of(&site.name));
    site
}
