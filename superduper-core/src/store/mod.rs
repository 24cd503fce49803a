//! The contracts of the stores: metadata in rows, artifacts in blobs.
//!
//! Both traits are small and dyn-safe; each implementation is tested by the functions of
//! `superduper-conformance`. The words MUST and SHOULD are meant as in RFC 2119.

mod actor;
mod batch;
mod commit_token;
mod component_lines;
mod cursor;
mod display;
mod event_jobs;
mod health;
mod job_row;
mod journal;
mod limits;
mod lines;
mod metadata;
mod new_job;
mod new_run;
mod open;
mod read_only;
mod removal;
mod rows;
mod telemetry;
mod time;

pub use crate::artifact::contract::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put};
pub use crate::json::{check_readable, read_json, read_or_mark, unreadable};
#[doc(hidden)]
pub use crate::runtime_check::check_runtime;
pub use actor::Actor;
pub use batch::{
    Batch, BlobRow, Block, Claimed, Committed, Completion, Durability, EdgeRow, Expect, Finish,
    Finished, JobRef, JobSignal, JobSignals, Need, NewCheckpoint, NewJob, Op, OutputRow, Pool,
    PutAction, PutVersion,
};
pub use commit_token::CommitToken;
pub use component_lines::{ComponentFilter, ComponentLine, Health, UnhealthyJobs};
pub use cursor::{Cursor, Page};
pub use event_jobs::{MIN_PROGRESS_MS, event_of_jobs};
pub use health::ComponentHealth;
pub use journal::{LogEntry, LogHead};
pub(crate) use limits::bounded;
pub use limits::{MAX_EVENT_DETAIL, MAX_FAILURE_TEXT, event_detail};
pub use lines::{After, JobCounts, JobLine, MAX_LINE_TEXT, PoolPlace, RunLine, line_text};
pub use metadata::{
    ChangeCursor, JobFilter, MetadataCapabilities, MetadataStore, RunChanges, RunFilter, SweepLock,
    Telemetry,
};
pub use new_run::NewRun;
pub use open::{OpenMode, StoreLocations};
pub(crate) use read_only::{ReadOnlyArtifacts, ReadOnlyMetadata, refused};
pub use removal::being_removed;
pub use rows::{
    AttemptRow, AuditedOutput, AuditedRevision, BlockedUntil, CheckpointRow, ComponentId, EventRow,
    JobBrief, JobDependency, JobId, JobRole, JobRow, JobState, LabelRow, ListedComponent, LogLevel,
    LogRow, MessageRow, MetricRow, NewWorker, OutputWriter, Reference, RunId, RunPurpose, RunRow,
    RunState, Snapshot, StoredVersion, Timestamp, Worker, WorkerId,
};
pub use telemetry::{LogFilter, LogLine, MetricFilter, MetricPoint};
