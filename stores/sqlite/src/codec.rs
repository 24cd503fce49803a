//! How rows are written: states as small numbers, digests as bytes, values as JSON text.
//!
//! Invariant: the numbers are part of the format and never change their meaning. Reading is
//! lenient, so that no listing fails because of a row: text that is not JSON any more becomes a
//! mark with the reason, never `null`, and an unknown number the most harmless state.

use rusqlite::{Row, types::ValueRef};
use serde_json::Value;
use superduper_core::unreturned::Unreturned;
use superduper_core::{
    Address, Digest, FailureKind, JobFailure, VersionRef,
    store::{
        JobRole, JobSignals, JobState, LogLevel, RunPurpose, RunState, Timestamp, read_json,
        read_or_mark, unreadable,
    },
};

const JOB_STATES: [JobState; 7] = [
    JobState::Queued,
    JobState::Blocked,
    JobState::Running,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
    JobState::Skipped,
];
const RUN_STATES: [RunState; 4] =
    [RunState::Running, RunState::Succeeded, RunState::Failed, RunState::Cancelled];
const ROLES: [JobRole; 3] = [JobRole::Trigger, JobRole::OnCreate, JobRole::Cleanup];
const PURPOSES: [RunPurpose; 2] = [RunPurpose::Apply, RunPurpose::Remove];
const LEVELS: [LogLevel; 5] =
    [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
const EVENTS: [&str; 21] = [
    "run.started",
    "run.ended",
    "job.started",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.skipped",
    "job.retrying",
    "job.lost",
    "job.released",
    "job.blocked",
    "job.unblocked",
    "component.applied",
    "component.removing",
    "component.kept",
    "component.removed",
    "component.labelled",
    "component.renamed",
    "job.added",
    "job.signalled",
    "job.progressed",
];

/// What was asked of a job: the bits of its column `cancel_requested`.
pub(crate) mod asked {
    pub(crate) const CANCEL: i64 = 1;
    pub(crate) const STOP: i64 = 2;
    pub(crate) const PAUSE: i64 = 4;
}

/// What the column `cancel_requested` says.
pub(crate) fn signals(bits: i64) -> JobSignals {
    JobSignals {
        cancel: bits & asked::CANCEL != 0,
        stop: bits & asked::STOP != 0,
        pause: bits & asked::PAUSE != 0,
    }
}

/// A value that is stored as its place in a list.
pub(crate) trait Code: Sized + Copy + PartialEq + 'static {
    const ALL: &'static [Self];
    const UNKNOWN: Self;

    fn code(self) -> i64 {
        Self::ALL.iter().position(|other| *other == self).map_or(-1, |place| place as i64)
    }

    fn of(code: i64) -> Self {
        usize::try_from(code)
            .ok()
            .and_then(|place| Self::ALL.get(place))
            .copied()
            .unwrap_or(Self::UNKNOWN)
    }
}

macro_rules! codes {
    ($($type:ty: $all:ident, $unknown:expr;)*) => {
        $(impl Code for $type {
            const ALL: &'static [Self] = &$all;
            const UNKNOWN: Self = $unknown;
        })*
    };
}
codes! {
    JobState: JOB_STATES, JobState::Failed;
    RunState: RUN_STATES, RunState::Failed;
    JobRole: ROLES, JobRole::Trigger;
    RunPurpose: PURPOSES, RunPurpose::Apply;
    LogLevel: LEVELS, LogLevel::Info;
    &'static str: EVENTS, "unknown";
}

/// The kind of event by which a job enters a state.
pub(crate) fn entering(state: JobState) -> &'static str {
    match state {
        JobState::Succeeded => "job.succeeded",
        JobState::Failed => "job.failed",
        JobState::Cancelled => "job.cancelled",
        JobState::Skipped => "job.skipped",
        JobState::Blocked => "job.blocked",
        JobState::Running => "job.started",
        JobState::Queued => "job.released",
    }
}

pub(crate) fn json_text(value: &Value) -> String {
    value.to_string()
}

pub(crate) fn failure_text(failure: &JobFailure) -> String {
    serde_json::to_string(failure).unwrap_or_else(|_| "null".to_owned())
}

fn bytes<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<Option<&'r [u8]>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes),
        _ => None,
    })
}

/// Text, with what is not UTF-8 replaced.
pub(crate) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(bytes(row, column)?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

const MISSING: &str = "it is missing";

/// JSON, or why it cannot be read.
pub(crate) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Result<Value, String>> {
    Ok(bytes(row, column)?.map_or_else(|| Err(MISSING.to_owned()), read_json))
}

/// JSON, or the mark that tells why it cannot be read.
pub(crate) fn json_or_mark(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    Ok(bytes(row, column)?.map_or_else(|| unreadable(MISSING), read_or_mark))
}

/// JSON, or the mark that tells why it cannot be read; `None` where there is none.
pub(crate) fn optional_json(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Value>> {
    Ok(bytes(row, column)?.map(read_or_mark))
}

pub(crate) fn failure(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<JobFailure>> {
    let unreadable =
        |_| JobFailure::new(FailureKind::Error, "the failure on record is not readable");
    Ok(bytes(row, column)?.map(|bytes| serde_json::from_slice(bytes).unwrap_or_else(unreadable)))
}

pub(crate) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let bytes = bytes(row, column)?.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok(Digest::from_bytes(bytes.unwrap_or_default()))
}

pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    Ok(optional_number(row, column)?.unwrap_or(0))
}

pub(crate) fn optional_number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u32>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|number| u32::try_from(number).unwrap_or(0)))
}

pub(crate) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

/// A whole number for SQLite, which has none above 2^63.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An address from four columns: kind, identifier, version, revision.
pub(crate) fn address(row: &Row<'_>, first: usize) -> rusqlite::Result<Address> {
    let version = optional_number(row, first + 2)?;
    let revision = optional_number(row, first + 3)?;
    Ok(Address {
        kind: text(row, first)?.unwrap_or_default(),
        identifier: text(row, first + 1)?.unwrap_or_default(),
        version: version.map(|version| VersionRef { version, revision }),
    })
}

/// Addresses as the JSON list `[[kind, identifier, version], …]` that queries take.
pub(crate) fn address_list<'a>(addresses: impl Iterator<Item = &'a Address>) -> String {
    let rows: Vec<(&str, &str, Option<u32>)> = addresses
        .map(|address| (&*address.kind, &*address.identifier, address.version.map(|at| at.version)))
        .collect();
    serde_json::to_string(&rows).unwrap_or_else(|_| "[]".to_owned())
}

/// Numbers as a JSON list.
pub(crate) fn number_list(numbers: impl IntoIterator<Item = i64>) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("[");
    for (index, number) in numbers.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write!(text, "{number}").ignored("writing to a string does not fail");
    }
    text.push(']');
    text
}
