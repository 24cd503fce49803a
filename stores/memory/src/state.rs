//! The tables of the store, with the lookups that commits and reads share.
//!
//! Invariant: `names` holds exactly the components that are not removed, and each of those has a
//! version; `removals` holds the versions whose removal was recorded, as long as they are stored.

use crate::table::Table;
use serde_json::{Map, Value};
use std::collections::HashSet;
use superduper_core::{
    Address, Digest, Error, Result, VersionRef,
    store::{
        AttemptRow, BlobRow, CheckpointRow, CommitToken, Committed, ComponentId, Cursor, EventRow,
        JobBrief, JobCounts, JobId, JobRow, JobState, LogEntry, LogHead, LogRow, MessageRow,
        MetricRow, NewWorker, RunId, RunRow, StoredVersion, Timestamp, WorkerId, event_detail,
    },
};

/// A component; it stays as a tombstone when it is removed, so that old jobs keep its name.
#[derive(Debug, Clone)]
pub(crate) struct ComponentRow {
    pub(crate) address: Address,
    pub(crate) next_version: u32,
    pub(crate) removing: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct VersionRow {
    pub(crate) revision: u32,
    pub(crate) owes_jobs: bool,
    pub(crate) content_of: Option<u32>,
    pub(crate) created_at: Timestamp,
}

#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) path: String,
    pub(crate) child: (ComponentId, u32),
}

#[derive(Debug, Clone)]
pub(crate) struct RevisionRow {
    pub(crate) uuid: Digest,
    pub(crate) content_hash: Digest,
    pub(crate) type_version: u32,
    pub(crate) document: Value,
    pub(crate) edges: Vec<Edge>,
    pub(crate) blobs: Vec<BlobRow>,
    pub(crate) at: Timestamp,
}

#[derive(Debug, Clone)]
pub(crate) struct OutputValue {
    pub(crate) value: Value,
    pub(crate) blobs: Vec<BlobRow>,
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) row: JobRow,
    /// Blobs of the result.
    pub(crate) blobs: Vec<BlobRow>,
    /// When an event last told its progress.
    pub(crate) progressed_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) row: CheckpointRow,
    pub(crate) blobs: Vec<BlobRow>,
}

/// How a job waits for another one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dependency {
    /// The parameter that takes the result.
    pub(crate) parameter: Option<String>,
    pub(crate) any_end: bool,
}

/// Numbers that must not be reused although their rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counter {
    Message,
    SweepEpoch,
    SilentChange,
    SweepLock,
    Answer,
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $row:ty,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct State {
            $($(#[$doc])* pub(crate) $name: Table<$key, $row>,)*
        }

        impl State {
            pub(crate) fn keep(&mut self) {
                $(self.$name.keep();)*
            }

            pub(crate) fn undo(&mut self) {
                $(self.$name.undo();)*
            }
        }
    };
}
tables! {
    components: ComponentId => ComponentRow,
    names: (String, String) => ComponentId,
    versions: (ComponentId, u32) => VersionRow,
    revisions: (ComponentId, u32, u32) => RevisionRow,
    outputs: (ComponentId, u32, String) => OutputValue,
    labels: (ComponentId, String) => (u32, Timestamp),
    runs: RunId => RunRow,
    removals: (ComponentId, u32) => (),
    jobs: JobId => Job,
    jobs_of_run: (RunId, JobId) => (),
    jobs_of_version: (ComponentId, u32, JobId) => (),
    jobs_of_component: (ComponentId, JobId) => (),
    /// The runs that have a job of a component, or that are rooted at it.
    runs_of_component: (ComponentId, RunId) => (),
    /// The jobs of runs that have ended.
    ended_counts: RunId => JobCounts,
    job_keys: (RunId, String) => JobId,
    dependencies: (JobId, JobId) => Dependency,
    dependents: (JobId, JobId) => (),
    attempts: (JobId, u32) => AttemptRow,
    metrics: (JobId, String, u64) => MetricRow,
    checkpoints: (JobId, u32) => Checkpoint,
    events: i64 => EventRow,
    silent: (RunId, i64) => JobId,
    logs: (JobId, usize) => LogRow,
    messages: i64 => MessageRow,
    /// Marked for deletion.
    marked: Digest => (),
    /// Answers to commits that carry a token, with their times.
    answers: CommitToken => (Timestamp, Committed),
    log_entries: (String, u64) => LogEntry,
    places: (String, JobId, u32, WorkerId) => (),
    owners: WorkerId => Option<NewWorker>,
    counters: Counter => i64,
}

