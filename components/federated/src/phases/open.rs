//! The opening of a round: which sites are asked, from which weights, until when.

use super::{RoundJobs, quorum::cancel_tasks};
use crate::{
    config::Sampling,
    departure::Departure,
    notify::NotificationType,
    site::Site,
    state::{Counted, PhaseInput, Progress, State, TaskInput, TaskRef},
    training::FederatedTraining,
    updates,
};
use std::collections::HashSet;
use superduper::{Error, ErrorKind, JobContext, Result, store::Timestamp};
use superduper_train::Rng;

impl FederatedTraining {
    /// The least number of answers with which a round can be aggregated.
    pub(crate) fn least(&self) -> usize {
        self.federation.min_clients.max(1)
    }

    pub(crate) async fn do_open(&self, ctx: &JobContext) -> Result<()> {
        let given: PhaseInput = ctx.input()?;
        let mut progress = self.stands();
        if progress.state != State::Ongoing || progress.round != given.round {
            return Ok(()); // done before, by another run
        }
        let (db, uuid) = (ctx.db()?, self.uuid()?);
        // Only now is it durable that they are not needed.
        let removes = self.options.delete_local_models_after_aggregation;
        updates::release(&db, &uuid, &given.spent, removes).await?;
        let left = Departure::all(&db, &uuid).await?;
        let gone: HashSet<String> = left.into_iter().map(|(site, _)| site).collect();
        let here = self.here(ctx).run;
        let (pending, lost): (Vec<TaskRef>, Vec<TaskRef>) = given
            .pending
            .iter()
            .cloned()
            .partition(|task| task.run == here && !gone.contains(&task.site));
        // A job of another run cannot be waited for in this one.
        cancel_tasks(ctx, &lost).await?;
        let input = PhaseInput { run: here, ..given };

        let asked = self.asked(&gone, &pending, input.round);
        let least = self.least();
        if asked.len() + pending.len() < least {
            cancel_tasks(ctx, &pending).await?;
            return Err(too_few(input.round, asked.len() + pending.len(), least, &gone));
        }
        let opened = Timestamp::now();
        progress.opened_at = Some(opened.0);
        ctx.set(&self.progress, progress.clone())?;
        let mut jobs = RoundJobs::of(ctx, &uuid);
        self.plan_departures(&mut jobs, &gone);
        self.plan_round(&mut jobs, &asked, input, pending, &progress);
        jobs.spawn(ctx)
    }

    /// The jobs of a round that was opened: notifications, sites, and what closes it.
    pub(crate) fn plan_round(
        &self,
        jobs: &mut RoundJobs,
        asked: &[&Site],
        input: PhaseInput,
        pending: Vec<TaskRef>,
        progress: &Progress,
    ) {
        self.notify(jobs, NotificationType::UpdateRoundStart, &input, progress, asked);
        let mut tasks = self.plan_tasks(jobs, "train", asked, &input);
        tasks.extend(pending);
        // The models that sites start from in a daisy-chained round are not needed after it.
        let (answers, spent) = (Vec::new(), input.answers.clone());
        let closing = PhaseInput { tasks, answers, spent, pending: Vec::new(), ..input };
        self.plan_closing(jobs, &closing, Timestamp(progress.opened_at.unwrap_or_default()));
    }

    /// The sites that are asked in a round, in the order of the training.
    pub(crate) fn asked(
        &self,
        gone: &HashSet<String>,
        pending: &[TaskRef],
        round: u64,
    ) -> Vec<&Site> {
        let busy: HashSet<&str> = pending.iter().map(|task| task.site.as_str()).collect();
        let here = |site: &&Site| !gone.contains(&site.name) && !busy.contains(site.name.as_str());
        let mut sites: Vec<&Site> = self.sites.iter().filter(here).collect();
        if let Sampling::Fraction(share) = self.federation.sampling {
            let least = self.federation.min_clients.max(1);
            let wanted = ((share * sites.len() as f64).ceil() as usize).max(least);
            let mut order: Vec<usize> = (0..sites.len()).collect();
            Rng::named(self.seed, &format!("sample {round}")).shuffle(&mut order);
            let chosen: HashSet<usize> = order.into_iter().take(wanted).collect();
            let mut place = 0..;
            sites.retain(|_| place.next().is_some_and(|place| chosen.contains(&place)));
        }
        sites
    }

