//! The test of a global model at the sites, and what follows from it.

use super::{
    RoundJobs,
    quorum::{Heard, cancel_key, cancel_tasks, heard},
};
use crate::{
    executor::ReturnCode,
    notify::NotificationType,
    site::Site,
    state::{Answer, Counted, PhaseInput, Progress, State},
    training::FederatedTraining,
    updates,
};
use std::collections::BTreeMap;
use superduper::{JobContext, Result};

impl FederatedTraining {
    /// Plan a test of the model at these sites, and the decision that follows it.
    pub(crate) fn plan_tests(
        &self,
        jobs: &mut RoundJobs,
        sites: &[&Site],
        input: PhaseInput,
        progress: &Progress,
    ) {
        self.notify(jobs, NotificationType::ModelTestRound, &input, progress, sites);
        let sites: Vec<&Site> = sites.iter().copied().chain(&self.central).collect();
        let tasks = self.plan_tasks(jobs, "test", &sites, &input);
        let keys: Vec<String> = tasks.iter().map(|task| task.key.clone()).collect();
        let input = PhaseInput { tasks, run: jobs.run, ..input };
        self.plan_cutoff(jobs, &input, "test");
        jobs.add(jobs.job(input.key("decide"), "decide").after_end(keys).input(input));
    }

    pub(crate) fn do_decide(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        let progress = self.stands();
        if progress.round != input.round || progress.state != State::Ongoing {
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::current();
        let only_tests = self.federation.num_rounds == 0;
        if only_tests && self.here(ctx).run != input.run {
            // A retry, after no site has answered: the sites are asked again.
            let again = PhaseInput { again: input.again + 1, tasks: Vec::new(), ..input };
            return self.spawn_after(ctx, again, &progress);
        }
        runtime.block_on(cancel_key(ctx, input.run, &input.key("test deadline")))?;
        let (metrics, stored, refused) = runtime.block_on(self.mean_metrics(ctx, &input))?;
        if only_tests {
            self.some_answered("test", &input.tasks, &refused)?;
        }
        self.report_round(ctx, &self.uuid()?, (input.round, "test"), &input.tasks)?;
        for (name, value) in &metrics {
            ctx.metric(name, input.round, *value);
        }
        let best = self.best(&progress, &metrics, input.round);
        let waits = best.map_or(0, |(_, round)| input.round - round);
        let progress = Progress { metrics, best, ..progress };
        ctx.set(&self.progress, progress)?;
        let has_patience = self.federation.patience.is_none_or(|patience| waits < patience);
        let spent = input.spent.iter().cloned().chain(stored).collect();
        let next = PhaseInput { tasks: Vec::new(), spent, ..input };
        if next.round >= self.federation.num_rounds || !has_patience {
            return self.spawn_last(ctx, next);
        }
        self.spawn_open(ctx, next)
    }

    /// The means of the sites' metrics, weighted by the rows that they tested on; what remote sites
    /// sent, which is not needed any more; and the sites that did not test.
    async fn mean_metrics(
        &self,
        ctx: &JobContext,
        input: &PhaseInput,
    ) -> Result<(BTreeMap<String, f64>, Vec<Counted>, Vec<String>)> {
        let (mut answers, mut stored, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for task in &input.tasks {
            let Heard::Answered(answer) = heard(ctx, task).await? else {
                refused.push(format!("`{}`: no answer in time", task.site));
                continue;
            };
            if answer.code != ReturnCode::Ok {
                let why = format!("`{}`: {}: {}", task.site, answer.code, answer.reason);
                ctx.log(format_args!("site {why}"));
                refused.push(why);
                continue;
            }
            if let Some(held) = answer.held.clone() {
                stored.push(Counted { task: task.clone(), samples: answer.samples, held });
            }
            answers.push((task.site.as_str(), answer));
        }
        Ok((self.means(&answers), stored, refused))
    }

    /// The means of metrics over sites, weighted by samples.
    pub(super) fn means(&self, answers: &[(&str, Answer)]) -> BTreeMap<String, f64> {
        let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for (site, answer) in answers.iter().filter(|(_, answer)| answer.code == ReturnCode::Ok) {
            let rows = answer.samples.max(1) as f64;
            let is_central = self.central.as_ref().is_some_and(|central| central.name == *site);
            for (name, value) in answer.metrics.iter().filter(|(_, value)| value.is_finite()) {
                let name = if is_central { format!("central/{name}") } else { name.clone() };
                let sum = sums.entry(name).or_default();
                *sum = (sum.0 + rows * value, sum.1 + rows);
            }
        }
        sums.into_iter().map(|(name, (sum, rows))| (name, sum / rows)).collect()
    }

    fn best(
        &self,
        progress: &Progress,
        metrics: &BTreeMap<String, f64>,
        round: u64,
    ) -> Option<(f64, u64)> {
        let name = self.federation.keep.best.as_deref()?;
        let (name, is_smaller) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let Some(value) = metrics.get(name) else { return progress.best };
        match progress.best {
            Some((best, _))
                if (is_smaller && *value >= best) || (!is_smaller && *value <= best) =>
            {
                progress.best
            }
            _ => Some((*value, round)),
        }
    }

    pub(crate) async fn do_finish(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        let progress = self.stands();
        if progress.state == State::Completed {
            return Ok(());
        }
        let (db, uuid) = (ctx.db()?, self.uuid()?);
        let removes = self.options.delete_local_models_after_aggregation;
        updates::release(&db, &uuid, &input.spent, removes).await?;
        if removes {
            updates::remove_all(&db, &uuid).await?;
        }
        cancel_tasks(ctx, &input.pending).await?;
        let progress = Progress { state: State::Completed, ..progress };
        ctx.set(&self.progress, progress.clone())?;
        let sites = self.present(ctx).await?;
        let mut jobs = RoundJobs::of(ctx, &uuid);
        self.notify(&mut jobs, NotificationType::TrainingFinished, &input, &progress, &sites);
        self.notify_owner(&mut jobs, NotificationType::TrainingFinished, &input, &progress);
        jobs.spawn(ctx)?;
        updates::forget(&uuid);
        Ok(())
    }
}
