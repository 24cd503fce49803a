//! Notifications: each is a job, recorded with the decision that caused it.

use super::RoundJobs;
use crate::{
    departure::Departure,
    notify::{Delivery, Endpoint, Notification, NotificationBody, NotificationType},
    site::Site,
    state::{PhaseInput, Progress},
    training::FederatedTraining,
};
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, time::Duration};
use superduper::{
    Db, Error, JobContext, JobPolicy, Result,
    store::{JobFilter, JobState},
};

/// So many deliveries of a database run at once. They do not take places of other jobs.
const AT_ONCE: usize = 64;

/// What a delivery job is told.
#[derive(Serialize, Deserialize)]
struct DeliveryInput {
    /// The site; `None` for the owner of the training.
    #[serde(default)]
    site: Option<String>,
    notification: Notification,
}

impl FederatedTraining {
    /// The sites that have not left.
    pub(crate) async fn present(&self, ctx: &JobContext) -> Result<Vec<&Site>> {
        let gone = Departure::all(&ctx.db()?, &self.uuid()?).await?;
        let is_here = |site: &&Site| !gone.iter().any(|(name, _)| *name == site.name);
        Ok(self.sites.iter().filter(is_here).collect())
    }

    /// Tell these sites, where they have an endpoint.
    pub(crate) fn notify(
        &self,
        jobs: &mut RoundJobs,
        what: NotificationType,
        input: &PhaseInput,
        progress: &Progress,
        sites: &[&Site],
    ) {
        for site in sites.iter().filter(|site| site.endpoint.is_some()) {
            self.plan_delivery(jobs, what, input, progress, Some(&site.name), None);
        }
    }

    /// Tell the owner of the training, where it has an endpoint.
    pub(crate) fn notify_owner(
        &self,
        jobs: &mut RoundJobs,
        what: NotificationType,
        input: &PhaseInput,
        progress: &Progress,
    ) {
        if self.actor.is_some() {
            self.plan_delivery(jobs, what, input, progress, None, None);
        }
    }

    fn plan_delivery(
        &self,
        jobs: &mut RoundJobs,
        what: NotificationType,
        input: &PhaseInput,
        progress: &Progress,
        site: Option<&str>,
        client: Option<&str>,
    ) {
        use NotificationType::{ModelTestRound, SwagRoundStart, TrainingStart, UpdateRoundStart};
        let uuid = &jobs.uuid;
        let has_round = matches!(what, UpdateRoundStart | SwagRoundStart | ModelTestRound);
        let about = match client {
            Some(client) => client.to_owned(),
            None if what == TrainingStart => String::new(),
            None => input.key(""),
        };
        let to = site.map_or_else(|| "owner".to_owned(), |site| format!("site/{site}"));
        let body = NotificationBody {
            round: has_round.then_some(input.round),
            global_model_uuid: client.is_none().then(|| progress.model_uuid.clone()),
            client: client.map(str::to_owned),
        };
        let notification = Notification {
            notification_type: what,
            body,
            training_uuid: uuid.clone(),
            idempotency_key: format!("{uuid}/{}/{about}/{to}", what.name()),
        };
        let key = format!("notify/{}/{about}/{to}", what.name());
        let delivery = &self.federation.delivery;
        let policy = JobPolicy {
            pool: Some(("federated deliveries".to_owned(), AT_ONCE)),
            retries: Some(delivery.retries),
            backoff: Duration::try_from_secs_f64(delivery.pause).ok(),
            ..JobPolicy::default()
        };
        let told = DeliveryInput { site: site.map(str::to_owned), notification };
        let spawned = jobs.job(key, "deliver").input(told).policy(policy);
        let spawned = match what {
            // A site hears of the training before it hears of the first round.
            UpdateRoundStart if input.first => {
                spawned.after_end([format!("notify/TRAINING_START//{to}")])
            }
            _ => spawned,
        };
        jobs.add(spawned.tolerated());
    }

    pub(crate) async fn do_deliver(&self, ctx: &JobContext) -> Result<()> {
        let DeliveryInput { site, notification } = ctx.input()?;
        let endpoint: Option<&dyn Endpoint> = match &site {
            Some(site) => self.site(site)?.endpoint.as_deref(),
            None => self.actor.as_deref(),
        };
        let Some(endpoint) = endpoint else { return Ok(()) };
        let why = match endpoint.deliver(&notification).await {
            Ok(Delivery::Accepted) => return Ok(()),
            Ok(Delivery::Rejected(why)) => format!("it rejected a notification: {why}"),
            Err(error) if ctx.attempt() > self.federation.delivery.retries => {
                format!("it could not be told: {error}")
            }
            // Tried again after a pause.
            Err(error) => return Err(error.retryable()),
        };
        let Some(site) = site else {
            return Err(Error::new(superduper::ErrorKind::User, why).fatal());
        };
        ctx.log(format_args!("site `{site}` leaves the training: {why}"));
        let db = ctx.db()?;
        Departure::record(&db, &notification.training_uuid, &site, &why).await?;
        self.wake(ctx, &site).await?;
        if notification.notification_type != NotificationType::TrainingFinished {
            let left = Departure::all(&db, &notification.training_uuid).await?;
            let gone = left.into_iter().map(|(site, _)| site).chain([site]).collect();
            let mut jobs = RoundJobs::of(ctx, &notification.training_uuid);
            self.plan_departures(&mut jobs, &gone);
            jobs.spawn(ctx)?;
        }
        Ok(())
    }

    /// Tell the sites that are left which ones have left, each once in a run.
    pub(crate) fn plan_departures(&self, jobs: &mut RoundJobs, gone: &HashSet<String>) {
        let (progress, input) = (self.stands(), PhaseInput::default());
        let has_endpoint = |site: &&Site| site.endpoint.is_some() && !gone.contains(&site.name);
        for site in self.sites.iter().filter(has_endpoint) {
            for client in gone {
                let what = NotificationType::ClientRemoved;
                self.plan_delivery(jobs, what, &input, &progress, Some(&site.name), Some(client));
            }
        }
    }

    /// Let the waiting jobs of a site look again.
    async fn wake(&self, ctx: &JobContext, site: &str) -> Result<()> {
        let method = Some("remote_task".to_owned());
        let filter = JobFilter { run: ctx.run_id(), method, ..JobFilter::default() };
        wake_jobs(&ctx.db()?, filter, site).await.map(|_| ())
    }
}

/// Let the blocked jobs of a site, among those of a filter, look again. Returns how many there were.
pub(crate) async fn wake_jobs(db: &Db, filter: JobFilter, site: &str) -> Result<usize> {
    let blocked = JobFilter { states: Some(vec![JobState::Blocked]), ..filter };
    let end = format!("/{site}");
    let (mut woken, mut failed) = (0, None);
    for job in db.jobs(blocked).await? {
        if job.key.as_deref().is_some_and(|key| key.ends_with(&end)) {
            // One that cannot be woken does not keep the others waiting.
            match unblock(db, job.id).await {
                Ok(()) => woken += 1,
                Err(error) => failed = Some(error),
            }
        }
    }
    failed.map_or(Ok(woken), Err)
}

/// Unblock a job; one that is not blocked any more has looked already, or will.
pub(crate) async fn unblock(db: &Db, job: superduper::store::JobId) -> Result<()> {
    match db.unblock(job).await {
        Ok(()) => Ok(()),
        Err(error) => match db.job(job).await?.state {
            JobState::Blocked => Err(error),
            _ => Ok(()),
        },
    }
}
