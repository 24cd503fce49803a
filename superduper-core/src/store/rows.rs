//! What a metadata store holds, as plain data.

use super::{
    actor::Actor,
    batch::{BlobRow, EdgeRow, JobSignals},
    cursor::Cursor,
    new_run::NewRun,
};
use crate::{address::Address, digest::Digest, error::JobFailure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::HashMap, fmt, time::SystemTime};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
id!(
    /// A component of the store; a component that is removed and applied again gets another one.
    ComponentId
);
id!(
    /// A run: one applied plan.
    RunId
);
id!(
    /// A job.
    JobId
);
id!(
    /// A process that runs jobs.
    WorkerId
);

/// Milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time of this machine's clock.
    pub fn now() -> Self {
        Timestamp::of(SystemTime::now())
    }

    /// A time of the system's clock. A time before 1970 is 1970.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// This many milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Timestamp::of(time)
    }
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for its dependencies, a retry or a free slot.
    Queued,
    /// Waiting for something outside, such as a grant.
    Blocked,
    /// An attempt is under way.
    Running,
    /// Done; the result is on record.
    Succeeded,
    /// Given up.
    Failed,
    /// Stopped on request.
    Cancelled,
    /// Never started, because something it needs did not succeed.
    Skipped,
}

impl JobState {
    /// Whether the state is final.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Skipped
        )
    }

    /// Whether a job may go from this state to another; all else is an illegal transition.
    pub fn may_become(self, next: JobState) -> bool {
        use JobState::*;
        match self {
            Queued => matches!(next, Blocked | Running | Cancelled | Skipped | Failed),
            Blocked => matches!(next, Queued | Succeeded | Cancelled | Skipped | Failed),
            Running => matches!(next, Queued | Blocked | Succeeded | Failed | Cancelled),
            Succeeded | Failed | Cancelled | Skipped => false,
        }
    }

    /// The lowercase name.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Blocked => "blocked",
            JobState::Running => "running",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
            JobState::Skipped => "skipped",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        use JobState::*;
        [Queued, Blocked, Running, Succeeded, Failed, Cancelled, Skipped]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobRole {
    /// A trigger.
    Trigger,
    /// The hook `on_create`.
    OnCreate,
    /// The hook `cleanup`.
    Cleanup,
}

impl JobRole {
    /// The lowercase name.
    pub fn name(self) -> &'static str {
        match self {
            JobRole::Trigger => "trigger",
            JobRole::OnCreate => "on_create",
            JobRole::Cleanup => "cleanup",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [JobRole::Trigger, JobRole::OnCreate, JobRole::Cleanup]
            .into_iter()
            .find(|role| role.name() == name)
    }
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPurpose {
    /// An apply, retry or rollback.
    Apply,
    /// A removal.
    Remove,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Some job is not final.
    Running,
    /// All jobs succeeded.
    Succeeded,
    /// Some job failed.
    Failed,
    /// No job failed, but some were cancelled.
    Cancelled,
}

impl RunState {
    /// The lowercase name.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [RunState::Running, RunState::Succeeded, RunState::Failed, RunState::Cancelled]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// A version of a component, at one of its revisions.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVersion {
    /// The component.
    pub component: ComponentId,
    /// Kind, identifier, version and revision; the revision is always given.
    pub address: Address,
    /// Whether this is the newest version of the component and the newest revision of the version.
    pub newest: bool,
    /// Whether this version is being removed, alone or with its whole component: from the commit
    /// that records its removal until it is deleted. A removal that failed does not take that back.
    pub removing: bool,
    /// The number that the next version gets; numbers are never reused.
    pub next_version: u32,
    /// Hash of kind, identifier and breaking fields.
    pub uuid: Digest,
    /// Hash of all declared content.
    pub content_hash: Digest,
    /// Version of the type that wrote the document.
    pub type_version: u32,
    /// The declared fields; children as `{"$ref": "Kind/identifier@version"}`.
    pub document: Value,
    /// The outputs of the version that are set, by name.
    pub outputs: Map<String, Value>,
    /// Whether the version was applied without its jobs.
    pub owes_jobs: bool,
    /// The older version that had the same content, for a revert.
    pub content_of: Option<u32>,
    /// When the version was made.
    pub created_at: Timestamp,
    /// When the revision was made.
    pub updated_at: Timestamp,
}

impl StoredVersion {
    /// The version number.
    pub fn version(&self) -> u32 {
        self.address.version.map_or(0, |at| at.version)
    }

