//! The job of a site.

use crate::{
    Update, apply_filters,
    departure::Departure,
    executor::{Reply, ReturnCode, Task},
    gate::{Decision, Request},
    site::{Site, SiteData},
    site_context::SiteContext,
    state::{Answer, Held, TaskInput},
    training::FederatedTraining,
    updates::{self, LocalModel},
};
use serde_json::{Map, Value};
use std::sync::Arc;
use superduper::{Address, ErrorKind, JobContext, Result, Tensors};
use superduper_train::Rng;
use tokio::runtime::Handle;

/// Whether a site takes part.
enum TakesPart {
    /// It does; with what its gate adds to the answer.
    Yes(Option<Value>),
    /// It does not; with its answer.
    No(Answer),
}

impl FederatedTraining {
    pub(crate) fn do_site_task(&self, ctx: &JobContext) -> Result<Answer> {
        let input: TaskInput = ctx.input()?;
        let (runtime, uuid) = (Handle::current(), self.uuid()?);
        let site = self.site(&input.site)?;
        let statement = match runtime.block_on(self.may_take_part(ctx, site, &input, &uuid))? {
            TakesPart::Yes(statement) => statement,
            TakesPart::No(answer) => return Ok(answer),
        };
        let Some(weights) = runtime.block_on(self.starting_weights(ctx, &uuid, &input))? else {
            let reason = "the model of another site, to start from, is lost";
            let answer = Answer::failed(ReturnCode::BadTaskData, reason);
            return Ok(Answer { statement, ..answer });
        };
        let name = format!("{}/{}/{}", site.name, input.name, input.round);
        let (model, num_classes) = (self.resolved_model()?, self.num_classes());
        let mut context = SiteContext {
            job: ctx,
            site,
            model: model.clone(),
            args: self.config.args_with(num_classes)?,
            num_classes,
            client: self.strategy.client(),
            round: input.round,
            seed: Rng::named(self.seed, &name).next_u64(),
            runtime: runtime.clone(),
            replaced: runtime.block_on(self.data_of(ctx, site))?,
            private: Map::new(),
            public: Map::new(),
        };
        let task = Task { name: input.name.clone(), round: input.round };
        let reply = match self.executor.execute(&task, weights.clone(), &mut context) {
            Ok(reply) => reply,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                let retries = site.jobs.retries.unwrap_or(0);
                if error.is_retryable() && ctx.attempt() <= retries {
                    return Err(error);
                }
                Reply::failed(ReturnCode::ExecutionException, error.to_string())
            }
        };
        let properties = context.public;
        for (name, value) in &reply.metrics {
            if value.is_finite() {
                ctx.metric(name, input.round, *value);
            }
        }
        let answer = runtime.block_on(self.answer(ctx, &uuid, &input, &weights, reply))?;
        Ok(Answer { properties, statement, ..answer })
    }

    /// The data of a site, if it is not in the training itself.
    async fn data_of(&self, ctx: &JobContext, site: &Site) -> Result<Option<Arc<dyn SiteData>>> {
        match &site.data {
            Some(data) => data.load(&ctx.db()?, &site.name).await,
            None => Ok(None),
        }
    }

    /// Whether the site takes part.
    async fn may_take_part(
        &self,
        ctx: &JobContext,
        site: &Site,
        input: &TaskInput,
        uuid: &str,
    ) -> Result<TakesPart> {
        let request = || self.request(ctx.address(), uuid, site, (&input.name, input.round));
        let (decision, statement) = site.ask_gates(&ctx.db()?, request).await?;
        match decision {
            Decision::Allow => Ok(TakesPart::Yes(statement)),
            Decision::Deny(reason) => {
                let answer = Answer::failed(ReturnCode::NotPermitted, reason);
                Ok(TakesPart::No(Answer { statement, ..answer }))
            }
            Decision::Block { reason, read } => Err(ctx.block(reason).as_read(&read).into()),
        }
    }

    /// What a gate is asked.
    pub(crate) fn request(
        &self,
        training: &Address,
        uuid: &str,
        site: &Site,
        (task, round): (&str, u64),
    ) -> Result<Request> {
        Ok(Request {
            training: training.clone(),
            training_uuid: uuid.to_owned(),
            site: site.name.clone(),
            round,
            task: task.to_owned(),
            model: self.resolved_model()?.kind().to_owned(),
            executor: self.executor.typetag_name().to_owned(),
            // Of what would run here, whatever another program has applied.
            source_digest: self.source_digest()?.to_hex(),
            source_is_whole: self.uncovered_source()?.is_empty(),
            is_preview: false,
            jobs_executor: site.jobs.executor.clone(),
            terms: self.terms(site)?.to_hex(),
            is_default: self.is_default()?,
            is_sandboxed: self.carried_code()?.is_some() && self.is_default()?,
            submitter: self.submitter.clone(),
        })
    }

    /// The weights that a site starts from: the global ones, or those of another site.
    async fn starting_weights(
        &self,
        ctx: &JobContext,
        uuid: &str,
        input: &TaskInput,
    ) -> Result<Option<Tensors>> {
        match &input.from {
            Some(from) => {
                let update = updates::fetch(&ctx.db()?, uuid, from).await?;
                Ok(update.map(|update| update.tensors))
            }
            None => self.global_weights(uuid, &*self.global.get()?).await.map(Some),
        }
    }

    /// Check a reply, filter its update, and let it wait.
    async fn answer(
        &self,
        ctx: &JobContext,
        uuid: &str,
        input: &TaskInput,
        global: &Tensors,
        reply: Reply,
    ) -> Result<Answer> {
        let Reply { code, reason, samples, tensors, second, metrics } = reply;
        let metrics = metrics.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let answer = Answer { reason, samples, metrics, ..Answer::failed(code, "") };
        if code != ReturnCode::Ok || input.name == "test" {
            return Ok(answer);
        }
        let bad = |what: String| Answer::failed(ReturnCode::BadTaskData, what);
        let site = self.site(&input.site)?;
        let update = match (tensors, second) {
            (Some(first), Some(second)) if input.name == "swag" => {
                for moment in [&first, &second] {
                    let alike = Update::new(&input.site, samples, moment.clone());
                    if let Err(error) = alike.check_global_layout(global) {
                        return Ok(bad(error.to_string()));
                    }
                }
                Update::new(&input.site, samples, updates::joined(&first, &second).await?)
            }
            (Some(tensors), None) if input.name == "predict" => {
                Update::new(&input.site, samples, tensors)
            }
            (Some(tensors), None) if input.name == "train" => {
                let update = Update::new(&input.site, samples, tensors);
                // The noise of a filter must not be a function of what is on record.
                let seed = uuid::Uuid::new_v4().as_u64_pair().0;
                match apply_filters(&site.filters, input.round, global, update, seed).await {
                    Ok(update) => update,
                    Err(error) => return Ok(bad(error.to_string())),
                }
            }
            _ => return Ok(bad("the answer has not the tensors of its task".to_owned())),
        };
        if let Err(error) = update.check_finite().await {
            return Ok(bad(error.to_string()));
        }
        let held = self.hold(ctx, uuid, input, update).await?;
        Ok(Answer { held: Some(held), ..answer })
    }

    /// Let an update wait for its aggregation.
    async fn hold(
        &self,
        ctx: &JobContext,
        uuid: &str,
        task: &TaskInput,
        update: Update,
    ) -> Result<Held> {
        let name = LocalModel::name(uuid, &task.name, task.round, &task.site);
        let keeps = !self.options.delete_local_models_after_aggregation;
        let may_wait = !task.store && !keeps && task.process == updates::process();
        if may_wait && updates::hold_in_memory(uuid, &name, &update, self.federation.memory) {
            return Ok(Held::Memory(task.process.clone()));
        }
        updates::store(&ctx.db()?, LocalModel::new(name.clone(), uuid, task, &update)).await?;
        Ok(Held::Stored(name))
    }

    /// Wait for the answer of a remote site.
    pub(crate) async fn do_remote_task(&self, ctx: &JobContext) -> Result<Answer> {
        let input: TaskInput = ctx.input()?;
        let (db, uuid) = (ctx.db()?, self.uuid()?);
        if let Some(reason) = Departure::of(&db, &uuid, &input.site).await? {
            return Ok(Answer::failed(ReturnCode::Left, reason));
        }
        let name = LocalModel::name(&uuid, &input.name, input.round, &input.site);
        match db.load::<LocalModel>(name.as_str()).await {
            Ok(local) => Ok(Answer {
                samples: local.samples,
                metrics: local.metrics.clone(),
                held: Some(Held::Stored(name)),
                ..Answer::failed(ReturnCode::Ok, "")
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // An answer, or a departure, that comes before this block is recorded wakes the job.
                let read = [
                    Address::of::<LocalModel>(name),
                    Address::of::<Departure>(Departure::name(&uuid, &input.site)),
                ];
                let what = format!("the answer of site `{}` to {}", input.site, input.name);
                Err(ctx.block(what).as_read(&read).into())
            }
            Err(error) => Err(error),
        }
    }
}
