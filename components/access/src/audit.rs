//! The record of decisions: one entry for each, in an append-only log of the site.

use crate::right::Right;
use serde::{Deserialize, Serialize};
use superduper::{
    Db, Result, ResultExt,
    store::{LogHead, Timestamp},
};

/// How a decision came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It was allowed.
    Allow,
    /// It was denied.
    Deny,
    /// It waits for a decision of the owner.
    Block,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// The site.
    pub site: String,
    /// The user, with the organisation if there is one: `alice of lab`. Empty if the training
    /// names no submitter.
    pub who: String,
    /// The right that was asked for.
    pub right: Right,
    /// The code, or what was given to whom.
    pub subject: String,
    /// How it came out.
    pub outcome: Outcome,
    /// The rule, role and grant that decided, or what was missing.
    pub rule: String,
    /// What for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// The training and its round, for code that was to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// A record with its number and time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// When it was written, by the clock of the process that decided.
    pub at: Timestamp,
    /// The decision.
    pub record: AuditRecord,
}

/// The name of the log of a site.
pub(crate) fn log_of(site: &str) -> String {
    format!("access/{site}")
}

/// Put a decision on record. It is durable when this returns.
pub(crate) async fn record(db: &Db, record: &AuditRecord) -> Result<()> {
    db.append(&log_of(&record.site), record).await.context("the audit of the site")
}

/// The head of a site's decisions.
pub(crate) async fn head(db: &Db, site: &str) -> Result<LogHead> {
    db.log_head(&log_of(site)).await.context("the audit of the site")
}

/// All decisions of a site, oldest first.
pub(crate) async fn entries(db: &Db, site: &str) -> Result<Vec<AuditEntry>> {
    const PAGE: usize = 1000;
    let (log, mut found) = (log_of(site), Vec::new());
    let mut after = 0;
    loop {
        let page = db.log_entries(&log, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = last.seq;
        for entry in page {
            let record = serde_json::from_value(entry.payload).map_err(|error| {
                superduper::Error::integrity(format!("entry {}: {error}", entry.seq))
            })?;
            found.push(AuditEntry { number: entry.seq, at: entry.at, record });
        }
    }
}

/// Check the chain of a site's decisions.
pub(crate) async fn verify(db: &Db, site: &str, known: Option<LogHead>) -> Result<LogHead> {
    db.check_log(&log_of(site), known)
        .await
        .map_err(|error| error.context(format_args!("the audit of site `{site}`")))
}
