//! What is written in one transaction: conditions and operations.

use super::commit_token::CommitToken;
use super::new_run::NewRun;
use super::rows::{
    BlockedUntil, ComponentId, JobId, JobRole, RunId, RunState, Timestamp, WorkerId,
};
use crate::{
    address::{Address, VersionRef},
    digest::Digest,
    error::JobFailure,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How safe a commit is when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives a loss of power.
    Full,
    /// It survives a crash of the process, and is ordered before later commits.
    Relaxed,
}

/// Operations that commit together, or not at all.
///
/// A number out of order in [`Op::Put`] is an error of kind `Conflict`, and so is an op that names
/// a blob that is marked for deletion, other than [`Op::Finish`], which is then left out: see
/// [`Committed::swept`]. A component, version, run or job that does not exist is one of kind
/// `NotFound`.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// What must hold; else nothing is written and the error is of kind `Conflict`, naming what
    /// moved.
    pub expect: Vec<Expect>,
    /// What is written, in order.
    pub ops: Vec<Op>,
}

/// A condition of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// The newest version of a component is as it was read.
    Newest {
        /// Kind and identifier.
        address: Address,
        /// Version, revision and whether that version is being removed; `None`: the component does
        /// not exist.
        state: Option<(u32, u32, bool)>,
    },
    /// No sweep of blobs was completed since the snapshot, and no blob named by an op is marked for
    /// deletion.
    SweepEpoch(u64),
    /// No component outside of the list refers, in a current revision, to one of these versions.
    Unreferenced {
        /// The versions that are to be deleted.
        children: Vec<Address>,
    },
    /// No run is unfinished for a component, apart from one. A run is unfinished while one of its
    /// jobs is, and a removal until it has ended: one whose process died between the end of its
    /// last job and its own has nothing left to do.
    NoRun {
        /// Kind and identifier.
        address: Address,
        /// The run that may be unfinished.
        but: Option<RunId>,
    },
    /// A label of a component points where it did when it was read.
    Label {
        /// Kind and identifier.
        address: Address,
        /// The label.
        label: String,
        /// The version; `None`: there is no such label.
        version: Option<u32>,
    },
    /// No label points at a version.
    Unlabelled {
        /// Kind, identifier and version.
        address: Address,
        /// The label that may point at it.
        but: Option<String>,
    },
    /// Each of these versions is stored, and no unfinished removal takes it: no unfinished run of
    /// [`RunPurpose::Remove`](super::RunPurpose::Remove) is rooted at the version or at its whole
    /// component, and none has a cleanup job of the version that is not final.
    Removable {
        /// Kind, identifier and version.
        versions: Vec<Address>,
    },
}

