//! What remote sites send.

use super::{ModelTrainer, driver::site_of};
use crate::{
    Update,
    config::Late,
    departure::Departure,
    phases::unblock,
    state::{State, TaskInput},
    training::FederatedTraining,
    updates::{self, LocalModel},
};
use std::collections::BTreeMap;
use superduper::{
    Action, Address, Error, ErrorKind, Result, Tensors,
    store::{JobFilter, JobRow, JobState},
};

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// It is on record, and counts unless the round is closed at the same moment.
    Accepted,
    /// An equal answer is on record already; it counts once.
    Repeated,
}

impl ModelTrainer {
    /// Take the update of a site.
    ///
    /// The first update of a site in a round counts. An equal one is acknowledged again.
    ///
    /// # Errors
    /// `NotFound` for a site that is no participant; `InvalidInput` for a training in another
    /// state, another round, names, shapes and types that are not those of the model, and NaN or
    /// infinity; `Conflict` where the site has answered this round with other bytes.
    pub async fn receive_update(
        &self,
        site: &str,
        round: u64,
        samples: u64,
        tensors: Tensors,
    ) -> Result<Receipt> {
        let (training, uuid) = self.expects("train", site, round, State::Ongoing).await?;
        let update = Update::new(site, samples, tensors);
        let global = training.global_weights(&uuid, &*training.global.get()?).await?;
        update.check(&global).await?;
        self.take("train", &uuid, round, update, BTreeMap::new()).await
    }

    /// Take the moments of a site, in a SWAG round. `round` is the number of rounds done.
    ///
    /// # Errors
    /// As for [`receive_update`](ModelTrainer::receive_update), but names, shapes and types are
    /// compared when the moments of all sites are merged.
    pub async fn receive_moments(
        &self,
        site: &str,
        round: u64,
        samples: u64,
        first: Tensors,
        second: Tensors,
    ) -> Result<Receipt> {
        let (training, uuid) = self.expects("swag", site, round, State::SwagRound).await?;
        let global = training.global_weights(&uuid, &*training.global.get()?).await?;
        for moment in [&first, &second] {
            Update::new(site, samples, moment.clone()).check_global_layout(&global)?;
        }
        let update = Update::new(site, samples, updates::joined(&first, &second).await?);
        update.check_finite().await?;
        self.take("swag", &uuid, round, update, BTreeMap::new()).await
    }

    /// Take the metrics of a site, in a model test. `round` is the number of rounds done, `samples`
    /// the number of rows that the site tested on.
    ///
    /// # Errors
    /// As for [`receive_update`](ModelTrainer::receive_update); NaN and infinity are refused with the
    /// name of the metric.
    pub async fn receive_metrics(
        &self,
        site: &str,
        round: u64,
        samples: u64,
        metrics: BTreeMap<String, f64>,
    ) -> Result<Receipt> {
        if let Some((name, value)) = metrics.iter().find(|(_, value)| !value.is_finite()) {
            let text = format!("site `{site}`: the metric `{name}` is {value}");
            return Err(Error::invalid(text));
        }
        let (_, uuid) = self.expects("test", site, round, State::Ongoing).await?;
        self.take("test", &uuid, round, Update::new(site, samples, Tensors::new()), metrics).await
    }

    /// The training, where it waits for this site in this round.
    async fn expects(
        &self,
        task: &str,
        site: &str,
        round: u64,
        wanted: State,
    ) -> Result<(FederatedTraining, String)> {
        let training = self.training().await?;
        training.site(site)?;
        let name = &self.address.identifier;
        let state = self.state().await?;
        if state != wanted {
            return Err(Error::invalid(format!("training `{name}` is in state {state}")));
        }
        let progress = training.stands();
        let may_be_late = task == "train"
            && training.federation.late == Late::NextRound
            && round < progress.round
            && self.job_of(task, round, site).await.is_ok();
        if progress.round != round && !may_be_late {
            let is = progress.round;
            let text = format!("training `{name}` is in round {is}, not in round {round}");
            return Err(Error::invalid(text));
        }
        let uuid = (*training.training_uuid.get()?).clone();
        if let Some(reason) = Departure::of(&self.db, &uuid, site).await? {
            let text = format!("site `{site}` has left training `{name}`: {reason}");
            return Err(Error::invalid(text));
        }
        Ok((training, uuid))
    }

