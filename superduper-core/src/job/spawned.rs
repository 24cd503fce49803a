//! The jobs that an attempt spawned, as they are recorded with its end.
//!
//! Invariant: a spawned job waits only for jobs that do not wait for the spawned job.

use super::{
    Instances, JobPolicy, JobSpec, Placement, Running, Spawn, panics::caught,
    siblings::find_spawned,
};
use crate::{
    address::Address,
    component::trigger::TriggerSpec,
    db::DbInner,
    error::{Error, ErrorKind, Result},
    store::{JobId, JobRef, JobRole, Need, NewJob, Timestamp},
};
use petgraph::{
    algo::has_path_connecting,
    graph::{DiGraph, NodeIndex},
};
use std::{collections::HashMap, sync::Arc};

/// Resolve the requests to spawn jobs. Returns the jobs in the order in which they were spawned.
pub(super) async fn resolve_spawned(
    db: &Arc<DbInner>,
    spec: &JobSpec,
    instances: &Arc<Instances>,
    requests: Vec<Spawn>,
) -> Result<Vec<NewJob>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let index: HashMap<String, usize> =
        requests.iter().enumerate().map(|(index, request)| (request.key.clone(), index)).collect();
    if index.len() < requests.len() {
        return Err(Error::invalid("two spawned jobs have the same key").fatal());
    }
    let mut resolver = Resolver {
        db,
        spec,
        instances,
        index,
        known: HashMap::new(),
        versions: HashMap::new(),
        policies: HashMap::new(),
    };
    let at = Timestamp::now();
    let mut jobs = Vec::with_capacity(requests.len());
    for (position, request) in requests.into_iter().enumerate() {
        jobs.push(resolver.job(position, request, at).await?);
    }
    refuse_cycle(db, spec, &jobs).await?;
    Ok(jobs)
}

struct Resolver<'a> {
    db: &'a Arc<DbInner>,
    spec: &'a JobSpec,
    instances: &'a Arc<Instances>,
    /// The keys of the jobs that are spawned together, with their places.
    index: HashMap<String, usize>,
    /// The keys that the run had before, as far as they were needed.
    known: HashMap<String, JobId>,
    versions: HashMap<String, Address>,
    /// What the policies of triggers say, by component and trigger.
    policies: HashMap<(Address, String), Option<JobPolicy>>,
}

