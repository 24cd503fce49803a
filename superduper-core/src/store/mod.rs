//! The contracts of the stores: metadata in rows, artifacts in blobs.
//!
//! Both traits are small and dyn-safe; each implementation is tested by the functions of
//! `superduper-conformance`. The words MUST and SHOULD are meant as in RFC 2119.

mod artifact;
mod batch;
mod cursor;
mod health;
mod journal;
mod limits;
mod metadata;
mod open;
mod read_only;
mod removal;
mod rows;

pub use crate::json::{check_readable, read_json, read_or_mark, unreadable};
#[doc(hidden)]
pub use crate::runtime_check::check_runtime;
pub use artifact::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put};
pub use batch::{
    Batch, BlobRow, Block, Claimed, CommitToken, Committed, Completion, Durability, EdgeRow, Expect, Finish, Finished, JobRef, JobSignal,
    JobSignals, Need, NewCheckpoint, NewJob, NewRun, Op, OutputRow, Pool, PutAction, PutVersion,
};
pub use cursor::{Cursor, Page};
pub use health::ComponentHealth;
pub use journal::{LogEntry, LogHead};
pub(crate) use limits::bounded;
pub use limits::{MAX_EVENT_DETAIL, MAX_FAILURE_TEXT, event_detail};
pub use metadata::{ChangeCursor, JobFilter, MetadataCapabilities, MetadataStore, RunChanges, RunFilter, SweepLock, Telemetry};
pub use open::{OpenMode, StoreLocations};
pub(crate) use read_only::{ReadOnlyArtifacts, ReadOnlyMetadata, refused};
pub use removal::being_removed;
pub use rows::{
    AttemptRow, AuditedOutput, AuditedRevision, BlockedUntil, CheckpointRow, ComponentId, EventRow, JobBrief, JobDependency, JobId,
    JobRole, JobRow, JobState, LabelRow, ListedComponent, LogLevel, LogRow, MessageRow, MetricRow, NewWorker, OutputWriter, Reference,
    RunId, RunPurpose, RunRow, RunState, Snapshot, StoredVersion, Timestamp, Worker, WorkerId,
};