    /// The revision number.
    pub fn revision(&self) -> u32 {
        self.address.version.and_then(|at| at.revision).unwrap_or(0)
    }
}

/// The newest job of a trigger or hook of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct JobBrief {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// Kind, identifier, version and revision.
    pub target: Address,
    /// What it does.
    pub role: JobRole,
    /// The trigger or hook.
    pub method: String,
    /// For a spawned job the key; each key counts as a job of its own.
    pub key: Option<String>,
    /// Its state.
    pub state: JobState,
    /// Why it failed, was cancelled or skipped.
    pub failure: Option<JobFailure>,
}

/// A process that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Worker {
    /// The process.
    pub id: WorkerId,
    /// The name of its machine; `None` if it is not on record.
    pub host: Option<String>,
    /// Its number among the processes of its machine; `None` if it is not on record.
    pub pid: Option<u32>,
    /// The file of its program; `None` if it is not on record.
    pub program: Option<String>,
    /// The executors that its program has, in order; empty if they are not on record.
    pub executors: Vec<String>,
    /// When it was registered; `None` if that is not on record.
    pub since: Option<Timestamp>,
    /// The kinds of components that its program has, in order; empty if they are not on record.
    pub kinds: Vec<String>,
    /// Where it keeps blobs, without secrets, as
    /// [`ArtifactStore::location`](super::ArtifactStore::location) says.
    pub artifacts: Option<String>,
}

impl Worker {
    /// A worker as it described itself.
    pub fn of(id: WorkerId, new: NewWorker) -> Self {
        let NewWorker { kinds, artifacts, host, pid, program, executors } = new;
        Worker { id, host, pid, program, executors, since: None, kinds, artifacts }
    }

    /// Whether its program may run a job of this kind, with this executor if the job names one. A
    /// worker that did not say what it has may have everything.
    pub fn may_run(&self, kind: &str, executor: Option<&str>) -> bool {
        let has = |list: &[String], name: &str| list.is_empty() || list.iter().any(|of| of == name);
        has(&self.kinds, kind) && executor.is_none_or(|executor| has(&self.executors, executor))
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker:{}", self.id)?;
        match (&self.host, self.pid) {
            (Some(host), Some(pid)) => write!(f, " ({host}, process {pid})"),
            (Some(host), None) => write!(f, " ({host})"),
            (None, Some(pid)) => write!(f, " (process {pid})"),
            (None, None) => Ok(()),
        }
    }
}

/// What a process says of itself when it is made known as one that runs jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewWorker {
    /// See [`Worker::host`].
    pub host: Option<String>,
    /// See [`Worker::pid`].
    pub pid: Option<u32>,
    /// See [`Worker::program`].
    pub program: Option<String>,
    /// See [`Worker::executors`].
    pub executors: Vec<String>,
    /// See [`Worker::kinds`].
    pub kinds: Vec<String>,
    /// See [`Worker::artifacts`].
    pub artifacts: Option<String>,
}

impl NewWorker {
    /// A process that says nothing of itself.
    pub fn new() -> Self {
        NewWorker::default()
    }
}

/// A job that set outputs of its version when it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputWriter {
    /// The job.
    pub job: JobId,
    /// Kind, identifier, version and revision.
    pub target: Address,
    /// What it does.
    pub role: JobRole,
    /// The trigger or hook.
    pub method: String,
    /// For a spawned job its key.
    pub key: Option<String>,
    /// The outputs that it set, by name.
    pub outputs: Vec<String>,
}

/// What a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The newest version of each component asked for that exists, by `Kind/identifier`.
    pub components: HashMap<String, StoredVersion>,
    /// The newest job of each (trigger or hook) of those versions.
    pub jobs: Vec<JobBrief>,
    /// Counts completed sweeps of blobs; see [`Expect::SweepEpoch`](super::Expect::SweepEpoch).
    pub sweep_epoch: u64,
}

