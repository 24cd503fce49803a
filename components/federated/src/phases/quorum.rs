//! When a round is closed: all have answered, or enough have and the others had their time.

use super::RoundJobs;
use crate::{
    executor::ReturnCode,
    state::{Answer, PhaseInput, TaskRef},
    training::FederatedTraining,
};
use superduper::{
    JobContext, Result, Spawn,
    store::{JobFilter, JobRow, JobState, RunId, Timestamp},
};

/// What became of a site's job.
pub(crate) enum Heard {
    /// It is over.
    Answered(Answer),
    /// It is not over.
    Waiting,
}

impl FederatedTraining {
    /// Plan the jobs that close a round.
    pub(crate) fn plan_closing(&self, jobs: &mut RoundJobs, input: &PhaseInput, opened: Timestamp) {
        let least = self.federation.min_clients;
        let has_remote = self.sites.iter().any(|site| !site.is_embedded());
        // With `min_clients` a round may end before all have answered: because enough have, or
        // because not enough will.
        let is_flexible = least > 0 && (least < input.tasks.len() || has_remote);
        let has_deadline = self.plan_deadline(jobs, input, opened);
        let keys: Vec<&str> = input.tasks.iter().map(|task| task.key.as_str()).collect();
        if is_flexible {
            for task in &input.tasks {
                let key = input.key(&format!("heard/{}", task.site));
                jobs.add(jobs.job(key, "heard").after_end([&task.key]).input(input));
            }
            return;
        }
        // A deadline may gather first: then what follows the last answer must not wait for it.
        let (phase, trigger) = if has_deadline { ("heard", "heard") } else { ("gather", "gather") };
        jobs.add(jobs.job(input.key(phase), trigger).after_end(&keys).input(input));
    }

    /// Plan the timer of a deadline, if there is one.
    fn plan_deadline(&self, jobs: &mut RoundJobs, input: &PhaseInput, opened: Timestamp) -> bool {
        let Some(deadline) = self.federation.round_deadline else { return false };
        let at = Some(opened.0.saturating_add((deadline * 1000.0) as i64));
        let timer = PhaseInput { at, ..input.clone() };
        jobs.add(jobs.job(input.key("deadline"), "timer").input(timer).tolerated());
        true
    }

    /// Plan the timer that ends a model test or the reports of moments.
    pub(crate) fn plan_cutoff(&self, jobs: &mut RoundJobs, input: &PhaseInput, what: &str) {
        let Some(deadline) = self.federation.round_deadline else { return };
        let at = Some(Timestamp::now().0.saturating_add((deadline * 1000.0) as i64));
        let timer = PhaseInput { at, ..input.clone() };
        let key = input.key(&format!("{what} deadline"));
        jobs.add(jobs.job(key, "cutoff").input(timer).tolerated());
    }

    /// Cancel the jobs of sites that did not answer in time.
    pub(crate) async fn do_cutoff(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        let at = Timestamp(input.at.unwrap_or_default());
        if Timestamp::now() < at {
            return Err(ctx.block(format!("answers are awaited until {at}")).until(at).into());
        }
        cancel_tasks(ctx, &input.tasks).await
    }

    fn spawn_gather(&self, ctx: &JobContext, input: PhaseInput) -> Result<()> {
        let key = input.key("gather");
        // A key that the run has already adds nothing: a round is gathered once.
        let input = PhaseInput { at: None, ..input };
        ctx.spawn_with(Spawn::new(key, ctx.address(), "gather").input(input))
    }

    pub(crate) async fn do_heard(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        if self.stands().round != input.round {
            return Ok(());
        }
        let (mut good, mut waiting) = (0, 0);
        for task in &input.tasks {
            match heard(ctx, task).await? {
                Heard::Answered(answer) => good += usize::from(answer.code == ReturnCode::Ok),
                Heard::Waiting => waiting += 1,
            }
        }
        if waiting == 0 || good + waiting < self.least() {
            return self.spawn_gather(ctx, input);
        }
        let least = self.federation.min_clients;
        if least == 0 || good < least {
            return Ok(());
        }
        let wait = self.federation.wait_time_after_min_received;
        if wait <= 0.0 {
            return self.spawn_gather(ctx, input);
        }
        // The first one that sees the quorum sets the time; later ones add nothing.
        let at = Some(Timestamp::now().0.saturating_add((wait * 1000.0) as i64));
        let key = input.key("wait");
        let timer = Spawn::new(key, ctx.address(), "timer").input(PhaseInput { at, ..input });
        ctx.spawn_with(timer.tolerated())
    }

    pub(crate) async fn do_timer(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        if self.stands().round != input.round {
            return Ok(());
        }
        let at = Timestamp(input.at.unwrap_or_default());
        if Timestamp::now() < at {
            return Err(ctx
                .block(format!("round {} is open until {at}", input.round))
                .until(at)
                .into());
        }
        self.spawn_gather(ctx, input)
    }
}

/// What became of a site's job.
pub(crate) async fn heard(ctx: &JobContext, task: &TaskRef) -> Result<Heard> {
    let Some(row) = job_of(ctx, task.run, &task.key).await? else {
        let reason = format!("run {} has no job `{}`", task.run, task.key);
        return Ok(Heard::Answered(Answer::failed(ReturnCode::ProcessLost, reason)));
    };
    Ok(match row.state {
        JobState::Succeeded => {
            let value = row.result.unwrap_or_default();
            Heard::Answered(ctx.db()?.decode(value, &format!("the answer of `{}`", task.site))?)
        }
        JobState::Failed => Heard::Answered(failure(&row)),
        JobState::Cancelled => {
            Heard::Answered(Answer::failed(ReturnCode::TaskAborted, "the job was cancelled"))
        }
        JobState::Skipped => {
            Heard::Answered(Answer::failed(ReturnCode::TaskAborted, "the job was skipped"))
        }
        _ => Heard::Waiting,
    })
}

/// The job of a key.
pub(crate) async fn job_of(ctx: &JobContext, run: i64, key: &str) -> Result<Option<JobRow>> {
    let filter =
        JobFilter { run: Some(RunId(run)), key: Some(key.to_owned()), ..JobFilter::default() };
    Ok(ctx.db()?.jobs(filter).await?.pop())
}

/// Cancel a job by its key, unless it is over.
pub(crate) async fn cancel_key(ctx: &JobContext, run: i64, key: &str) -> Result<()> {
    match job_of(ctx, run, key).await? {
        Some(job) if !job.state.is_terminal() => ctx.db()?.cancel(job.id).await,
        _ => Ok(()),
    }
}

/// Cancel the jobs of sites that are not over.
pub(crate) async fn cancel_tasks(ctx: &JobContext, tasks: &[TaskRef]) -> Result<()> {
    for task in tasks {
        cancel_key(ctx, task.run, &task.key).await?;
    }
    Ok(())
}

/// A failed job as an answer.
fn failure(row: &JobRow) -> Answer {
    let failure = row.failure.as_ref();
    let text = failure.map_or_else(|| "no reason is on record".to_owned(), ToString::to_string);
    let code = match failure.map(|failure| failure.kind) {
        Some(superduper::FailureKind::Timeout) => ReturnCode::Timeout,
        Some(superduper::FailureKind::WorkerLost) => ReturnCode::ProcessLost,
        _ => ReturnCode::ExecutionException,
    };
    Answer::failed(code, text)
}