/// One write.
#[derive(Debug, Clone)]
pub enum Op {
    /// Makes the batch safe to repeat. If a batch with this token was committed before, the store
    /// MUST write nothing and MUST return the same [`Committed`]. This op MUST be the first of its
    /// batch. A store MUST keep tokens for at least a day.
    Once {
        /// The token.
        token: CommitToken,
        /// Whether the batch may have been committed before. If not, a store need not look for the
        /// token.
        again: bool,
    },
    /// Add an entry to an append-only log: see [`LogEntry`](super::LogEntry). The store makes its
    /// number and its hash inside of the transaction, and notes the run of the batch. Ignored if
    /// the operation before it in the batch was ignored.
    Append {
        /// The log.
        log: String,
        /// The content.
        payload: Value,
        /// When.
        at: Timestamp,
    },
    /// Store a version or revision. Children come before parents. A reference to a version that is
    /// being removed is an error of kind `Conflict`, and so is another revision of such a version.
    Put(PutVersion),
    /// Say whether the jobs of a version are still to be recorded: it was applied without them.
    SetJobsPending {
        /// The component.
        address: Address,
        /// Whether they are.
        pending: bool,
    },
    /// Record a run; later ops of the batch may refer to it. A run of
    /// [`RunPurpose::Remove`](super::RunPurpose::Remove) whose root has a version marks that
    /// version as being removed, until it is deleted: also after the run has failed.
    Run(NewRun),
    /// Record jobs, in the batch's run or in an older one. A job of a version that is being
    /// removed, other than a cleanup, is an error of kind `Conflict`.
    Jobs {
        /// The run; `None` is the one of this batch.
        run: Option<RunId>,
        /// The jobs. Their ids ascend, in this order.
        jobs: Vec<NewJob>,
    },
    /// Take jobs: those that are queued and not taken get the owner and the next attempt number.
    /// The ones taken are in [`Committed::claimed`]; others are left alone without an error.
    Claim {
        /// The jobs.
        jobs: Vec<JobId>,
        /// Who takes them.
        owner: WorkerId,
        /// Whether they start now; else they stay queued until [`Op::Start`] or [`Op::Finish`].
        start: bool,
        /// The pool that all of these jobs count in: see [`Pool`]. If it has too few free places,
        /// the free jobs with the lowest ids are claimed. The other free jobs are in
        /// [`Committed::full`].
        pool: Option<Pool>,
        /// When.
        at: Timestamp,
    },
    /// The thread of an attempt whose end was recorded with [`Finish::late`] has returned: free its
    /// place in a pool.
    ReturnPlace {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
        /// Who ran it.
        owner: WorkerId,
    },
    /// A job taken before starts now. Ignored unless the attempt is the current one.
    Start {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// An attempt ended. Ignored, and listed in [`Committed::fenced`], unless owner and attempt are
    /// the current ones. What follows an ignored end in the batch was decided on it: see
    /// [`Op::follows_an_end`].
    ///
    /// A success that names a blob that is marked for deletion MUST be left out and listed in
    /// [`Committed::swept`]. So MUST a success that names an unknown blob if
    /// [`Finish::sweep_epoch`] is not the current epoch. A blob is *known* if a stored row refers
    /// to it; a store may also treat it as known if a row has referred to it since the last sweep.
    /// The rest of the batch counts as it does beside an ignored end.
    Finish(Box<Finish>),
    /// A job that was not taken becomes final: skipped, cancelled or failed. Ignored if it is taken
    /// or final; fulfilled already, and not ignored, if it is final in this very state.
    ///
    /// What follows an ignored settlement in the batch was decided on it, as with an ignored end.
    Settle {
        /// The job.
        job: JobId,
        /// `Skipped`, `Cancelled` or `Failed`.
        state: super::rows::JobState,
        /// Why.
        failure: JobFailure,
        /// When.
        at: Timestamp,
    },
    /// A queued job waits for something outside, or no longer does. Ignored if the job is taken or
    /// final.
    Block {
        /// The job.
        job: JobId,
        /// What it waits for; `None` releases it.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// A blocked job is queued again, since its time has come. Ignored unless the job is blocked
    /// until this very time.
    Release {
        /// The job.
        job: JobId,
        /// How long it was to be blocked.
        blocked: BlockedUntil,
        /// When.
        at: Timestamp,
    },
    /// A blocked job becomes final without an attempt. Ignored if the job is not blocked.
    ///
    /// If the completion is ignored, the store MUST also ignore the later ops of the batch that may
    /// depend on it: see [`Op::follows_an_end`].
    Complete(Box<Completion>),
    /// Signal jobs; the process that runs a job sees the signal on record. Ignored for jobs that
    /// are final. A signal to pause is fulfilled, and forgotten, when an attempt ends
    /// [`Finished::Paused`]; [`JobSignal::Continue`] takes it back as long as the attempt has not
    /// ended.
    Signal {
        /// The jobs.
        jobs: Vec<JobId>,
        /// The signal.
        signal: JobSignal,
    },
    /// A running attempt keeps its state, so that a later attempt can go on from there. Ignored,
    /// and listed in [`Committed::fenced`], unless owner and attempt are the current ones.
    Checkpoint(Box<NewCheckpoint>),
    /// Take jobs away from owners that are gone: their attempt ends as lost and they are queued
    /// again, or, with the third lost attempt, failed with
    /// [`FailureKind::WorkerLost`](crate::FailureKind::WorkerLost). A taken job that had not
    /// started loses no attempt.
    Reclaim {
        /// The owners that are gone.
        owners: Vec<WorkerId>,
        /// When.
        at: Timestamp,
    },
    /// A run is over. Ignored, with what follows it, if the run has ended, or has a job that is not
    /// final.
    EndRun {
        /// The run.
        run: RunId,
        /// `Succeeded`, `Failed` or `Cancelled`.
        state: RunState,
        /// When.
        at: Timestamp,
    },
    /// Mark a component as being removed, or take the mark back.
    Removing {
        /// Kind and identifier.
        address: Address,
        /// Whether it is.
        on: bool,
    },
    /// Delete versions with their revisions, outputs, edges and references to blobs; without
    /// versions left the component too. Superseded revisions of other components that refer to them
    /// go as well; a current one that does is an error of kind `InUse`, and so is a label of a
    /// version that is not the last to go. Neighbouring deletions of a batch count as one; what is
    /// gone is left out. Jobs, runs, logs and events stay as history; their results no longer count
    /// as references to blobs.
    Delete {
        /// Kind and identifier.
        address: Address,
        /// The versions.
        versions: Vec<u32>,
    },
    /// Copy outputs of one version to another, in place of what they were there. One that the first
    /// version does not have is an error of kind `Conflict`.
    CopyOutputs {
        /// Kind and identifier.
        address: Address,
        /// From this version.
        from: u32,
        /// To this one.
        to: u32,
        /// The outputs, by name.
        outputs: Vec<String>,
    },
    /// Point a label of a component at one of its versions, wherever it pointed before, or take it
    /// away. A version that is being removed gets no label: an error of kind `Conflict`.
    Label {
        /// Kind and identifier.
        address: Address,
        /// The label.
        label: String,
        /// The version; `None` takes the label away.
        version: Option<u32>,
        /// When.
        at: Timestamp,
    },
    /// Give a component another name, in rows that name it too: past jobs, runs and references show
    /// the new one. A component that has the new name already is an error of kind `Conflict`.
    Rename {
        /// Kind and identifier.
        from: Address,
        /// Kind and identifier.
        to: Address,
        /// When.
        at: Timestamp,
    },
    /// Replace the document and hashes of a stored revision, where the name of a component in it
    /// changed. Ignored if there is no such revision.
    Rewrite {
        /// Kind, identifier, version and revision.
        address: Address,
        /// The document.
        document: Value,
        /// Hash of kind, identifier and breaking fields.
        uuid: Digest,
        /// Hash of all declared content.
        content_hash: Digest,
    },
    /// Set outputs of a version without a job, in place of what they were; others stay.
    SetOutputs {
        /// Kind, identifier and version.
        address: Address,
        /// The outputs.
        outputs: Vec<OutputRow>,
    },
    /// Replace the references of a stored revision, which are derived from its document, by these.
    Relink {
        /// Kind, identifier, version and revision.
        address: Address,
        /// Its references to children.
        edges: Vec<EdgeRow>,
        /// Its document's references to blobs.
        blobs: Vec<BlobRow>,
    },
    /// Marks blobs for deletion, if no row refers to them. The marked blobs are listed in
    /// [`Committed::marked`]. `Conflict` if the sweep lock `lock` is not the newest one.
    MarkForDeletion {
        /// The candidates.
        digests: Vec<Digest>,
        /// The token of the sweep lock.
        lock: i64,
    },
    /// Marked blobs were deleted: forget them and count the sweep. `Conflict` if the sweep lock
    /// `lock` is not the newest one.
    ConfirmDeleted {
        /// The blobs.
        digests: Vec<Digest>,
        /// The token of the sweep lock.
        lock: i64,
    },
    /// Delete jobs with their attempts, results, logs, metrics, checkpoints, references to blobs and
    /// events, then runs without jobs with their events; and the logs of other jobs. What does not
    /// exist is left out.
    ///
    /// `Conflict` for a job that is not final or whose run is not over, that another job waits for
    /// or tries again, or that has a message which is not delivered; for a run that is not over or
    /// has a job left; and for the newest job and the newest run, so that no number is used twice.
    /// The newest event stays for the same reason.
    Forget {
        /// The runs.
        runs: Vec<RunId>,
        /// The jobs.
        jobs: Vec<JobId>,
        /// The jobs whose logs go, while they stay.
        logs: Vec<JobId>,
    },
    /// A message was delivered.
    Delivered {
        /// Its id.
        message: i64,
    },
}

impl Op {
    /// Whether this may have been decided on an end that the same batch records: on what an attempt
    /// gave, on the settlement of a job, or on the end of a run. After one of these was ignored, a
    /// store MUST ignore it too; what other attempts ended with counts.
    pub fn follows_an_end(&self) -> bool {
        matches!(
            self,
            Op::Claim { .. }
                | Op::Start { .. }
                | Op::Settle { .. }
                | Op::EndRun { .. }
                | Op::Delete { .. }
                | Op::Append { .. }
        )
    }
}

/// What a put does to the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutAction {
    /// The component is new; the version is 0.
    Create,
    /// The component gets another version; its number is the component's `next_version`.
    Version,
    /// The newest version gets another revision.
    Revision,
}

/// A version or revision to store.
#[derive(Debug, Clone)]
pub struct PutVersion {
    /// Kind, identifier, version and revision.
    pub address: Address,
    /// What it does to the component.
    pub action: PutAction,
    /// Hash of kind, identifier and breaking fields.
    pub uuid: Digest,
    /// Hash of all declared content.
    pub content_hash: Digest,
    /// Version of the type.
    pub type_version: u32,
    /// The document.
    pub document: Value,
    /// Its references to children.
    pub edges: Vec<EdgeRow>,
    /// Its references to blobs.
    pub blobs: Vec<BlobRow>,
    /// The older version that had the same content.
    pub content_of: Option<u32>,
    /// Whether its jobs are left out for now.
    pub owes_jobs: bool,
    /// When.
    pub at: Timestamp,
}

/// A reference to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeRow {
    /// Where in the document.
    pub path: String,
    /// Kind, identifier and version.
    pub child: Address,
}

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    /// Where in the document, result or output.
    pub path: String,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A job that a new job refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRef {
    /// A job of the same [`Op::Jobs`] or [`Finish::spawned`], by its index there.
    New(usize),
    /// A job on record.
    Id(JobId),
}

