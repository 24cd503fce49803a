//! From the updates of the sites to the next global model.

use super::{
    RoundJobs,
    open::{daisy_chain, start_of},
    quorum::cancel_tasks,
};
use crate::{
    Aggregated, Update,
    state::{Counted, GlobalModel, KeptModel, PhaseInput, Progress, State, TaskInput, TaskRef},
    training::FederatedTraining,
    update::{GLOBAL, check_same_layout},
    updates,
};
use superduper::{Artifact, Error, ErrorKind, JobContext, Result, Tensors};

/// So often are updates asked for again that were lost with a process.
pub(super) const MOST_AGAIN: u32 = 8;

impl FederatedTraining {
    /// Returns the number of updates that the round was ended with; 0 where it was ended before, or
    /// where sites are asked again.
    pub(crate) fn do_aggregate(&self, ctx: &JobContext) -> Result<usize> {
        let input: PhaseInput = ctx.input()?;
        let pending = input.pending.clone();
        let done = self.next_model(ctx, input);
        if done.is_err() && !pending.is_empty() {
            // Nothing must keep the run open: the training is ERROR now.
            tokio::runtime::Handle::current().block_on(cancel_tasks(ctx, &pending))?;
        }
        done
    }

    fn next_model(&self, ctx: &JobContext, input: PhaseInput) -> Result<usize> {
        let progress = self.stands();
        if progress.round != input.round {
            return Ok(0);
        }
        let runtime = tokio::runtime::Handle::current();
        let uuid = self.uuid()?;
        let (updates, lost) = runtime.block_on(self.fetch_all(ctx, &uuid, &input))?;
        if !lost.is_empty() {
            return self.ask_again(ctx, input, &lost).map(|()| 0);
        }
        let done = input.round + 1;
        if self.is_daisy_chained(done) {
            self.report_round(ctx, &uuid, (done, "train"), &input.tasks)?;
            return self.pass_on(ctx, input, progress).map(|()| updates.len());
        }
        let global = self.global.get()?;
        let weights = runtime.block_on(self.global_weights(&uuid, &global))?;
        let optimizer = match &global.optimizer {
            Some(state) => Tensors::clone(&*runtime.block_on(state.get())?),
            None => Tensors::new(),
        };
        let made = runtime.block_on(async {
            // Its elements were looked at when the update came.
            updates.iter().try_for_each(|update| update.check_global_layout(&weights))?;
            self.strategy.aggregate(input.round, &weights, &optimizer, &updates).await
        });
        // The same updates give the same error.
        let Aggregated { weights: made, state } = made.map_err(Error::fatal)?;
        let saved = self
            .persistor
            .save(&made, done, &self.persist_context(Some(ctx), &uuid)?)
            .map_err(|error| error.context(format_args!("saving the model of round {done}")))?;
        let weights = match saved {
            Some(saved) => {
                let whose = "what the persistor saved";
                check_same_layout(whose, &saved, &weights, GLOBAL).map_err(Error::fatal)?;
                saved
            }
            None => made,
        };
        self.report_round(ctx, &uuid, (done, "train"), &input.tasks)?;
        let next = self.next_global(&global, &progress, done, &weights, state);
        updates::remember(&uuid, &next.weights, &weights);
        ctx.set(&self.global, next)?;
        let swag = matches!(self.uncertainty, crate::config::UncertaintyMethod::Swag { .. });
        let state = if swag { State::SwagRound } else { State::Ongoing };
        let progress = Progress { round: done, state, ..progress };
        ctx.set(&self.progress, progress.clone())?;
        let spent = input.spent.iter().chain(&input.answers).cloned().collect();
        let (answers, tasks) = (Vec::new(), Vec::new());
        let next = PhaseInput { round: done, spent, answers, tasks, again: 0, ..input };
        if swag {
            self.spawn_swag(ctx, next, &progress)?;
        } else {
            self.spawn_after(ctx, next, &progress)?;
        }
        Ok(updates.len())
    }

    /// Whether a round hands models on instead of aggregating them.
    pub(crate) fn is_daisy_chained(&self, done: u64) -> bool {
        let period = self.strategy.client().daisy_chain_period;
        period > 1 && !done.is_multiple_of(period) && done < self.federation.num_rounds
    }

    /// End a round in which models are handed on: the global model stays.
    fn pass_on(&self, ctx: &JobContext, input: PhaseInput, progress: Progress) -> Result<()> {
        let global = self.global.get()?;
        let done = input.round + 1;
        // The weights of the global model are those of an earlier round, under a new number.
        ctx.set(&self.global, GlobalModel { round: done, ..(*global).clone() })?;
        ctx.set(&self.progress, Progress { round: done, ..progress })?;
        let next = PhaseInput { round: done, again: 0, tasks: Vec::new(), ..input };
        self.spawn_open(ctx, next)
    }

