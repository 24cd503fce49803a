//! The jobs of a round, made by the functions that spawn them.

use crate::{
    config::UncertaintyMethod,
    notify::NotificationType,
    phases::RoundJobs,
    site::Site,
    state::{PhaseInput, Progress},
    training::FederatedTraining,
};
use std::collections::HashSet;
use superduper::{Address, Spawn};

/// A job of the first round, or one that begins it or follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviewJob {
    /// Its key in the run.
    pub key: String,
    /// The trigger that it runs.
    pub trigger: String,
    /// The key of the job that spawns it; `None` for those that the trigger `start` spawns. Of several jobs that look whether
    /// a round is complete, the one that finds it complete spawns what follows; here it is the first
    /// of them.
    pub spawned_by: Option<String>,
    /// The keys of the jobs that it waits for.
    pub after: Vec<String>,
}

/// The jobs of the first round of a training, in the order in which they are spawned.
pub(super) fn first_round(training: &FederatedTraining, address: &Address) -> Vec<PreviewJob> {
    let progress = Progress::default();
    let input = PhaseInput { first: true, ..PhaseInput::default() };
    let open = input.key("open");
    let sites: Vec<&Site> = training.sites.iter().collect();
    let mut told = RoundJobs::of_run(address, 0, "");
    training.notify(&mut told, NotificationType::TrainingStart, &input, &progress, &sites);
    let mut graph: Vec<PreviewJob> = told.into_jobs().iter().map(|job| shown(job, None)).collect();
    let plan = |graph: &mut Vec<PreviewJob>, spawned_by: &str, fill: &dyn Fn(&mut RoundJobs)| {
        let mut jobs = RoundJobs::of_run(address, 0, "");
        fill(&mut jobs);
        graph.extend(jobs.into_jobs().iter().map(|job| shown(job, Some(spawned_by))));
    };
    let rounds = training.federation.num_rounds;
    // A training without rounds begins with what follows the last one.
    let (mut before, mut done) = (START.to_owned(), input.clone());
    if rounds > 0 {
        graph.push(job(&open, "open", None));
        let asked = training.asked(&HashSet::new(), &[], 0);
        plan(&mut graph, &open, &|jobs| {
            training.plan_round(jobs, &asked, input.clone(), Vec::new(), &progress);
        });
        let gather = gathering(&mut graph, &input);
        plan(&mut graph, &gather, &|jobs| FederatedTraining::plan_aggregation(jobs, &input));
        before = input.key("aggregate");
        done = PhaseInput { round: 1, ..PhaseInput::default() };
    }
    let passes_on = training.is_daisy_chained(1);
    if rounds > 0 && !passes_on && matches!(training.uncertainty, UncertaintyMethod::Swag { .. }) {
        plan(&mut graph, &before, &|jobs| {
            training.plan_swag(jobs, &sites, done.clone(), &progress)
        });
        before = done.key("swag");
    }
    if !passes_on && training.options.tests(done.round, rounds) {
        plan(&mut graph, &before, &|jobs| {
            training.plan_tests(jobs, &sites, done.clone(), &progress);
        });
        before = done.key("decide");
    }
    if rounds > 1 {
        graph.push(job(&done.key("open"), "open", Some(&before)));
        return graph;
    }
    if training.options.predict {
        plan(&mut graph, &before, &|jobs| {
            training.plan_predictions(jobs, &sites, done.clone());
        });
        before = done.key("collect");
    }
    graph.push(job("finish", "finish", Some(&before)));
    for job in graph.iter_mut().filter(|job| job.spawned_by.as_deref() == Some(START)) {
        job.spawned_by = None;
    }
    graph
}

/// The key of the job that ends a round, which is added if it is not planned yet.
fn gathering(graph: &mut Vec<PreviewJob>, input: &PhaseInput) -> String {
    let gather = input.key("gather");
    if !graph.iter().any(|job| job.key == gather) {
        // A job that follows an answer, or a timer, gathers when it is time.
        let heard = graph.iter().find(|job| job.trigger == "heard");
        let spawned_by = heard.map(|job| job.key.clone());
        graph.push(job(&gather, "gather", spawned_by.as_deref()));
    }
    gather
}

/// The job of the trigger `start`, which is planned and not spawned.
const START: &str = "start";

fn job(key: &str, trigger: &str, spawned_by: Option<&str>) -> PreviewJob {
    PreviewJob {
        key: key.to_owned(),
        trigger: trigger.to_owned(),
        spawned_by: spawned_by.map(str::to_owned),
        after: Vec::new(),
    }
}

fn shown(job: &Spawn, spawned_by: Option<&str>) -> PreviewJob {
    PreviewJob {
        key: job.key().to_owned(),
        trigger: job.trigger().to_owned(),
        spawned_by: spawned_by.map(str::to_owned),
        after: job.waits_for().map(str::to_owned).collect(),
    }
}
