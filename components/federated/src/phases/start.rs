//! The first phase: the initial model, the first notifications, the first round.

use super::RoundJobs;
use crate::{
    notify::NotificationType,
    persistor::PersistContext,
    site::Site,
    state::{GlobalModel, PhaseInput, Progress, Started, State},
    training::FederatedTraining,
    update::check_same_layout,
    updates::remember,
};
use std::time::{Duration, SystemTime};
use superduper::{
    Address, Artifact, Error, JobContext, Result, Spawn, Tensors,
    store::{RunFilter, RunRow},
};

impl FederatedTraining {
    /// Begin, or go on after the number of rounds was raised.
    pub(crate) fn do_start(&self, ctx: &JobContext) -> Result<()> {
        if self.sites.is_empty() {
            return Err(no_participants());
        }
        tokio::runtime::Handle::current().block_on(wait_for_earlier(ctx))?;
        crate::model::entry(self.resolved_model()?.kind())?;
        let mut progress = self.stands();
        let rounds = self.federation.num_rounds;
        if progress.state == State::Completed && progress.round >= rounds {
            return Ok(());
        }
        let begins = progress.state == State::Initial;
        if !self.global.is_set() {
            let uuid = self.uuid()?;
            let persist = self.persist_context(Some(ctx), &uuid)?;
            let weights = self.first_weights(&persist)?;
            let artifact = Artifact::new(weights.clone());
            remember(&uuid, &artifact, &weights);
            let global = GlobalModel {
                round: 0,
                weights: artifact,
                optimizer: None,
                first_moment: None,
                second_moment: None,
                kept: Vec::new(),
            };
            ctx.set(&self.global, global)?;
        }
        let runtime = tokio::runtime::Handle::current();
        let preview_hash = runtime.block_on(self.hash_of_preview(&ctx.db()?))?;
        let source_digest = self.source_digest()?.to_hex();
        ctx.set(&self.started, Started { preview_hash, source_digest })?;
        if begins {
            progress = Progress { model_uuid: uuid::Uuid::new_v4().to_string(), ..progress };
        }
        progress.state = State::Ongoing;
        let next = PhaseInput { round: progress.round, first: begins, ..self.here(ctx) };
        ctx.set(&self.progress, progress.clone())?;
        if begins {
            let sites: Vec<&Site> = self.sites.iter().collect();
            let mut jobs = RoundJobs::of(ctx, &self.uuid()?);
            self.notify(&mut jobs, NotificationType::TrainingStart, &next, &progress, &sites);
            jobs.spawn(ctx)?;
        }
        if next.round >= rounds {
            // A training without rounds: its weights are tested as they are.
            return self.spawn_after(ctx, next, &progress);
        }
        self.spawn_open(ctx, next)
    }

    /// The weights before the first round: those of the training, or those of its persistor.
    fn first_weights(&self, persist: &PersistContext<'_>) -> Result<Tensors> {
        let (whose, weights) = match &self.weights {
            Some(given) => {
                let weights = persist.block_on(given.get())?;
                ("what the training starts from", Tensors::clone(&weights))
            }
            None => ("what the persistor loads", self.persistor.load(persist)?),
        };
        if self.weights.is_some() || !(*self.persistor).class().is_built_in() {
            check_same_layout(whose, &weights, &persist.initial()?, "the model's own weights")
                .map_err(Error::fatal)?;
        }
        Ok(weights)
    }

    /// What a phase is told that this job plans.
    pub(crate) fn here(&self, ctx: &JobContext) -> PhaseInput {
        PhaseInput { run: ctx.run_id().map_or(0, |run| run.0), ..PhaseInput::default() }
    }

    pub(crate) fn spawn_open(&self, ctx: &JobContext, next: PhaseInput) -> Result<()> {
        ctx.spawn_with(Spawn::new(next.key("open"), ctx.address(), "open").input(next))
    }

    pub(crate) fn spawn_finish(&self, ctx: &JobContext, next: PhaseInput) -> Result<()> {
        ctx.spawn_with(Spawn::new("finish", ctx.address(), "finish").input(next))
    }

    /// What a persistor may use; without a job where a program asks.
    pub(crate) fn persist_context<'a>(
        &'a self,
        job: Option<&'a JobContext>,
        uuid: &'a str,
    ) -> Result<PersistContext<'a>> {
        Ok(PersistContext {
            job,
            identifier: &self.identifier,
            model: self.resolved_model()?,
            input: self.input_shape(),
            num_classes: self.num_classes(),
            seed: self.seed,
            uuid,
            runtime: tokio::runtime::Handle::current(),
        })
    }
}

/// Whether a run is one of this version of a training. Runs of other versions have nothing to do
/// with it.
pub(crate) fn is_of_version(run: &RunRow, training: &Address, version: u32) -> bool {
    let root = &run.root;
    root.unversioned() != training.unversioned()
        || root.version.is_none_or(|at| at.version == version)
}

/// Let an earlier run of the training end first: two runs would write over each other's rounds.
async fn wait_for_earlier(ctx: &JobContext) -> Result<()> {
    let filter = RunFilter {
        component: Some(ctx.address().unversioned()),
        unfinished: true,
        ..RunFilter::default()
    };
    let runs = ctx.db()?.runs(filter).await?;
    let is_earlier = |run: &&RunRow| {
        ctx.run_id().is_some_and(|own| run.id < own)
            && is_of_version(run, ctx.address(), ctx.version())
    };
    match runs.iter().find(is_earlier) {
        Some(run) => {
            let soon = SystemTime::now() + Duration::from_secs(1);
            Err(ctx.block(format!("run {} of this training", run.id)).until(soon).into())
        }
        None => Ok(()),
    }
}

/// The error for a training without sites.
pub(crate) fn no_participants() -> Error {
    Error::invalid("at least one participant must be registered")
        .with_hint("add sites to the training")
        .fatal()
}
