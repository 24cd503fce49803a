//! The one body that every executor runs for an attempt: instance, setup, call, result, effects.

use super::{
    Asked, CancelToken, Identity, Instances, JobContext, Placement,
    context::{Effects, SpawnRequest},
    panics::{Caught, caught},
    record::{ResultBlobs, sweep_epoch},
};
use crate::unreturned::Unreturned;
use crate::{
    Address, Error, ErrorKind, FailureKind, JobFailure, Result,
    artifact::BlobHandle,
    component::TriggerCall,
    db::DbInner,
    encode::{Encoded, patch_pending},
    plan::ADOPT,
    store::{
        ArtifactStore, BlobRow, Finish, Finished, JobFilter, JobId, JobRef, JobRole, JobRow, Need, NewJob, OutputRow, OwnerId, Timestamp,
        Wish, bounded,
    },
};
use petgraph::{
    algo::has_path_connecting,
    graph::{DiGraph, NodeIndex},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::Instrument;

/// What is to be run: a job as recorded, with what it needs from others.
#[derive(Clone)]
pub(crate) struct JobSpec {
    pub(crate) row: JobRow,
    pub(crate) attempt: u32,
    pub(crate) owner: OwnerId,
    /// Results of dependencies, by parameter.
    pub(crate) dependencies: HashMap<String, Value>,
    /// Jobs of the run that wait for this one.
    pub(crate) waiting: Vec<JobId>,
    /// Whether a cleanup is tried even where setup fails.
    pub(crate) forced: bool,
}

/// How an attempt ended, ready to be recorded.
#[doc(hidden)]
pub struct Draft {
    pub(crate) finish: Finish,
    /// The blobs of result and outputs.
    pub(crate) blobs: ResultBlobs,
    /// Fires when a method that outlived its time limit has returned after all.
    pub(crate) lingering: Option<oneshot::Receiver<()>>,
    /// Steps done and in total, as the attempt last reported them; they go to the store with its notes.
    pub(crate) progress: Option<(u64, u64)>,
}

/// What an attempt leaves behind however it ends.
#[derive(Default)]
struct Traces {
    lingering: Option<oneshot::Receiver<()>>,
    blocked: Option<(String, Asked)>,
    progress: Option<(u64, u64)>,
}

struct Success {
    value: Value,
    blobs: Vec<BlobRow>,
    handles: Vec<Arc<BlobHandle>>,
    sweep_epoch: Option<u64>,
    outputs: Vec<OutputRow>,
    spawned: Vec<NewJob>,
    messages: Vec<(String, Value)>,
}

/// Run an attempt in this process.
pub(crate) async fn run_job(db: &Arc<DbInner>, spec: &JobSpec, instances: &Arc<Instances>, cancel: Arc<CancelToken>) -> Draft {
    let started_at = Timestamp::now();
    let mut traces = Traces::default();
    if spec.row.stop_requested {
        // Asked before this attempt began: it is to end at its first look.
        cancel.ask(Wish::Stop);
    }
    let result = attempt(db, spec, instances, &cancel, &mut traces).await;
    let at = Timestamp::now();
    let mut finish = Finish::plain(spec.row.id, spec.attempt, spec.owner, started_at, at, Finished::Released);
    let mut blobs = Vec::new();
    match result {
        Ok(success) => {
            finish.end = Finished::Succeeded(success.value);
            finish.outputs = success.outputs;
            finish.blobs = success.blobs;
            finish.sweep_epoch = success.sweep_epoch;
            blobs = success.handles;
            finish.messages = success.messages;
            finish.spawned_before =
                spec.waiting.iter().flat_map(|job| (0..success.spawned.len()).map(move |index| (*job, index))).collect();
            finish.spawned = success.spawned;
        }
        Err(failure) => {
            finish.end = match traces.blocked.filter(|_| !cancel.is_cancelled()) {
                Some((reason, Asked::Pause)) => Finished::Paused(reason),
                Some((reason, _)) => Finished::Blocked(reason),
                None => conclude(&spec.row, failure, cancel.is_cancelled(), at),
            }
        }
    }
    Draft { finish, blobs: ResultBlobs::new(blobs), lingering: traces.lingering, progress: traces.progress }
}

/// What a failed attempt means for the job: another try, or the end.
pub(crate) fn conclude(row: &JobRow, failure: JobFailure, cancelled: bool, at: Timestamp) -> Finished {
    conclude_with(failure, (row.tries, row.retries, row.backoff_ms), cancelled, at)
}

/// As [`conclude`], from the tries so far, those beyond the first, and the first pause.
pub(crate) fn conclude_with(
    failure: JobFailure,
    (tries, retries, first_pause): (u32, u32, u64),
    cancelled: bool,
    at: Timestamp,
) -> Finished {
    let failure = bounded(failure);
    if cancelled {
        let failure = match failure.kind {
            FailureKind::Cancelled => failure,
            _ => JobFailure { kind: FailureKind::Cancelled, ..failure },
        };
        return Finished::Cancelled(failure);
    }
    let tries = tries + 1;
    if failure.retryable && tries <= retries {
        Finished::Retry(failure, at.plus_ms(backoff_ms(first_pause, tries)))
    } else {
        Finished::Failed(failure)
    }
}

/// How long a job waits after so many tries; twice as long each time.
pub(crate) fn backoff_ms(first: u64, tries: u32) -> u64 {
    first.saturating_mul(1 << tries.saturating_sub(1).min(20))
}

async fn attempt(
    db: &Arc<DbInner>,
    spec: &JobSpec,
    instances: &Arc<Instances>,
    cancel: &Arc<CancelToken>,
    traces: &mut Traces,
) -> Result<Success, JobFailure> {
    let failed = |error: Error| JobFailure::of(&error);
    if cancel.is_cancelled() {
        return Err(JobFailure::new(FailureKind::Cancelled, "cancelled before it started"));
    }
    let row = &spec.row;
    let instance = match instances.cached(&row.target) {
        Some(instance) => instance,
        None => {
            // In a task of its own: `postinit` is user code and may panic.
            let (db, instances, target) = (db.clone(), instances.clone(), row.target.clone());
            joined(tokio::spawn(Caught::new(async move { instances.get(&db, &target).await })).await)?.map_err(failed)?
        }
    };
    let identity = Identity {
        target: row.target.clone(),
        uuid: instance.uuid,
        run: Some(row.run),
        job: Some(row.id),
        attempt: spec.attempt,
        key: row.key.clone(),
        owner: Some(spec.owner),
    };
    let ctx =
        JobContext::new(identity, Arc::downgrade(db), instance.env.clone(), spec.dependencies.clone(), cancel.clone(), db.notes.clone());
    let placement = Placement::of_text(row.executor.as_deref());
    let limits = Limits {
        attempt: row.timeout_ms.map(Duration::from_millis),
        stall: placement.stall(),
        grace: placement.grace().unwrap_or(db.options.cancel_grace),
    };
    let call = Call { instance: instance.clone(), ctx: ctx.clone(), role: row.role, method: row.method.clone() };
    let force = row.role == JobRole::Cleanup && spec.forced;
    let result = call.run(limits, cancel, force, &mut traces.lingering).await;
    traces.blocked = ctx.take_blocked();
    traces.progress = ctx.reported_progress();
    let encoded = result?;
    let effects = ctx.take_effects();
    store_effects(db, spec, encoded, effects).await.map_err(failed)
}

/// How long things may take.
struct Limits {
    attempt: Option<Duration>,
    stall: Option<Duration>,
    grace: Duration,
}

/// One call of a hook or trigger.
struct Call {
    instance: Arc<super::instance::Instance>,
    ctx: JobContext,
    role: JobRole,
    method: String,
}

impl Call {
    async fn run(
        self,
        Limits { attempt: limit, stall, grace }: Limits,
        cancel: &Arc<CancelToken>,
        force: bool,
        lingering: &mut Option<oneshot::Receiver<()>>,
    ) -> Result<Encoded, JobFailure> {
        let deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
        let blocking = self.role == JobRole::Trigger
            && self.instance.component.__trigger_specs().iter().any(|spec| spec.name == self.method && spec.blocking);
        let timed_out = || {
            let ms = limit.unwrap_or_default();
            JobFailure::new(FailureKind::Timeout, format!("the attempt ran longer than its time limit of {ms:?}"))
        };
        let Call { instance, ctx, role, method } = self;
        if blocking {
            if !instance.is_set_up() {
                // The setup runs on the runtime, the method on a worker thread.
                let (setup_instance, setup_ctx) = (instance.clone(), ctx.clone());
                let setup = async move { setup_ctx.scope(setup_instance.set_up(&setup_ctx)).await };
                let setup = tokio::spawn(Caught::new(setup));
                within(setup, deadline, std::future::pending(), cancel, grace)
                    .await
                    .unwrap_or_else(|| Err(timed_out()))?
                    .map_err(|error| JobFailure::of(&error))?;
            }
            let (returned, has_returned) = oneshot::channel();
            let beats = ctx.beats().clone();
            let given_up = ctx.clone();
            let span = tracing::Span::current();
            let mut work = tokio::task::spawn_blocking(move || {
                let _attempt = span.enter();
                let result = ctx.scope_sync(|| caught(|| call_sync(&instance, &method, &ctx)));
                returned.send(()).ignored("the attempt was waited for");
                result
            });
            // A thread cannot be stopped: a cancelled job is waited for, a late one leaves its thread behind.
            let ended = tokio::select! {
                biased;
                ended = &mut work => Ok(ended),
                () = until(deadline) => Err(timed_out()),
                failure = stalled(&beats, stall) => Err(failure),
            };
            return match ended {
                Ok(ended) => joined(ended)?.map_err(|error| JobFailure::of(&error)),
                Err(failure) => {
                    given_up.leave_behind();
                    *lingering = Some(has_returned);
                    Err(failure)
                }
            };
        }
        if role == JobRole::OnCreate && method == ADOPT {
            return Ok(Encoded::null());
        }
        let beats = ctx.beats().clone();
        let work = tokio::spawn(
            Caught::new(async move {
                ctx.scope(async {
                    if let Err(error) = instance.set_up(&ctx).await
                        && !force
                    {
                        return Err(error);
                    }
                    let component = &*instance.component;
                    match role {
                        JobRole::OnCreate => component.__on_create(&ctx).await.map(|()| Encoded::null()),
                        JobRole::Cleanup => component.__cleanup(&ctx).await.map(|()| Encoded::null()),
                        JobRole::Trigger => match component.__run(&method, &ctx) {
                            Some(TriggerCall::Async(call)) => call.await,
                            Some(TriggerCall::Sync(call)) => call(),
                            None => Err(unknown_trigger(&method, component)),
                        },
                    }
                })
                .await
            })
            .instrument(tracing::Span::current()),
        );
        within(work, deadline, stalled(&beats, stall), cancel, grace)
            .await
            .unwrap_or_else(|| Err(timed_out()))?
            .map_err(|error| JobFailure::of(&error))
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ends when a method has given no sign of life for so long.
async fn stalled(beats: &AtomicU64, limit: Option<Duration>) -> JobFailure {
    let Some(limit) = limit else { return std::future::pending().await };
    let mut seen = beats.load(Ordering::Relaxed);
    let mut since = tokio::time::Instant::now();
    loop {
        tokio::time::sleep_until(since + limit).await;
        let now = beats.load(Ordering::Relaxed);
        if now == seen {
            return JobFailure::new(FailureKind::Timeout, format!("the attempt gave no sign of life for {limit:?}"));
        }
        seen = now;
        since = tokio::time::Instant::now();
    }
}

fn call_sync(instance: &super::instance::Instance, method: &str, ctx: &JobContext) -> Result<Encoded> {
    match instance.component.__run(method, ctx) {
        Some(TriggerCall::Sync(call)) => call(),
        _ => Err(unknown_trigger(method, &*instance.component)),
    }
}

fn unknown_trigger(method: &str, component: &dyn crate::Component) -> Error {
    Error::not_found(format!("`{}` has no trigger `{method}` in this program", component.kind())).fatal()
}

/// Wait for a task until the deadline, or until it was cancelled and the grace is over; `None`: out of time.
async fn within<T: Send + 'static>(
    mut task: JoinHandle<Result<T, JobFailure>>,
    deadline: Option<tokio::time::Instant>,
    stalled: impl Future<Output = JobFailure>,
    cancel: &Arc<CancelToken>,
    grace: Duration,
) -> Option<Result<T, JobFailure>> {
    let late = until(deadline);
    let stopped = async {
        cancel.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        biased;
        result = &mut task => Some(joined(result)),
        () = late => {
            task.abort();
            task.await.ignored("it was stopped");
            None
        }
        failure = stalled => {
            task.abort();
            task.await.ignored("it was stopped");
            Some(Err(failure))
        }
        () = stopped => {
            task.abort();
            task.await.ignored("it was stopped");
            Some(Err(JobFailure::new(FailureKind::Cancelled, "cancelled; it was stopped after the grace period")))
        }
    }
}

/// What a task gave. Its panics were caught inside of it; one that is left is of its destruction.
fn joined<T>(ended: Result<Result<T, JobFailure>, tokio::task::JoinError>) -> Result<T, JobFailure> {
    ended.unwrap_or_else(|error| {
        Err(match error.is_panic() {
            true => JobFailure::new(FailureKind::Panic, error.to_string()),
            false => JobFailure::new(FailureKind::Cancelled, "the task was stopped"),
        })
    })
}

/// Save the blobs of result and outputs, and resolve the spawned jobs.
async fn store_effects(db: &Arc<DbInner>, spec: &JobSpec, result: Encoded, effects: Effects) -> Result<Success> {
    let encoded = || std::iter::once(&result).chain(effects.outputs.iter().map(|output| &output.encoded));
    let handles: Vec<Arc<BlobHandle>> = encoded().flat_map(|encoded| encoded.blobs.iter().cloned()).collect();
    // Before the blobs are looked for: the commit tells whether a sweep came after.
    let sweep_epoch = if handles.is_empty() { None } else { Some(sweep_epoch(db).await?) };
    let (value, blobs) = save(db, result, "result").await.map_err(|error| error.context("the result"))?;
    let mut outputs = Vec::with_capacity(effects.outputs.len());
    for output in effects.outputs {
        let (value, blobs) =
            save(db, output.encoded, output.name).await.map_err(|error| error.context(format_args!("output `{}`", output.name)))?;
        outputs.push(OutputRow { name: output.name.to_owned(), value, blobs });
    }
    let spawned = resolve_spawned(db, spec, effects.spawned).await?;
    Ok(Success { value, blobs, handles, sweep_epoch, outputs, spawned, messages: effects.messages })
}

pub(super) async fn save(db: &Arc<DbInner>, encoded: Encoded, path: &str) -> Result<(Value, Vec<BlobRow>)> {
    save_encoded(&db.artifacts, encoded, path).await
}

/// Save the blobs of a value and put their digests into it.
pub(crate) async fn save_encoded(store: &Arc<dyn ArtifactStore>, encoded: Encoded, path: &str) -> Result<(Value, Vec<BlobRow>)> {
    let Encoded { mut value, blobs } = encoded;
    if blobs.is_empty() {
        return Ok((value, Vec::new()));
    }
    let names: Vec<(String, Arc<BlobHandle>)> = blobs.iter().map(|blob| (blob.name(), blob.clone())).collect();
    hash_all(&blobs).await?;
    let mut rows = Vec::with_capacity(blobs.len());
    for (index, blob) in blobs.iter().enumerate() {
        blob.save(store).await?;
        if let Some(hashed) = blob.hashed() {
            rows.push(BlobRow { path: format!("{path}[{index}]"), digest: hashed.digest, size: hashed.size });
        }
    }
    let pending: HashMap<&str, &Arc<BlobHandle>> = names.iter().map(|(name, blob)| (name.as_str(), blob)).collect();
    patch_pending(&mut value, &pending);
    Ok((value, rows))
}

/// Hash blobs where blocking is allowed.
pub(crate) async fn hash_all(blobs: &[Arc<BlobHandle>]) -> Result<()> {
    let open: Vec<Arc<BlobHandle>> = blobs.iter().filter(|blob| blob.digest().is_none()).cloned().collect();
    if open.is_empty() {
        return Ok(());
    }
    crate::runtime_check::current()?;
    tokio::task::spawn_blocking(move || open.iter().try_for_each(|blob| blob.hash()))
        .await
        .map_err(|error| Error::internal(error.to_string()))?
}

async fn resolve_spawned(db: &Arc<DbInner>, spec: &JobSpec, requests: Vec<SpawnRequest>) -> Result<Vec<NewJob>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let index: HashMap<String, usize> = requests.iter().enumerate().map(|(index, request)| (request.key.clone(), index)).collect();
    if index.len() < requests.len() {
        return Err(Error::invalid("two spawned jobs have the same key").fatal());
    }
    let mut known: Option<HashMap<String, JobId>> = None;
    let mut versions: HashMap<String, Address> = HashMap::new();
    let at = Timestamp::now();
    let mut jobs = Vec::with_capacity(requests.len());
    for (position, request) in requests.into_iter().enumerate() {
        let target = resolve_target(db, spec, &request.target, &mut versions).await?;
        let entry = db.registry.entry(&target.kind)?;
        let trigger = (entry.trigger)(&request.trigger)
            .ok_or_else(|| Error::not_found(format!("`{}` has no trigger `{}` to spawn", target.kind, request.trigger)).fatal())?;
        let mut needs = Vec::with_capacity(request.after.len());
        for key in &request.after {
            let job = match index.get(key) {
                Some(other) if *other < position => JobRef::New(*other),
                Some(_) => {
                    return Err(
                        Error::invalid(format!("spawned job `{}` waits for `{key}`, which is spawned after it", request.key)).fatal()
                    );
                }
                None => {
                    if known.is_none() {
                        let rows = db.metadata.jobs(JobFilter { run: Some(spec.row.run), ..JobFilter::default() }).await?;
                        known = Some(rows.into_iter().filter_map(|row| Some((row.key?, row.id))).collect());
                    }
                    let id = known.as_ref().and_then(|known| known.get(key)).copied();
                    JobRef::Id(id.ok_or_else(|| Error::not_found(format!("no job of run {} has the key `{key}`", spec.row.run)).fatal())?)
                }
            };
            needs.push(Need { job, parameter: None });
        }
        jobs.push(NewJob {
            target,
            role: JobRole::Trigger,
            method: request.trigger,
            key: Some(request.key),
            retry_of: None,
            blocked: None,
            executor: trigger.executor.map(str::to_owned),
            retries: trigger.retries,
            backoff_ms: trigger.backoff_ms,
            timeout_ms: trigger.timeout_ms,
            needs,
            claim: None,
            pool: None,
            at,
        });
    }
    refuse_cycle(db, spec, &jobs).await?;
    Ok(jobs)
}

/// Refuse spawned jobs that would wait for what waits for them: what waits for the spawner waits for each of them.
async fn refuse_cycle(db: &Arc<DbInner>, spec: &JobSpec, jobs: &[NewJob]) -> Result<()> {
    let older = |need: &Need| if let JobRef::Id(id) = need.job { Some(id) } else { None };
    if spec.waiting.is_empty() || !jobs.iter().flat_map(|job| &job.needs).any(|need| older(need).is_some()) {
        return Ok(());
    }
    let (mut graph, mut places) = (DiGraph::<(), ()>::new(), HashMap::<JobId, NodeIndex>::new());
    for edge in db.metadata.dependencies(spec.row.run).await? {
        let [job, needs] = [edge.job, edge.needs].map(|job| *places.entry(job).or_insert_with(|| graph.add_node(())));
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
                let text = format!(
                    "spawned job `{key}` would wait for itself: it comes after job {needs}, which waits for job {waiting} or is it, and job {waiting} \
                    waits for all that this job spawns"
                );
                return Err(Error::invalid(text).with_hint("spawn it after something that does not wait for this job").fatal());
            }
        }
    }
    Ok(())
}

async fn resolve_target(db: &Arc<DbInner>, spec: &JobSpec, asked: &Address, versions: &mut HashMap<String, Address>) -> Result<Address> {
    let own = &spec.row.target;
    let same = asked.kind == own.kind && asked.identifier == own.identifier;
    let own_version = own.version.map(|at| at.version);
    if same && asked.version.is_none_or(|at| Some(at.version) == own_version) {
        return Ok(own.clone());
    }
    let name = asked.to_string();
    if let Some(found) = versions.get(&name) {
        return Ok(found.clone());
    }
    let tree = db.metadata.tree(asked.clone()).await?;
    let found = tree.first().map(|stored| stored.address.clone());
    let found =
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("component `{asked}` of a spawned job is not stored")).fatal())?;
    versions.insert(name, found.clone());
    Ok(found)
}