/// That a new job waits for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The other job.
    pub job: JobRef,
    /// The parameter that takes its result.
    pub parameter: Option<String>,
    /// Whether any end of the other job will do; else it must succeed.
    pub any_end: bool,
}

impl Need {
    /// The other job must succeed.
    pub fn success(job: JobRef) -> Self {
        Need { job, parameter: None, any_end: false }
    }
}

/// A named limit on how many jobs may run at once, in all processes of the database.
///
/// A job that is claimed in a pool holds a place until the end of its attempt is recorded, or until
/// its owner is reclaimed. If the end is recorded with [`Finish::late`], the job keeps the place
/// until [`Op::ReturnPlace`]. Each claim names the limit, so the limit may change from one claim to
/// the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How many places it has.
    pub limit: u32,
}

/// A job to record: [`NewJob::new`], with one method for each of the other fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewJob {
    /// Kind, identifier, version and revision.
    pub target: Address,
    /// What it does.
    pub role: JobRole,
    /// The trigger or hook.
    pub method: String,
    /// For a spawned job the key, unique in its run: a second one of that key is not recorded.
    pub key: Option<String>,
    /// For a retried job the one before it.
    pub retry_of: Option<JobId>,
    /// What it waits for outside.
    pub blocked: Option<String>,
    /// The executor asked for.
    pub executor: Option<String>,
    /// Tries beyond the first.
    pub retries: u32,
    /// Pause before the first retry.
    pub backoff_ms: u64,
    /// Time limit of an attempt.
    pub timeout_ms: Option<u64>,
    /// What it waits for inside.
    pub needs: Vec<Need>,
    /// What the job that spawned it passed to it.
    pub input: Option<Value>,
    /// Whether a failure of the job is tolerated. A tolerated job that fails or is cancelled fails
    /// neither its run nor the health of its component.
    pub tolerated: bool,
    /// Taken and started at once by this owner, as by [`Op::Claim`] with `start`. If the pool is
    /// full, the job is recorded as queued, and is not in [`Committed::claimed`].
    pub claim: Option<WorkerId>,
    /// The pool that the claim counts in.
    pub pool: Option<Pool>,
    /// When.
    pub at: Timestamp,
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// Who ran it.
    pub owner: WorkerId,
    /// When the attempt started; repeats [`Op::Start`] or stands for it.
    pub started_at: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub end: Finished,
    /// Outputs that it set; only with success.
    pub outputs: Vec<OutputRow>,
    /// Blobs that its result refers to.
    pub blobs: Vec<BlobRow>,
    /// The epoch of sweeps that was read before the blobs of result and outputs were looked for;
    /// `None`: there are none.
    pub sweep_epoch: Option<u64>,
    /// Jobs that it spawned, for the same run; only with success. They get the next ids in order,
    /// keys already known left out. Those of a version that is being removed are recorded with the
    /// request to cancel them.
    pub spawned: Vec<NewJob>,
    /// Jobs of the run that wait for this one and now also for the spawned ones, by index in
    /// `spawned`.
    pub spawned_before: Vec<(JobId, usize)>,
    /// Messages to the outside: topic and content; only with success.
    pub messages: Vec<(String, Value)>,
    /// Whether a thread of the attempt still runs. If so, the job keeps its place in a pool until
    /// [`Op::ReturnPlace`].
    pub late: bool,
}