/// A stored revision as [`MetadataStore::audit`](super::MetadataStore::audit) tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditedRevision {
    /// The component.
    pub component: ComponentId,
    /// Kind, identifier, version and revision.
    pub address: Address,
    /// Hash of kind, identifier and breaking fields, as recorded.
    pub uuid: Digest,
    /// Hash of all declared content, as recorded.
    pub content_hash: Digest,
    /// Version of the type that wrote the document.
    pub type_version: u32,
    /// The document, or why it cannot be read.
    pub document: Result<Value, String>,
    /// The references to children on record.
    pub edges: Vec<EdgeRow>,
    /// The document's references to blobs on record.
    pub blobs: Vec<BlobRow>,
    /// The outputs of the version; told with its newest revision only.
    pub outputs: Vec<AuditedOutput>,
}

/// An output as [`MetadataStore::audit`](super::MetadataStore::audit) tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditedOutput {
    /// The field.
    pub name: String,
    /// The value, or why it cannot be read.
    pub value: Result<Value, String>,
    /// The references to blobs on record.
    pub blobs: Vec<BlobRow>,
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedComponent {
    /// The component.
    pub component: ComponentId,
    /// Kind and identifier, with the newest version and revision.
    pub address: Address,
    /// All versions, ascending.
    pub versions: Vec<u32>,
    /// Hash of the newest version's breaking fields.
    pub uuid: Digest,
    /// Version of the type that wrote the newest document.
    pub type_version: u32,
    /// Whether the component is being removed with all its versions.
    pub removing: bool,
    /// Whether its newest version was applied without its jobs.
    pub owes_jobs: bool,
    /// When its first stored version was made.
    pub created_at: Timestamp,
    /// When its newest revision was made.
    pub updated_at: Timestamp,
}

/// A reference from one stored version to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The version that refers, with its revision.
    pub parent: Address,
    /// The version that is referred to.
    pub child: Address,
    /// Where in the parent's document.
    pub path: String,
    /// Whether the parent's revision is the newest of its version.
    pub current: bool,
}

/// A label of a component: a name for one of its versions, which moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRow {
    /// Kind, identifier and the version it points at.
    pub address: Address,
    /// The label.
    pub label: String,
    /// When it was last moved.
    pub at: Timestamp,
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// What it is for.
    pub purpose: RunPurpose,
    /// The component that was applied or removed, with its version.
    pub root: Address,
    /// Its state.
    pub state: RunState,
    /// Data that the purpose needs, such as what a removal deletes at its end.
    pub data: Value,
    /// The person or program that recorded it, if that is known: see
    /// [`Db::acting_as`](crate::Db::acting_as).
    pub actor: Option<Actor>,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When its last job ended.
    pub ended_at: Option<Timestamp>,
}

impl RunRow {
    /// A run as it is when it has just been recorded.
    pub fn new(id: RunId, run: NewRun) -> Self {
        let NewRun { purpose, root, data, actor, at } = run;
        let (state, created_at) = (RunState::Running, at);
        RunRow { id, purpose, root, state, data, actor, created_at, ended_at: None }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// The component.
    pub component: ComponentId,
    /// Kind, identifier, version and revision.
    pub target: Address,
    /// What it does.
    pub role: JobRole,
    /// The trigger or hook.
    pub method: String,
    /// For a spawned job the key, unique in its run.
    pub key: Option<String>,
    /// For a retried job the one before it.
    pub retry_of: Option<JobId>,
    /// Its state.
    pub state: JobState,
    /// Why it is blocked.
    pub blocked: Option<String>,
    /// When it was blocked; `None` if it is not, and for a job that an older program blocked.
    pub blocked_at: Option<Timestamp>,
    /// When it is queued again by itself, where that was said; with the time at which it was
    /// blocked.
    pub blocked_until: Option<BlockedUntil>,
    /// Number of the current or last attempt, from 1; 0 before the first. Each
    /// [`Op::Claim`](super::Op::Claim) counts, so that no two attempts of a job share a number.
    pub attempt: u32,
    /// How many attempts ended in a failure of their own: what `retries` is compared with. Attempts
    /// that were lost or given back do not count.
    pub tries: u32,
    /// How many attempts were lost with their process; they do not count as tries.
    pub lost: u32,
    /// Who holds the current attempt.
    pub owner: Option<WorkerId>,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// Whether somebody asked it to end early, with what there is.
    pub stop_requested: bool,
    /// Whether somebody asked it to pause.
    pub pause_requested: bool,
    /// The executor asked for.
    pub executor: Option<String>,
    /// Tries beyond the first.
    pub retries: u32,
    /// Pause before the first retry.
    pub backoff_ms: u64,
    /// Time limit of an attempt.
    pub timeout_ms: Option<u64>,
    /// Not to be started before.
    pub not_before: Option<Timestamp>,
    /// What the job that spawned it passed to it.
    pub input: Option<Value>,
    /// Whether its end counts for nothing: see [`NewJob::tolerated`](super::NewJob::tolerated).
    pub tolerated: bool,
    /// Steps done and in total, as last reported.
    pub progress: Option<(u64, u64)>,
    /// The result.
    pub result: Option<Value>,
    /// Why it failed, was cancelled or skipped.
    pub failure: Option<JobFailure>,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When the current or last attempt started.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub ended_at: Option<Timestamp>,
}

impl JobRow {
    /// What is asked of the job.
    pub fn signals(&self) -> JobSignals {
        JobSignals {
            cancel: self.cancel_requested,
            stop: self.stop_requested,
            pause: self.pause_requested,
        }
    }
}

/// How long a job is blocked, by the clock of the process that blocked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockedUntil {
    /// When it was blocked.
    pub since: Timestamp,
    /// When it is queued again.
    pub until: Timestamp,
}

