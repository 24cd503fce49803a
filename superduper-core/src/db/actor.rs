//! Actors and the audit log: which person or program made a write.
//!
//! Invariant: a write and its entry in the audit log are one commit.

use super::{Db, DbInner};
use crate::{
    encode::Encoded,
    error::{Error, Result},
    store::{Actor, Batch, CommitToken, Committed, Durability, LogEntry, LogHead, Op, Timestamp},
};
use serde::Serialize;
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// The name of the append-only log that records which actor made which write.
pub const AUDIT_LOG: &str = "audit";

/// Entries that are read at once to check a log.
const PAGE: usize = 1000;

impl Db {
    /// A handle on the same database whose writes are recorded under this actor. Apply, rollback,
    /// remove, prune, import, rename, label, unlabel, run, retry, cancel, block, unblock, complete
    /// and reject add an entry to the log [`AUDIT_LOG`], in the commit of the write:
    /// `{"actor": …, "action": "apply", "target": "acme.Model/churn@3.0"}`. A call that writes
    /// nothing adds none. Signals to stop, pause and continue, `gc` and `refresh` add none.
    ///
    /// The log does not protect from a person who can write to the database file. [`Db::check_log`]
    /// with a head that is kept elsewhere shows whether entries were changed.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # use superduper::{Actor, Db, prelude::*};
    /// # async fn example(db: &Db, model: impl superduper::AsComponent) -> Result<()> {
    /// db.acting_as(Actor::new("maria").note("ticket 4711")).apply(model).await?;
    /// for entry in db.log_entries("audit", 0, 100).await? {
    ///     println!("{} {}", entry.payload["actor"]["name"], entry.payload["action"]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn acting_as(&self, actor: Actor) -> Db {
        self.with_actor(Arc::new(actor))
    }

    /// The entry that records a write, if this handle has an actor.
    pub(crate) fn audit(&self, action: &str, target: impl ToString) -> Option<Op> {
        let actor = self.actor()?;
        let payload = json!({ "actor": **actor, "action": action, "target": target.to_string() });
        Some(Op::Append { log: AUDIT_LOG.to_owned(), payload, at: Timestamp::now() })
    }

    /// Add an entry to an append-only log.
    ///
    /// # Errors
    /// `InvalidInput` for the log [`AUDIT_LOG`], which the library writes, for an empty name and
    /// for a payload with artifacts; `Encode`, with the path, for a payload that JSON cannot hold;
    /// `Store`.
    pub async fn append(&self, log: &str, payload: impl Serialize) -> Result<()> {
        let db = self.inner();
        db.check_writable("append to a log")?;
        if log.is_empty() {
            return Err(Error::invalid("the name of a log is empty"));
        }
        if log == AUDIT_LOG {
            let text = format!("only the library writes to the log `{log}`");
            return Err(Error::invalid(text)
                .with_hint("choose another name; `db.acting_as(…)` writes to `audit`"));
        }
        let encoded = Encoded::of(&payload);
        if encoded.is_err() {
            crate::json::drop_refused(payload);
        }
        let encoded =
            encoded.map_err(|error| error.context(format_args!("an entry of the log `{log}`")))?;
        if !encoded.blobs.is_empty() {
            return Err(Error::invalid(format!(
                "an entry of the log `{log}` cannot hold artifacts"
            )));
        }
        let ops =
            vec![Op::Append { log: log.to_owned(), payload: encoded.value, at: Timestamp::now() }];
        db.commit_once(Batch { expect: Vec::new(), ops }).await?;
        Ok(())
    }

    /// Entries of an append-only log after a number (0: from the beginning), at most so many.
    ///
    /// # Errors
    /// `Store`.
    pub async fn log_entries(&self, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>> {
        self.inner().metadata.log_entries(log.to_owned(), after, limit).await
    }

    /// The last entry of an append-only log. Keep it elsewhere to be able to tell later whether the
    /// log is unchanged.
    ///
    /// # Errors
    /// `Store`.
    pub async fn log_head(&self, log: &str) -> Result<LogHead> {
        self.inner().metadata.log_head(log.to_owned()).await
    }

    /// Check the hash chain of an append-only log. With `known`, also check that the log still has
    /// that entry. Returns the current head.
    ///
    /// Without `known`, two changes are not found: entries removed from the end, and a log that was
    /// replaced as a whole.
    ///
    /// # Errors
    /// `Integrity`, naming the first entry that was changed, exchanged or is missing; `Store`.
    pub async fn check_log(&self, log: &str, known: Option<LogHead>) -> Result<LogHead> {
        let mut head = LogHead::EMPTY;
        let mut is_found = known.is_none_or(|known| known == head);
        loop {
            let entries = self.log_entries(log, head.seq, PAGE).await?;
            if entries.is_empty() {
                break;
            }
            head = head.follow(log, &entries)?;
            let same = |entry: &LogEntry| {
                known.is_some_and(|known| entry.seq == known.seq && entry.hash == known.hash)
            };
            is_found |= entries.iter().any(same);
        }
        match known {
            Some(known) if !is_found => {
                let what = if known.seq > head.seq {
                    format!("ends with entry {}", head.seq)
                } else {
                    "was replaced".to_owned()
                };
                Err(Error::integrity(format!(
                    "log `{log}` {what}, but it had an entry {} with another hash",
                    known.seq
                )))
            }
            _ => Ok(head),
        }
    }
}

/// The actor that an entry of the audit log names: who records a write also records its run.
pub(super) fn actor_of(audit: Option<&Op>) -> Option<Actor> {
    let Some(Op::Append { payload, .. }) = audit else { return None };
    let Ok(actor) = serde_json::from_value(payload.get("actor")?.clone()) else {
        return None;
    };
    Some(actor)
}

/// The pauses before a commit whose answer was lost is written again.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(300)];

impl DbInner {
    /// Write a batch, once: if the answer is lost, the same batch is written again, and the store
    /// answers as the first time.
    ///
    /// # Errors
    /// Those of the store. If it failed several times in a row, the batch may have been written.
    pub(crate) async fn commit_once(&self, batch: Batch) -> Result<Committed> {
        let Batch { expect, mut ops } = batch;
        let token = CommitToken::random();
        ops.insert(0, Op::Once { token, again: false });
        let mut pauses = PAUSES.iter();
        loop {
            let batch = Batch { expect: expect.clone(), ops: ops.clone() };
            match self.metadata.commit(batch, Durability::Full).await {
                Ok(mut committed) => {
                    // The places are those of the batch that was given.
                    committed.ignored.iter_mut().for_each(|place| *place -= 1);
                    return Ok(committed);
                }
                Err(error)
                    if error.kind() == crate::error::ErrorKind::Store && error.is_retryable() =>
                {
                    match pauses.next() {
                        Some(pause) => {
                            // If the last try fails, too, the caller gets its error.
                            tracing::debug!(target: "superduper::run", %error, "a commit is tried again: it may have been written");
                            tokio::time::sleep(*pause).await;
                            ops[0] = Op::Once { token, again: true };
                        }
                        None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}