impl Finish {
    /// The end of an attempt that leaves nothing but its end.
    pub fn plain(
        job: JobId,
        attempt: u32,
        owner: WorkerId,
        started_at: Timestamp,
        at: Timestamp,
        end: Finished,
    ) -> Self {
        Finish {
            job,
            attempt,
            owner,
            started_at,
            at,
            end,
            outputs: Vec::new(),
            blobs: Vec::new(),
            sweep_epoch: None,
            spawned: Vec::new(),
            spawned_before: Vec::new(),
            messages: Vec::new(),
            late: false,
        }
    }
}

/// What can be asked of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSignal {
    /// End without a result.
    Cancel,
    /// End early, with the result so far.
    Stop,
    /// Give the attempt up for now and wait.
    Pause,
    /// Go on: a signal to pause that is not fulfilled yet is forgotten.
    Continue,
}

/// The state of a running attempt, to be kept.
#[derive(Debug, Clone)]
pub struct NewCheckpoint {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// Who runs it.
    pub owner: WorkerId,
    /// Steps done.
    pub step: u64,
    /// How good the state is; finite.
    pub score: Option<f64>,
    /// The state.
    pub data: Value,
    /// Blobs that it refers to.
    pub blobs: Vec<BlobRow>,
    /// Numbers of older checkpoints of the job that go, with their references to blobs.
    pub drop: Vec<u32>,
    /// When.
    pub at: Timestamp,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Finished {
    /// With a result.
    Succeeded(Value),
    /// For good.
    Failed(JobFailure),
    /// On request.
    Cancelled(JobFailure),
    /// To be tried again, not before a time.
    Retry(JobFailure, Timestamp),
    /// Given back unstarted or interrupted by an orderly shutdown; no try is lost.
    Released,
    /// Waits for something outside; no try is lost. If a component that the attempt read has
    /// changed since, the job is queued again.
    Blocked(Block),
    /// Gave up because of the wish to pause. Where that is still on record the job is blocked, for
    /// this reason; where it was taken back meanwhile, it is queued again. No try is lost.
    Paused(String),
}

/// Why a job waits for something outside, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// What it waits for.
    pub reason: String,
    /// The time at which the job is queued again; `None`: it stays blocked until it is unblocked,
    /// completed, rejected or cancelled.
    pub until: Option<Timestamp>,
    /// The components that the attempt read, by kind and identifier, with the newest version that
    /// it saw and, if it is known, the revision; `None`: there was no such component.
    pub read: Vec<(Address, Option<VersionRef>)>,
}