    async fn take(
        &self,
        task: &str,
        uuid: &str,
        round: u64,
        update: Update,
        metrics: BTreeMap<String, f64>,
    ) -> Result<Receipt> {
        let site = update.site.clone();
        let job = self.job_of(task, round, &site).await?;
        let name = LocalModel::name(uuid, task, round, &site);
        let input = TaskInput {
            name: task.to_owned(),
            site: site.clone(),
            round,
            from: None,
            process: String::new(),
            store: true,
        };
        let mut local = LocalModel::new(name.clone(), uuid, &input, &update);
        local.metrics = metrics;
        let receipt = self.keep_first(name, local, &update).await?;
        unblock(&self.db, job.id).await?;
        Ok(receipt)
    }

    /// The job that waits for the answer.
    async fn job_of(&self, task: &str, round: u64, site: &str) -> Result<JobRow> {
        let run = self.run().await?.map(|run| run.id);
        let method = Some("remote_task".to_owned());
        let filter = JobFilter { run, method, ..JobFilter::default() };
        let waiting = vec![JobState::Queued, JobState::Running, JobState::Blocked];
        let open = JobFilter { states: Some(waiting), ..filter.clone() };
        let is_its = |job: &JobRow| {
            job.key.as_deref().and_then(|key| site_of(key, task, round)) == Some(site)
        };
        if let Some(job) = self.db.jobs(open).await?.into_iter().rev().find(&is_its) {
            return Ok(job);
        }
        match self.db.jobs(filter).await?.into_iter().rev().find(is_its) {
            // It has its answer: what comes now is compared with that.
            Some(job) if job.state == JobState::Succeeded => Ok(job),
            Some(_) => Err(Error::invalid(format!("round {round} is closed for site `{site}`"))),
            None => Err(Error::invalid(format!(
                "site `{site}` was not asked to {task} in round {round}, or runs in this database \
                 itself"
            ))),
        }
    }

    /// Put an answer on record, unless there is one.
    async fn keep_first(
        &self,
        name: String,
        local: LocalModel,
        update: &Update,
    ) -> Result<Receipt> {
        let address = Address::of::<LocalModel>(name.as_str());
        let mut local = Some(local);
        // Whoever comes second finds the first one's, in this or the next look.
        for _ in 0..64 {
            match self.db.load::<LocalModel>(address.clone()).await {
                Ok(first) => return same(&first, update, local.as_ref()).await,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let Some(mine) = &local else { break };
            let plan = self.db.plan(mine).await?;
            // Another answer was recorded since the look.
            if !plan.components().iter().any(|planned| planned.action == Action::Create) {
                continue;
            }
            match self.db.apply_plan(plan).jobs(false).await {
                Ok(_) => return Ok(Receipt::Accepted),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        local.take();
        Err(Error::new(ErrorKind::Conflict, format!("`{address}` changes all the time")))
    }
}

/// Whether two answers of a site are equal.
async fn same(first: &LocalModel, update: &Update, mine: Option<&LocalModel>) -> Result<Receipt> {
    let stored = first.weights.get().await?;
    let mut equal = first.samples == update.samples
        && mine.is_some_and(|mine| mine.metrics == first.metrics)
        && stored.names().eq(update.tensors.names());
    for name in update.tensors.names() {
        equal = equal
            && stored.info(name) == update.tensors.info(name)
            && stored.get(name).await?.bytes == update.tensors.get(name).await?.bytes;
    }
    if equal {
        return Ok(Receipt::Repeated);
    }
    let text = format!("site `{}` has answered round {} with other bytes", first.site, first.round);
    Err(Error::new(ErrorKind::Conflict, text))
}
