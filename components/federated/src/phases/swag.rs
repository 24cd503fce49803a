//! Moments of the weights around a global model, for SWAG.

use super::{
    RoundJobs,
    aggregate::MOST_AGAIN,
    quorum::{Heard, cancel_key, heard},
};
use crate::{
    executor::ReturnCode,
    notify::NotificationType,
    site::Site,
    state::{Counted, GlobalModel, PhaseInput, Progress, State},
    training::FederatedTraining,
    uncertainty::{MomentUpdate, Moments},
    updates,
};
use superduper::{Artifact, Error, JobContext, Result};

impl FederatedTraining {
    /// Ask the sites for moments; then merge them.
    pub(crate) fn spawn_swag(
        &self,
        ctx: &JobContext,
        input: PhaseInput,
        progress: &Progress,
    ) -> Result<()> {
        let sites = tokio::runtime::Handle::current().block_on(self.present(ctx))?;
        let mut jobs = RoundJobs::of(ctx, &self.uuid()?);
        self.plan_swag(&mut jobs, &sites, input, progress);
        jobs.spawn(ctx)
    }

    /// Plan the reports of moments, and the job that merges them.
    pub(crate) fn plan_swag(
        &self,
        jobs: &mut RoundJobs,
        sites: &[&Site],
        input: PhaseInput,
        progress: &Progress,
    ) {
        self.notify(jobs, NotificationType::SwagRoundStart, &input, progress, sites);
        let tasks = self.plan_tasks(jobs, "swag", sites, &input);
        let keys: Vec<String> = tasks.iter().map(|task| task.key.clone()).collect();
        let input = PhaseInput { tasks, run: jobs.run, ..input };
        self.plan_cutoff(jobs, &input, "swag");
        jobs.add(jobs.job(input.key("swag"), "swag").after_end(keys).input(input));
    }

    pub(crate) fn do_swag(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        let progress = self.stands();
        if progress.round != input.round || progress.state != State::SwagRound {
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::current();
        let uuid = self.uuid()?;
        runtime.block_on(cancel_key(ctx, input.run, &input.key("swag deadline")))?;
        let is_retry = self.here(ctx).run != input.run;
        let found = match runtime.block_on(self.moments(ctx, &uuid, &input)) {
            Err(_) if is_retry && input.again < MOST_AGAIN => None,
            found => found?,
        };
        let Some((moments, counted)) = found else {
            // They were lost with a process, or too few came before: the sites are asked again.
            let again = input.again + 1;
            return self.spawn_swag(ctx, PhaseInput { again, ..input }, &progress);
        };
        let global = self.global.get()?;
        ctx.set(
            &self.global,
            GlobalModel {
                first_moment: Some(Artifact::new(moments.mean)),
                second_moment: Some(Artifact::new(moments.square)),
                ..(*global).clone()
            },
        )?;
        let progress = Progress { state: State::Ongoing, ..progress };
        ctx.set(&self.progress, progress.clone())?;
        let mut spent = input.spent.clone();
        spent.extend(counted);
        self.spawn_after(ctx, PhaseInput { tasks: Vec::new(), spent, again: 0, ..input }, &progress)
    }

    /// The merged moments; `None` where some were lost with a process.
    async fn moments(
        &self,
        ctx: &JobContext,
        uuid: &str,
        input: &PhaseInput,
    ) -> Result<Option<(Moments, Vec<Counted>)>> {
        let (mut reports, mut counted, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for task in &input.tasks {
            let Heard::Answered(answer) = heard(ctx, task).await? else { continue };
            let (ReturnCode::Ok, Some(held)) = (answer.code, answer.held) else {
                refused.push(format!("`{}`: {}: {}", task.site, answer.code, answer.reason));
                continue;
            };
            let one = Counted { task: task.clone(), samples: answer.samples, held };
            let Some(update) = updates::fetch(&ctx.db()?, uuid, &one).await? else {
                return Ok(None);
            };
            let (mean, square) = updates::parted(&update.tensors).await?;
            let moments = Moments { mean, square };
            reports.push(MomentUpdate::new(&task.site, answer.samples, moments));
            counted.push(one);
        }
        if reports.len() < self.least() {
            let text = format!(
                "the moments after round {} need {} sites, but {} reported; {}",
                input.round,
                self.least(),
                reports.len(),
                refused.join("; ")
            );
            return Err(Error::invalid(text).fatal());
        }
        refused.iter().for_each(|refused| ctx.log(format_args!("site {refused}")));
        let merged = Moments::merge(&reports).await.map_err(Error::fatal)?;
        Ok(Some((merged, counted)))
    }
}