impl Block {
    /// Whether a component that the attempt read is at another version now. `newest` is the newest
    /// version and revision.
    pub fn has_moved(&self, newest: impl Fn(&Address) -> Option<(u32, u32)>) -> bool {
        self.read.iter().any(|(address, seen)| match (newest(address), seen) {
            (None, None) => false,
            (Some((version, revision)), Some(seen)) => {
                version != seen.version || seen.revision.is_some_and(|seen| seen != revision)
            }
            _ => true,
        })
    }

    /// A block without a time limit.
    pub fn new(reason: impl Into<String>) -> Self {
        Block { reason: reason.into(), ..Block::default() }
    }
}

/// An end of a blocked job that came from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The job.
    pub job: JobId,
    /// Its result, or why it failed.
    pub end: Result<Value, JobFailure>,
    /// Blobs that the result refers to.
    pub blobs: Vec<BlobRow>,
    /// When.
    pub at: Timestamp,
}

/// An output that a job set.
#[derive(Debug, Clone)]
pub struct OutputRow {
    /// The field.
    pub name: String,
    /// The value.
    pub value: Value,
    /// Blobs that the value refers to.
    pub blobs: Vec<BlobRow>,
}

/// What somebody asked of a job and what is on record until the job ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSignals {
    /// To end without a result.
    pub cancel: bool,
    /// To end early, with what there is.
    pub stop: bool,
    /// To give up for now and wait.
    pub pause: bool,
}