    /// Plan a job for each site.
    pub(crate) fn plan_tasks(
        &self,
        jobs: &mut RoundJobs,
        name: &str,
        sites: &[&Site],
        input: &PhaseInput,
    ) -> Vec<TaskRef> {
        let starts = daisy_chain(&input.answers, self.seed, input.round);
        let mut tasks = Vec::with_capacity(sites.len());
        for site in sites {
            let key = input.key(&format!("{name}/{}", site.name));
            let task = TaskInput {
                name: name.to_owned(),
                site: site.name.clone(),
                round: input.round,
                from: start_of(&starts, &site.name),
                process: updates::process().to_owned(),
                // Other sites start from it, or others read it: it must outlive this process.
                store: input.again > 1
                    || name == "predict"
                    || self.strategy.client().daisy_chain_period > 1,
            };
            self.plan_task(jobs, &key, site, task);
            let (site, run) = (site.name.clone(), jobs.run);
            tasks.push(TaskRef { site, run, key, round: input.round });
        }
        tasks
    }

    pub(crate) fn plan_task(&self, jobs: &mut RoundJobs, key: &str, site: &Site, task: TaskInput) {
        let trigger = if site.is_embedded() { "site_task" } else { "remote_task" };
        let job = jobs.job(key, trigger).input(task).tolerated();
        jobs.add(if site.is_embedded() {
            job.policy(site.jobs.policy(self.federation.heart_beat_timeout))
        } else {
            job
        });
    }
}

/// Which update each site starts from in a daisy-chained round: that of another site. The sites are
/// shifted along the ring of their names by a distance that is a function of seed and round.
pub(super) fn daisy_chain(answers: &[Counted], seed: u64, round: u64) -> Vec<(String, Counted)> {
    let mut from: Vec<&Counted> = answers.iter().collect();
    from.sort_by(|one, other| one.task.site.cmp(&other.task.site));
    if from.len() < 2 {
        return from.into_iter().map(|one| (one.task.site.clone(), one.clone())).collect();
    }
    let bound = from.len() as u64 - 1;
    let shift = 1 + Rng::named(seed, &format!("daisy chain {round}")).below(bound) as usize;
    let to = from.iter().enumerate();
    to.map(|(place, one)| (one.task.site.clone(), from[(place + shift) % from.len()].clone()))
        .collect()
}

/// What a site starts from, if it is the model of another one.
pub(super) fn start_of(starts: &[(String, Counted)], site: &str) -> Option<Counted> {
    starts.iter().find(|(to, _)| to == site).map(|(_, from)| from.clone())
}

fn too_few(round: u64, found: usize, least: usize, gone: &HashSet<String>) -> Error {
    let text = format!("round {round} needs {least} sites, but only {found} are left");
    let mut gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    gone.sort_unstable();
    Error::new(ErrorKind::User, text).with_hint(format!("left: {}", gone.join(", "))).fatal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Held;

    #[test]
    fn g18_a_daisy_chain_hands_each_site_the_model_of_another_one() {
        let of = |site: &str| Counted {
            task: TaskRef { site: site.into(), run: 1, key: format!("r0/train/{site}"), round: 0 },
            samples: 1,
            held: Held::Memory(String::new()),
        };
        for round in 0..50 {
            let answers: Vec<Counted> = ["b", "a", "d", "c"].iter().map(|site| of(site)).collect();
            let chain = daisy_chain(&answers, 7, round);
            let from: HashSet<&str> =
                chain.iter().map(|(_, from)| from.task.site.as_str()).collect();
            assert_eq!(from.len(), 4, "each model goes to one site");
            assert!(chain.iter().all(|(to, from)| *to != from.task.site));
        }
    }
}
