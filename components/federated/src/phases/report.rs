//! What the persistor is told of a round.

use super::quorum::{Heard, heard};
use crate::{
    executor::ReturnCode,
    persistor::{RoundReport, SiteReport},
    state::{Answer, TaskRef},
    training::FederatedTraining,
};
use superduper::{JobContext, Result};

impl FederatedTraining {
    /// Report how sites did a task; the rounds are those that are done then.
    pub(super) fn report_round(
        &self,
        ctx: &JobContext,
        uuid: &str,
        (rounds, task): (u64, &str),
        tasks: &[TaskRef],
    ) -> Result<()> {
        if !self.persistor.wants_reports() {
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::current();
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            let answer = match runtime.block_on(heard(ctx, task))? {
                Heard::Answered(answer) => answer,
                Heard::Waiting => Answer::failed(ReturnCode::Timeout, "no answer in time"),
            };
            answers.push((task.site.as_str(), answer));
        }
        let place = |name: &str| self.sites.iter().position(|site| site.name == name);
        answers.sort_by_key(|(site, _)| place(site).unwrap_or(usize::MAX));
        let metrics = self.means(&answers);
        let sites = answers.into_iter().map(|(site, answer)| SiteReport {
            site: site.to_owned(),
            code: answer.code,
            reason: answer.reason,
            samples: answer.samples,
            metrics: answer.metrics,
        });
        let report = RoundReport { rounds, task: task.to_owned(), sites: sites.collect(), metrics };
        self.persistor
            .report(&report, &self.persist_context(Some(ctx), uuid)?)
            .map_err(|error| error.context(format_args!("the report of round {rounds}, {task}")))
    }
}