/// A job that a commit claimed, as it is on record after the claim.
///
/// Another process may have run the job since it was last read, so the counts and signals belong to
/// the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The job.
    pub job: JobId,
    /// The number of the attempt that begins.
    pub attempt: u32,
    /// How many attempts ended in a failure of their own.
    pub tries: u32,
    /// How many attempts were lost with their process.
    pub lost: u32,
    /// What is asked of the job.
    pub signals: JobSignals,
}

/// What a commit did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Committed {
    /// The run of the batch.
    pub run: Option<RunId>,
    /// The jobs recorded by each [`Op::Jobs`], in order.
    pub jobs: Vec<JobId>,
    /// The components that were put, in order.
    pub components: Vec<ComponentId>,
    /// The jobs that were claimed, in the order asked for.
    pub claimed: Vec<Claimed>,
    /// The jobs that were not claimed because their pool had no free place.
    pub full: Vec<JobId>,
    /// Jobs whose end was ignored because the attempt was not the current one.
    pub fenced: Vec<JobId>,
    /// Jobs whose end was left out because it names a blob that is being deleted, or that may have
    /// been since it was looked for. They are as they were: save the blobs again, and finish them
    /// again.
    pub swept: Vec<JobId>,
    /// Whether the end of an attempt or of the run, or a settlement, was ignored, and with it what
    /// follows it: see [`Op::follows_an_end`].
    pub invalidated: bool,
    /// The places in [`Batch::ops`] of all operations that were ignored or left out, ascending. A
    /// claim is listed if it was left out or none of its jobs was free. A signal is listed if it
    /// reached no job that is not final.
    pub ignored: Vec<usize>,
    /// For each finished job that spawned others: the job, and the ids in the order of `spawned`
    /// (an old id for a known key).
    pub spawned: Vec<(JobId, Vec<JobId>)>,
    /// Those of the spawned jobs that were on record before, under their key.
    pub known: Vec<JobId>,
    /// Blobs that are now marked for deletion.
    pub marked: Vec<Digest>,
    /// Jobs that [`Op::Reclaim`] queued again or failed.
    pub reclaimed: Vec<JobId>,
    /// The numbers of the checkpoints that were kept, in order.
    pub checkpoints: Vec<(JobId, u32)>,
    /// How many log lines [`Op::Forget`] deleted.
    pub forgotten_logs: u64,
}