impl State {
    pub(crate) fn counter(&self, counter: Counter) -> i64 {
        self.counters.get(&counter).copied().unwrap_or(0)
    }

    pub(crate) fn count(&mut self, counter: Counter) -> i64 {
        let next = self.counter(counter) + 1;
        self.counters.set(counter, next);
        next
    }

    pub(crate) fn log_head(&self, log: &str) -> LogHead {
        let entries = self.log_entries.range((log.to_owned(), 0)..=(log.to_owned(), u64::MAX));
        entries
            .last()
            .map_or(LogHead::EMPTY, |(_, entry)| LogHead { seq: entry.seq, hash: entry.hash })
    }

    pub(crate) fn next_run(&self) -> RunId {
        RunId(self.runs.last_key().map_or(1, |last| last.0 + 1))
    }

    pub(crate) fn append_event(
        &mut self,
        at: Timestamp,
        run: Option<RunId>,
        job: Option<JobId>,
        kind: &str,
        detail: Option<String>,
    ) {
        let seq = self.events.last_key().map_or(1, |last| last + 1);
        let detail = detail.map(|detail| event_detail(kind, detail.into()).into_owned());
        let (cursor, kind) = (Cursor::of_number(seq), kind.to_owned());
        self.events.set(seq, EventRow { seq, cursor, at, run, job, kind, detail });
    }

    pub(crate) fn next_job(&self) -> JobId {
        JobId(self.jobs.last_key().map_or(1, |last| last.0 + 1))
    }

    /// The component of this name that is not removed.
    pub(crate) fn live(&self, address: &Address) -> Option<ComponentId> {
        self.names.get(&(address.kind.clone(), address.identifier.clone())).copied()
    }

    pub(crate) fn live_or_error(&self, address: &Address) -> Result<ComponentId> {
        self.live(address).ok_or_else(|| {
            Error::not_found(format!("there is no component `{}`", address.unversioned()))
        })
    }

    pub(crate) fn newest_version(&self, component: ComponentId) -> Option<u32> {
        self.versions_of(component).next_back().map(|(number, _)| number)
    }

    pub(crate) fn versions_of(
        &self,
        component: ComponentId,
    ) -> impl DoubleEndedIterator<Item = (u32, &VersionRow)> {
        self.versions
            .range((component, 0)..=(component, u32::MAX))
            .map(|((_, number), row)| (*number, row))
    }

    /// The component and version that an address names, the newest where it names none.
    pub(crate) fn find(&self, address: &Address) -> Option<(ComponentId, u32)> {
        let component = self.live(address)?;
        let number =
            address.version.map(|at| at.version).or_else(|| self.newest_version(component))?;
        self.versions.contains(&(component, number)).then_some((component, number))
    }

    pub(crate) fn find_or_error(&self, address: &Address) -> Result<(ComponentId, u32)> {
        self.find(address)
            .ok_or_else(|| Error::not_found(format!("there is no component `{address}`")))
    }

    /// Whether a version is being removed, alone or with its whole component.
    pub(crate) fn is_being_removed(&self, component: ComponentId, version: u32) -> bool {
        self.removals.contains(&(component, version))
            || self.components.get(&component).is_some_and(|row| row.removing)
    }

    pub(crate) fn address(
        &self,
        component: ComponentId,
        version: u32,
        revision: Option<u32>,
    ) -> Address {
        let name = self
            .components
            .get(&component)
            .map_or_else(|| Address::new("", ""), |row| row.address.clone());
        Address { version: Some(VersionRef { version, revision }), ..name }
    }

