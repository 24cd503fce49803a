//! Append-only logs, whose entries are chained by their hashes.
//!
//! Invariant: the hash of an entry covers all that the entry says and the hash of the entry before
//! it. So a changed, removed or exchanged entry is found by whoever knows a later hash.

use super::rows::{RunId, Timestamp};
use crate::{
    digest::{Digest, Hasher, write_canonical},
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An entry of an append-only log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When it was written, by the clock of the process that wrote it.
    pub at: Timestamp,
    /// The run that was recorded by the same commit, if one was.
    pub run: Option<RunId>,
    /// The content.
    pub payload: Value,
    /// The hash of the entry and of all entries before it.
    pub hash: Digest,
}

/// The last entry of an append-only log: enough to tell later whether the log up to it is
/// unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// The number of the entry; 0 for an empty log.
    pub seq: u64,
    /// Its hash; of an empty log, 32 zero bytes.
    pub hash: Digest,
}

impl LogHead {
    /// The head of an empty log.
    pub const EMPTY: LogHead = LogHead { seq: 0, hash: Digest::from_bytes([0; 32]) };

    /// The entry that follows this head in a log. Stores call it inside the transaction that writes
    /// the entry.
    ///
    /// The hash is BLAKE3 of: the hash before, 32 bytes; the number, the time in milliseconds and
    /// the run (0: none), 8 bytes each, little-endian; the length of the log's name, 8 bytes, and
    /// the name; the payload as JSON with sorted keys.
    pub fn entry(&self, log: &str, at: Timestamp, run: Option<RunId>, payload: Value) -> LogEntry {
        let seq = self.seq + 1;
        let mut hasher = Hasher::new();
        hasher.update(self.hash.as_bytes());
        hasher.update(&seq.to_le_bytes());
        hasher.update(&at.0.to_le_bytes());
        hasher.update(&run.map_or(0, |run| run.0).to_le_bytes());
        hasher.update(&(log.len() as u64).to_le_bytes());
        hasher.update(log.as_bytes());
        let mut text = Vec::new();
        write_canonical(&payload, &mut text);
        hasher.update(&text);
        LogEntry { seq, at, run, payload, hash: hasher.finish() }
    }

    /// Check that entries follow this head, and give the head after them.
    ///
    /// # Errors
    /// `Integrity`, naming the first entry that does not.
    pub fn follow(mut self, log: &str, entries: &[LogEntry]) -> Result<LogHead> {
        for entry in entries {
            let expected = self.entry(log, entry.at, entry.run, entry.payload.clone());
            if entry.seq != expected.seq {
                let text = format!(
                    "log `{log}`: entry {} is missing; entry {} follows entry {}",
                    expected.seq, entry.seq, self.seq
                );
                return Err(Error::integrity(text));
            }
            if entry.hash != expected.hash {
                let text = format!(
                    "log `{log}`: entry {} was changed, or an earlier entry was replaced",
                    entry.seq
                );
                return Err(Error::integrity(text));
            }
            self = LogHead { seq: entry.seq, hash: entry.hash };
        }
        Ok(self)
    }
}
