//! The end of a round: which answers count.

use super::{
    RoundJobs,
    quorum::{Heard, cancel_key, cancel_tasks, heard},
};
use crate::{
    config::Late,
    executor::ReturnCode,
    state::{Counted, PhaseInput, TaskRef},
    training::FederatedTraining,
};
use superduper::{Error, ErrorKind, JobContext, Result};

impl FederatedTraining {
    pub(crate) async fn do_gather(&self, ctx: &JobContext) -> Result<()> {
        let input: PhaseInput = ctx.input()?;
        if self.stands().round != input.round {
            return Ok(());
        }
        if ctx.run_id().is_some_and(|run| run.0 != input.run) {
            // A retry of a round that had too few answers: the sites are asked again.
            let again = PhaseInput {
                round: input.round,
                again: input.again + 1,
                answers: input.spent, // what sites start from in a daisy-chained round
                ..self.here(ctx)
            };
            return self.spawn_open(ctx, again);
        }
        let mut found = Gathered::default();
        for task in &input.tasks {
            match heard(ctx, task).await? {
                Heard::Waiting => found.waiting.push(task.clone()),
                Heard::Answered(answer) => match (answer.code, answer.held) {
                    (ReturnCode::Ok, Some(held)) => found.counted.push(Counted {
                        task: task.clone(),
                        samples: answer.samples,
                        held,
                    }),
                    (ReturnCode::Ok, None) => {
                        found.refused.push(format!("`{}`: an answer without tensors", task.site));
                    }
                    (code, _) => {
                        found.refused.push(format!("`{}`: {code}: {}", task.site, answer.reason));
                    }
                },
            }
        }
        self.stop_waiting(ctx, &input, &found.waiting).await?;
        found.refused.iter().for_each(|refused| ctx.log(format_args!("site {refused}")));
        if found.counted.len() < self.least() {
            // Nothing must keep the run open: the training is ERROR now.
            cancel_tasks(ctx, &found.waiting).await?;
            return Err(self.below_quorum(input.round, &found));
        }
        let pending = match self.federation.late {
            Late::Drop => Vec::new(),
            Late::NextRound => found.waiting,
        };
        // A strategy sees them in the same order, whoever answered first.
        let place = |one: &Counted| self.sites.iter().position(|site| site.name == one.task.site);
        found.counted.sort_by_key(place);
        // For the report of the round; else they are not needed any more.
        let tasks = if self.persistor.wants_reports() { input.tasks } else { Vec::new() };
        let next = PhaseInput { answers: found.counted, pending, tasks, ..input };
        let mut jobs = RoundJobs::of(ctx, &self.uuid()?);
        Self::plan_aggregation(&mut jobs, &next);
        jobs.spawn(ctx)
    }

    /// The job that makes the next global model.
    pub(crate) fn plan_aggregation(jobs: &mut RoundJobs, input: &PhaseInput) {
        jobs.add(jobs.job(input.key("aggregate"), "aggregate").input(input));
    }

    /// End the timers of the round and, where late answers are dropped, the jobs of late sites.
    async fn stop_waiting(
        &self,
        ctx: &JobContext,
        input: &PhaseInput,
        waiting: &[TaskRef],
    ) -> Result<()> {
        let run = self.here(ctx).run;
        if self.federation.round_deadline.is_some() {
            cancel_key(ctx, run, &input.key("deadline")).await?;
        }
        if self.federation.min_clients > 0 {
            cancel_key(ctx, run, &input.key("wait")).await?;
        }
        for task in waiting {
            ctx.log(format_args!("site `{}` is late in round {}", task.site, input.round));
        }
        match self.federation.late {
            Late::Drop => cancel_tasks(ctx, waiting).await,
            Late::NextRound => Ok(()),
        }
    }

    fn below_quorum(&self, round: u64, found: &Gathered) -> Error {
        let late = found.waiting.iter().map(|task| format!("`{}`: no answer in time", task.site));
        let reasons: Vec<String> = found.refused.iter().cloned().chain(late).collect();
        let text = format!(
            "round {round} needs {} answers, but has {}; {}",
            self.least(),
            found.counted.len(),
            reasons.join("; ")
        );
        Error::new(ErrorKind::User, text)
            .with_hint("apply the training again to ask the sites again, or lower `min_clients`")
            .fatal()
    }
}

#[derive(Default)]
struct Gathered {
    counted: Vec<Counted>,
    waiting: Vec<TaskRef>,
    refused: Vec<String>,
}