impl Resolver<'_> {
    async fn job(&mut self, position: usize, request: Spawn, at: Timestamp) -> Result<NewJob> {
        let target = self.target(&request.target).await?;
        let entry = self.db.registry.entry(&target.kind)?;
        let trigger = (entry.trigger)(&request.trigger).ok_or_else(|| {
            Error::not_found(format!(
                "`{}` has no trigger `{}` to spawn",
                target.kind, request.trigger
            ))
            .fatal()
        })?;
        let mut needs: Vec<Need> = Vec::with_capacity(request.after.len());
        for (key, any_end) in &request.after {
            let need = Need {
                job: self.needed(position, &request.key, key).await?,
                parameter: None,
                any_end: *any_end,
            };
            // A key that is named twice must succeed if one of the two says so.
            match needs.iter_mut().find(|other| other.job == need.job) {
                Some(other) => other.any_end &= need.any_end,
                None => needs.push(need),
            }
        }
        let declared = match (entry.has_policy)(&request.trigger) {
            true => self.policy(&target, &request.trigger).await?,
            false => None,
        };
        let is_given = request.policy.is_some();
        let policy = match (request.policy, declared) {
            (Some(given), Some(declared)) => Some(given.or(declared)),
            (given, declared) => given.or(declared),
        };
        self.check_executor(policy.as_ref(), trigger, &target)?;
        let Running { executor, retries, backoff_ms, timeout_ms } =
            Running::of(policy.as_ref(), Some(trigger));
        Ok(NewJob {
            key: Some(request.key),
            executor: if is_given { Placement::kept(executor.as_deref()) } else { executor },
            retries,
            backoff_ms,
            timeout_ms,
            needs,
            input: request.input.transpose()?,
            tolerated: request.tolerated,
            ..NewJob::new(target, JobRole::Trigger, request.trigger, at)
        })
    }

    /// Refuse a job that no process of this program can run. A job process does not know the
    /// executors of its parent.
    fn check_executor(
        &self,
        policy: Option<&JobPolicy>,
        trigger: &TriggerSpec,
        target: &Address,
    ) -> Result<()> {
        if !self.spec.is_own {
            return Ok(());
        }
        let asked = policy.and_then(|policy| policy.executor.as_deref()).or(trigger.executor);
        let checked = self.db.check_executor(asked);
        checked.map_err(|error| {
            error.context(format_args!("`{}` of `{target}`", trigger.name)).fatal()
        })
    }

    /// What the policy of a trigger says for a component.
    async fn policy(&mut self, target: &Address, trigger: &str) -> Result<Option<JobPolicy>> {
        let key = (target.clone(), trigger.to_owned());
        if let Some(known) = self.policies.get(&key) {
            return Ok(known.clone());
        }
        let instance = self.instances.get(self.db, target).await?;
        // It is user code.
        let policy = caught(|| instance.component.__policy(trigger));
        let policy = policy.map_err(|failure| {
            failure.to_error(ErrorKind::User, format!("the policy of `{trigger}` of `{target}`"))
        })?;
        self.policies.insert(key, policy.clone());
        Ok(policy)
    }

    /// The job that has the key `needed`, for the spawned job at a place.
    async fn needed(&mut self, position: usize, key: &str, needed: &str) -> Result<JobRef> {
        match self.index.get(needed) {
            Some(other) if *other < position => return Ok(JobRef::New(*other)),
            Some(_) => {
                return Err(Error::invalid(format!(
                    "spawned job `{key}` waits for `{needed}`, which is spawned after it"
                ))
                .fatal());
            }
            None => {}
        }
        let run = self.spec.row.run;
        let id = match self.known.get(needed) {
            Some(id) => Some(*id),
            None => {
                let own = (Some(run), Some(self.spec.row.id));
                find_spawned(&*self.db.metadata, own, needed).await?.map(|row| row.id)
            }
        };
        if let Some(id) = id {
            self.known.insert(needed.to_owned(), id);
        }
        id.map(JobRef::Id).ok_or_else(|| {
            Error::not_found(format!("no job of run {run} has the key `{needed}`")).fatal()
        })
    }

    async fn target(&mut self, asked: &Address) -> Result<Address> {
        let own = &self.spec.row.target;
        let same = asked.kind == own.kind && asked.identifier == own.identifier;
        let own_version = own.version.map(|at| at.version);
        if same && asked.version.is_none_or(|at| Some(at.version) == own_version) {
            return Ok(own.clone());
        }
        let name = asked.to_string();
        if let Some(found) = self.versions.get(&name) {
            return Ok(found.clone());
        }
        let tree = self.db.metadata.tree(asked.clone()).await?;
        let missing = || {
            Error::new(
                ErrorKind::NotFound,
                format!("component `{asked}` of a spawned job is not stored"),
            )
            .fatal()
        };
        let found = tree.first().map(|stored| stored.address.clone()).ok_or_else(missing)?;
        self.versions.insert(name, found.clone());
        Ok(found)
    }
}

/// Refuse spawned jobs that would wait for themselves: every job that waits for the spawning job
/// waits for each spawned job.
async fn refuse_cycle(db: &Arc<DbInner>, spec: &JobSpec, jobs: &[NewJob]) -> Result<()> {
    let older = |need: &Need| if let JobRef::Id(id) = need.job { Some(id) } else { None };
    if spec.waiting.is_empty()
        || !jobs.iter().flat_map(|job| &job.needs).any(|need| older(need).is_some())
    {
        return Ok(());
    }
    let (mut graph, mut places) = (DiGraph::<(), ()>::new(), HashMap::<JobId, NodeIndex>::new());
    for edge in db.metadata.dependencies(spec.row.run).await? {
        let [job, needs] = [edge.job, edge.needs]
            .map(|job| *places.entry(job).or_insert_with(|| graph.add_node(())));
        graph.add_edge(job, needs, ());
    }
    let waits_for = |job: JobId, other: JobId| match (places.get(&job), places.get(&other)) {
        _ if job == other => true,
        (Some(job), Some(other)) => has_path_connecting(&graph, *job, *other, None),
        _ => false,
    };
    for job in jobs {
        for needs in job.needs.iter().filter_map(older) {
            if let Some(waiting) = spec.waiting.iter().find(|waiting| waits_for(needs, **waiting)) {
                let key = job.key.as_deref().unwrap_or_default();
                let chain = if needs == *waiting {
                    String::new()
                } else {
                    format!("job {needs} waits for job {waiting}, ")
                };
                let text = format!(
                    "spawned job `{key}` would wait for itself: it waits for job {needs}, {chain}and job {waiting} waits for all jobs that \
                    this job spawns"
                );
                return Err(Error::invalid(text)
                    .with_hint("spawn it after something that does not wait for this job")
                    .fatal());
            }
        }
    }
    Ok(())
}