/// That one job waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDependency {
    /// The job that waits.
    pub job: JobId,
    /// The job it waits for.
    pub needs: JobId,
    /// The parameter that takes the result, if one does.
    pub parameter: Option<String>,
    /// Whether any end of the other job will do; else it must succeed.
    pub any_end: bool,
}

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRow {
    /// The job.
    pub job: JobId,
    /// From 1.
    pub number: u32,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it did not succeed.
    pub failure: Option<JobFailure>,
}

/// How serious a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Details for the author of the code.
    Trace,
    /// Details for debugging.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warn,
    /// What went wrong.
    Error,
}

/// A line that a job logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// The job.
    pub job: JobId,
    /// The attempt; 0 for a line about the job that came later.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// How serious.
    pub level: LogLevel,
    /// The text.
    pub message: String,
}

/// A change of state that is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// The number of the event, which is unique. Readers see events in the order of their cursors,
    /// which may differ from that of their numbers.
    pub seq: i64,
    /// The place behind the event.
    pub cursor: Cursor,
    /// When.
    pub at: Timestamp,
    /// The run, if it belongs to one.
    pub run: Option<RunId>,
    /// The job, if it belongs to one. An event about several jobs has none here: see
    /// [`EventRow::jobs`].
    pub job: Option<JobId>,
    /// `run.started`, `run.ended`, `job.started`, `job.succeeded`, `job.failed`, `job.cancelled`,
    /// `job.skipped`, `job.retrying`, `job.lost`, `job.released`, `job.blocked`, `job.unblocked`,
    /// `job.added`, `job.signalled`, `job.progressed`, `component.applied`, `component.removing`, `component.kept` (a removal was taken back),
    /// `component.removed`, `component.labelled`, `component.renamed`.
    pub kind: String,
    /// The component, the attempt, the failure's message: whatever explains the event in a line.
    /// For `job.added` and `job.signalled` see [`EventRow::jobs`]; for `job.progressed` steps done
    /// and in total, as `3/10`. For `job.succeeded` the outputs that the job set, separated by `, `; `None` where it set
    /// none. Of a failure's message, and of the reason why a job is blocked, a store keeps
    /// [`MAX_EVENT_DETAIL`](super::MAX_EVENT_DETAIL) bytes: the whole text is with the job.
    pub detail: Option<String>,
}

/// A message on its way to the outside.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRow {
    /// The message's id, for receivers that must not act twice.
    pub id: i64,
    /// The job that sent it.
    pub job: JobId,
    /// The topic.
    pub topic: String,
    /// The content.
    pub payload: Value,
}

/// A number that a job measured at a step.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// The job.
    pub job: JobId,
    /// What was measured.
    pub name: String,
    /// After how many steps.
    pub step: u64,
    /// The number; finite.
    pub value: f64,
    /// When.
    pub at: Timestamp,
}

/// The state of a job that an attempt kept.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointRow {
    /// The job.
    pub job: JobId,
    /// From 1, ascending.
    pub number: u32,
    /// The attempt that kept it.
    pub attempt: u32,
    /// Steps done.
    pub step: u64,
    /// How good the state is.
    pub score: Option<f64>,
    /// When.
    pub at: Timestamp,
    /// The state.
    pub data: Value,
}
