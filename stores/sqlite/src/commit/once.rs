//! Batches that are written once, whatever became of the answer, and append-only logs.

use super::{Commit, Sql};
use crate::codec::{digest, json_text};
use serde_json::Value;
use superduper_core::{
    Error, Result,
    store::{CommitToken, Committed, LogHead, Timestamp},
};

/// How long a token is kept: a caller that lost an answer asks again within seconds.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// How many tokens are recorded between two looks for old ones.
const BETWEEN: i64 = 256;

/// The answer to the batch that was written with a token, if one was.
pub(super) fn answer(sql: Sql<'_>, token: CommitToken) -> Result<Option<Committed>> {
    let text = "SELECT answer FROM commit_token WHERE token = ?1";
    let answer =
        sql.query_first("look for an earlier commit", text, [&token.as_bytes()[..]], |row| {
            row.get::<_, String>(0)
        })?;
    let read = |text: String| {
        serde_json::from_str(&text)
            .map_err(|error| Error::store("read the answer to a commit").with_source(error))
    };
    answer.map(read).transpose()
}

/// Keep the answer to the batch that is being written.
pub(super) fn keep(sql: Sql<'_>, token: CommitToken, answer: &Committed) -> Result<()> {
    let text = serde_json::to_string(answer)
        .map_err(|error| Error::internal("write the answer to a commit").with_source(error))?;
    let now = Timestamp::now().0;
    let insert = "INSERT INTO commit_token (token, at, answer) VALUES (?1, ?2, ?3)";
    sql.execute("keep the answer to a commit", insert, (&token.as_bytes()[..], now, text))?;
    if sql.connection.last_insert_rowid() % BETWEEN == 0 {
        sql.execute(
            "forget old answers",
            "DELETE FROM commit_token WHERE at < ?1",
            [now - KEPT_MS],
        )?;
    }
    Ok(())
}

impl Commit<'_, '_> {
    pub(super) fn append(&mut self, log: &str, payload: &Value, at: Timestamp) -> Result<()> {
        let entry = head(self.sql, log)?.entry(log, at, self.done.run, payload.clone());
        let insert = "INSERT INTO log_entry (log, seq, at, run, payload, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let seq = i64::try_from(entry.seq).unwrap_or(i64::MAX);
        let run = entry.run.map(|run| run.0);
        let values = (log, seq, at.0, run, json_text(&entry.payload), &entry.hash.as_bytes()[..]);
        self.sql.execute("append to a log", insert, values).map(drop)
    }
}

/// The last entry of a log.
pub(crate) fn head(sql: Sql<'_>, log: &str) -> Result<LogHead> {
    let text = "SELECT seq, hash FROM log_entry WHERE log = ?1 ORDER BY seq DESC LIMIT 1";
    let found = sql.query_first("read the end of a log", text, [log], |row| {
        Ok(LogHead {
            seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
            hash: digest(row, 1)?,
        })
    })?;
    Ok(found.unwrap_or(LogHead::EMPTY))
}