    /// A stored version at a revision; the newest where none is given.
    pub(crate) fn stored(
        &self,
        component: ComponentId,
        number: u32,
        revision: Option<u32>,
    ) -> Option<StoredVersion> {
        let version = self.versions.get(&(component, number))?;
        let at = revision.unwrap_or(version.revision);
        let row = self.revisions.get(&(component, number, at))?;
        let owner = self.components.get(&component)?;
        let outputs = self
            .outputs
            .range((component, number, String::new())..)
            .take_while(|((of, at, _), _)| (*of, *at) == (component, number))
            .map(|((_, _, name), output)| (name.clone(), output.value.clone()))
            .collect::<Map<String, Value>>();
        Some(StoredVersion {
            component,
            address: self.address(component, number, Some(at)),
            newest: self.newest_version(component) == Some(number) && at == version.revision,
            removing: self.is_being_removed(component, number),
            next_version: owner.next_version,
            uuid: row.uuid,
            content_hash: row.content_hash,
            type_version: row.type_version,
            document: row.document.clone(),
            outputs,
            owes_jobs: version.owes_jobs,
            content_of: version.content_of,
            created_at: version.created_at,
            updated_at: row.at,
        })
    }

    /// The newest job of each trigger or hook of a version, and the spawned ones that did not
    /// succeed; ascending.
    pub(crate) fn newest_jobs(&self, component: ComponentId, version: u32) -> Vec<JobBrief> {
        let mut newest: Vec<&JobRow> = Vec::new();
        let mut seen = HashSet::new();
        let mut retried = HashSet::new();
        let ids = self
            .jobs_of_version
            .range((component, version, JobId(0))..=(component, version, JobId(i64::MAX)));
        for row in ids.rev().filter_map(|((_, _, id), ())| self.jobs.get(id)).map(|job| &job.row) {
            let again = match row.key {
                None => !seen.insert((row.role, row.method.as_str())),
                Some(_) => {
                    (row.tolerated && row.state.is_terminal())
                        || row.state == JobState::Succeeded
                        || retried.contains(&row.id)
                }
            };
            if !again {
                newest.push(row);
            }
            retried.extend(row.retry_of);
        }
        newest.into_iter().rev().map(brief).collect()
    }

    /// All references to blobs: the component and version they belong to, and the blob.
    pub(crate) fn blob_references(&self) -> impl Iterator<Item = (ComponentId, u32, &BlobRow)> {
        let documents = self.revisions.iter().flat_map(|((id, number, _), row)| {
            row.blobs.iter().map(move |blob| (*id, *number, blob))
        });
        let outputs = self.outputs.iter().flat_map(|((id, number, _), row)| {
            row.blobs.iter().map(move |blob| (*id, *number, blob))
        });
        let results =
            self.jobs.iter().filter(|(_, job)| !job.blobs.is_empty()).flat_map(|(_, job)| {
                let number = job.row.target.version.map_or(0, |at| at.version);
                job.blobs.iter().map(move |blob| (job.row.component, number, blob))
            });
        let checkpoints = self
            .checkpoints
            .iter()
            .filter_map(|((id, _), kept)| Some((&self.jobs.get(id)?.row, kept)))
            .flat_map(|(row, kept)| {
                let number = row.target.version.map_or(0, |at| at.version);
                kept.blobs.iter().map(move |blob| (row.component, number, blob))
            });
        documents.chain(outputs).chain(
            results
                .chain(checkpoints)
                .filter(|(id, number, _)| self.versions.contains(&(*id, *number))),
        )
    }
}

fn brief(row: &JobRow) -> JobBrief {
    JobBrief {
        id: row.id,
        run: row.run,
        target: row.target.clone(),
        role: row.role,
        method: row.method.clone(),
        key: row.key.clone(),
        state: row.state,
        failure: row.failure.clone(),
    }
}
