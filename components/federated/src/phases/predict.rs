//! Predictions for the rows of the sites, after the last round.

use super::{
    RoundJobs,
    quorum::{Heard, cancel_key, heard},
};
use crate::{
    executor::ReturnCode,
    site::Site,
    state::{Counted, PhaseInput, TaskRef},
    training::FederatedTraining,
    updates,
};
use std::collections::BTreeMap;
use superduper::{Artifact, Error, ErrorKind, JobContext, Result};

impl FederatedTraining {
    /// What follows the last round: predictions, if they are wanted, and the end.
    pub(crate) fn spawn_last(&self, ctx: &JobContext, next: PhaseInput) -> Result<()> {
        if !self.options.predict {
            return self.spawn_finish(ctx, next);
        }
        let sites = tokio::runtime::Handle::current().block_on(self.present(ctx))?;
        let mut jobs = RoundJobs::of(ctx, &self.uuid()?);
        self.plan_predictions(&mut jobs, &sites, next);
        jobs.spawn(ctx)
    }

    /// Plan the predictions of the embedded ones of these sites, and what gathers them.
    pub(crate) fn plan_predictions(
        &self,
        jobs: &mut RoundJobs,
        sites: &[&Site],
        input: PhaseInput,
    ) {
        let sites: Vec<&Site> = sites.iter().copied().filter(|site| site.is_embedded()).collect();
        let tasks = self.plan_tasks(jobs, "predict", &sites, &input);
        let keys: Vec<String> = tasks.iter().map(|task| task.key.clone()).collect();
        let input = PhaseInput { tasks, run: jobs.run, ..input };
        self.plan_cutoff(jobs, &input, "predict");
        jobs.add(jobs.job(input.key("collect"), "collect").after_end(keys).input(input));
    }

    pub(crate) async fn do_collect(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        let (db, uuid) = (ctx.db()?, self.uuid()?);
        let here = self.here(ctx);
        if here.run != input.run {
            // A retry, after no site has answered: the sites are asked again.
            let again = PhaseInput { again: input.again + 1, ..input };
            let mut jobs = RoundJobs::of(ctx, &uuid);
            self.plan_predictions(&mut jobs, &self.present(ctx).await?, again);
            return jobs.spawn(ctx);
        }
        cancel_key(ctx, input.run, &input.key("predict deadline")).await?;
        let (mut predictions, mut refused, mut spent) = (BTreeMap::new(), Vec::new(), Vec::new());
        for task in &input.tasks {
            let held = match heard(ctx, task).await? {
                Heard::Answered(answer) if answer.code == ReturnCode::Ok => answer.held,
                Heard::Answered(answer) => {
                    refused.push(format!("`{}`: {}: {}", task.site, answer.code, answer.reason));
                    continue;
                }
                Heard::Waiting => {
                    refused.push(format!("`{}`: no answer in time", task.site));
                    continue;
                }
            };
            let Some(held) = held else { continue };
            let counted = Counted { task: task.clone(), samples: 0, held };
            match updates::fetch(&db, &uuid, &counted).await? {
                Some(update) => {
                    predictions.insert(task.site.clone(), Artifact::new(update.tensors));
                }
                None => refused.push(format!("`{}`: its predictions are lost", task.site)),
            }
            spent.push(counted);
        }
        self.some_answered("predict", &input.tasks, &refused)?;
        refused.iter().for_each(|refused| ctx.log(format_args!("site {refused}")));
        ctx.set(&self.predictions, predictions)?;
        let spent = input.spent.iter().cloned().chain(spent).collect();
        self.spawn_finish(ctx, PhaseInput { tasks: Vec::new(), spent, ..input })
    }

    /// Refuse a task that no site has done.
    pub(super) fn some_answered(
        &self,
        task: &str,
        tasks: &[TaskRef],
        refused: &[String],
    ) -> Result<()> {
        if refused.len() < tasks.len() || tasks.is_empty() {
            return Ok(());
        }
        let text = format!("no site has done the task `{task}`; {}", refused.join("; "));
        Err(Error::new(ErrorKind::User, text)
            .with_hint("apply the training again to ask the sites again")
            .fatal())
    }
}