    /// The updates, and the answers whose updates were lost with a process.
    async fn fetch_all(
        &self,
        ctx: &JobContext,
        uuid: &str,
        input: &PhaseInput,
    ) -> Result<(Vec<Update>, Vec<Counted>)> {
        let db = ctx.db()?;
        let (mut updates, mut lost) = (Vec::with_capacity(input.answers.len()), Vec::new());
        for counted in &input.answers {
            match updates::fetch(&db, uuid, counted).await? {
                Some(update) => updates.push(update),
                None => lost.push(counted.clone()),
            }
        }
        Ok((updates, lost))
    }

    /// Let sites repeat what was lost with a process, and gather then.
    fn ask_again(&self, ctx: &JobContext, input: PhaseInput, lost: &[Counted]) -> Result<()> {
        if input.again >= MOST_AGAIN {
            let text = format!(
                "round {}: updates were lost with their processes {MOST_AGAIN} times",
                input.round
            );
            return Err(Error::new(ErrorKind::User, text)
                .with_hint("set `federation.memory` to 0, so that updates are stored")
                .fatal());
        }
        let input = PhaseInput { again: input.again + 1, run: self.here(ctx).run, ..input };
        ctx.log(format_args!("round {}: {} updates were lost", input.round, lost.len()));
        let (mut tasks, mut keys) = (Vec::new(), Vec::new());
        let mut jobs = RoundJobs::of(ctx, &self.uuid()?);
        // In a daisy-chained round the sites start from each other's models, which are still there.
        let starts = daisy_chain(&input.spent, self.seed, input.round);
        for Counted { task, .. } in &input.answers {
            if !lost.iter().any(|lost| lost.task == *task) {
                tasks.push(task.clone());
                continue;
            }
            let key = input.key(&format!("train/{}", task.site));
            let again = TaskInput {
                name: "train".to_owned(),
                site: task.site.clone(),
                round: task.round,
                from: start_of(&starts, &task.site),
                process: updates::process().to_owned(),
                // After a second loss, nothing is left in memory.
                store: input.again > 1,
            };
            self.plan_task(&mut jobs, &key, self.site(&task.site)?, again);
            keys.push(key.clone());
            tasks.push(TaskRef { key, run: input.run, ..task.clone() });
        }
        // Those that failed belong to the report of the round.
        let is_known = |task: &TaskRef| {
            tasks.iter().any(|known| known.site == task.site)
                || input.pending.iter().any(|known| known.site == task.site)
        };
        let refused: Vec<TaskRef> =
            input.tasks.iter().filter(|task| !is_known(task)).cloned().collect();
        tasks.extend(input.pending.iter().filter(|task| task.run == input.run).cloned());
        tasks.extend(refused);
        let next = PhaseInput { tasks, answers: Vec::new(), pending: Vec::new(), ..input };
        jobs.add(jobs.job(next.key("gather"), "gather").after_end(keys).input(next));
        jobs.spawn(ctx)
    }

    /// The newest global weights, from memory where this process has them.
    pub(crate) async fn global_weights(&self, uuid: &str, global: &GlobalModel) -> Result<Tensors> {
        if let Some(weights) = updates::remembered(uuid, &global.weights) {
            return Ok(weights);
        }
        let stored = global.weights.get().await?;
        // Read once for all sites of the round.
        let mut weights = Tensors::new();
        for name in stored.names() {
            weights.insert(name, stored.get(name).await?)?;
        }
        updates::remember(uuid, &global.weights, &weights);
        Ok(weights)
    }

    fn next_global(
        &self,
        global: &GlobalModel,
        progress: &Progress,
        done: u64,
        weights: &Tensors,
        state: Tensors,
    ) -> GlobalModel {
        let mut kept = global.kept.clone();
        kept.push(KeptModel { round: global.round, weights: global.weights.clone() });
        let best = progress.best.map(|(_, round)| round);
        let last = self.federation.keep.last as u64;
        kept.retain(|model| model.round + last >= done || Some(model.round) == best);
        GlobalModel {
            round: done,
            weights: Artifact::new(weights.clone()),
            optimizer: (!state.is_empty()).then(|| Artifact::new(state)),
            first_moment: global.first_moment.clone(),
            second_moment: global.second_moment.clone(),
            kept,
        }
    }

    /// What follows an aggregation: a test, the next round, or the end.
    pub(crate) fn spawn_after(
        &self,
        ctx: &JobContext,
        next: PhaseInput,
        progress: &Progress,
    ) -> Result<()> {
        let rounds = self.federation.num_rounds;
        if self.options.tests(next.round, rounds) {
            let sites = tokio::runtime::Handle::current().block_on(self.present(ctx))?;
            let mut jobs = RoundJobs::of(ctx, &self.uuid()?);
            self.plan_tests(&mut jobs, &sites, next, progress);
            return jobs.spawn(ctx);
        }
        if next.round >= rounds {
            return self.spawn_last(ctx, next);
        }
        self.spawn_open(ctx, next)
    }
}
