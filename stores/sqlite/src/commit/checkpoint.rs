//! Checkpoints of running attempts.
//!
//! Invariant: only the owner of the current attempt keeps one; what goes, goes with its references
//! to blobs.

use super::{Commit, blobs::Reference};
use crate::codec::{json_text, number, number_list, signed};
use superduper_core::{Result, store::NewCheckpoint};

impl<'b> Commit<'_, 'b> {
    pub(super) fn checkpoint(&mut self, new: &'b NewCheckpoint) -> Result<()> {
        let job = new.job;
        let text = "SELECT component, version, coalesce((SELECT max(number) FROM checkpoint WHERE job = ?1), 0) + 1 FROM job \
            WHERE id = ?1 AND owner = ?2 AND attempt = ?3";
        let values = (job.0, new.owner.0, new.attempt);
        let row = self.sql.query_first("read the job of a checkpoint", text, values, |row| {
            Ok((row.get::<_, i64>(0)?, number(row, 1)?, number(row, 2)?))
        })?;
        let Some((component, version, next)) = row else {
            self.done.fenced.push(job);
            self.ignore();
            return Ok(());
        };
        let insert = "INSERT INTO checkpoint (job, number, attempt, step, score, at, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let score = new.score.filter(|score| score.is_finite());
        let values =
            (job.0, next, new.attempt, signed(new.step), score, new.at.0, json_text(&new.data));
        self.sql.execute("keep a checkpoint", insert, values)?;
        let owner = Reference::checkpoint(component, version, job.0, next);
        let references: Vec<_> = new.blobs.iter().map(|blob| owner.of_job(blob)).collect();
        self.refer(&references)
            .map_err(|error| error.context(format!("checkpoint {next} of job {job}")))?;
        if !new.drop.is_empty() {
            let gone = number_list(new.drop.iter().map(|number| i64::from(*number)));
            let references = "DELETE FROM artifact_ref WHERE component = ?1 AND version = ?2 AND job = ?3 \
                AND checkpoint IN (SELECT value FROM json_each(?4))";
            self.sql.execute("drop checkpoints", references, (component, version, job.0, &gone))?;
            let rows = "DELETE FROM checkpoint WHERE job = ?1 AND number IN (SELECT value FROM json_each(?2))";
            self.sql.execute("drop checkpoints", rows, (job.0, &gone))?;
        }
        self.done.checkpoints.push((job, next));
        Ok(())
    }
}
