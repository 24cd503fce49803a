//! The executor of a site's own worker: its name lets no other process claim the site's jobs.

use superduper::{
    BoxFuture, ComponentType,
    job::{Attempt, AttemptEnd, Executor, ExecutorCapabilities},
};
use superduper_federated::FederatedTraining;

/// Runs jobs in this process, under a name that only the worker of a site has.
#[derive(Debug)]
pub(super) struct SiteExecutor {
    name: &'static str,
}

impl SiteExecutor {
    pub(super) fn new(site: &str) -> Self {
        // Names of executors live as long as the program; a program serves few sites.
        SiteExecutor { name: Box::leak(name_of(site).into_boxed_str()) }
    }
}

/// The name of the executor of a site.
pub(super) fn name_of(site: &str) -> String {
    format!("site:{site}")
}

impl Executor for SiteExecutor {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: false, needs_shared_stores: false }
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        // Whoever writes to the database of the trainings names the executor of a job.
        let is_task =
            attempt.method() == "site_task" && attempt.target().kind == FederatedTraining::__kind();
        if !is_task {
            let text = format!("the worker `{}` runs nothing but tasks of its site", self.name);
            return Box::pin(std::future::ready(AttemptEnd::lost(text.as_str())));
        }
        Box::pin(attempt.run_here())
    }
}
