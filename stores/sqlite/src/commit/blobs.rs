//! References to blobs, outputs, and the marks of blobs that are to be deleted.
//!
//! Invariant: a blob that is marked for deletion gets no reference; it has to be swept, uploaded
//! again and named again.

use super::Commit;
use crate::{
    codec::{digest, json_text, signed},
    sql::Sql,
};
use serde_json::Value;
use superduper_core::{
    Address, Digest, Error, Result,
    store::{BlobRow, Finish, OutputRow},
};

/// What refers to blobs: a revision, an output, a job's result or checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Reference<'b> {
    component: i64,
    version: u32,
    revision: Option<u32>,
    output: Option<&'b str>,
    job: Option<i64>,
    checkpoint: Option<u32>,
}

/// A reference with its blob, and the name to use in an error.
pub(super) struct BlobReference<'b> {
    from: Reference<'b>,
    address: Option<&'b Address>,
    blob: &'b BlobRow,
}

impl<'b> Reference<'b> {
    pub(super) fn revision(component: i64, version: u32, revision: u32) -> Self {
        Reference {
            component,
            version,
            revision: Some(revision),
            output: None,
            job: None,
            checkpoint: None,
        }
    }

    pub(super) fn result(component: i64, version: u32, job: i64) -> Self {
        Reference {
            component,
            version,
            revision: None,
            output: None,
            job: Some(job),
            checkpoint: None,
        }
    }

    pub(super) fn checkpoint(component: i64, version: u32, job: i64, number: u32) -> Self {
        Reference { checkpoint: Some(number), ..Reference::result(component, version, job) }
    }

    pub(super) fn to(self, address: &'b Address, blob: &'b BlobRow) -> BlobReference<'b> {
        BlobReference { from: self, address: Some(address), blob }
    }

    pub(super) fn of_job(self, blob: &'b BlobRow) -> BlobReference<'b> {
        BlobReference { from: self, address: None, blob }
    }
}

impl<'b> Commit<'_, 'b> {
    /// Record references to blobs.
    pub(super) fn refer(&mut self, references: &[BlobReference<'_>]) -> Result<()> {
        if references.is_empty() {
            return Ok(());
        }
        self.refuse_marked(references)?;
        let head = ("INSERT INTO artifact (digest, size)", 2, " ON CONFLICT (digest) DO NOTHING");
        self.sql.insert("record blobs", head, references, |row, reference| {
            row.bind(&reference.blob.digest.as_bytes()[..])?;
            row.bind(signed(reference.blob.size))
        })?;
        let head = "INSERT INTO artifact_ref (component, version, revision, output, job, checkpoint, path, digest)";
        self.sql.insert(
            "record references to blobs",
            (head, 8, ""),
            references,
            |row, BlobReference { from, blob, .. }| {
                row.bind(from.component)?;
                row.bind(from.version)?;
                row.bind(from.revision)?;
                row.bind(from.output)?;
                row.bind(from.job)?;
                row.bind(from.checkpoint)?;
                row.bind(&blob.path)?;
                row.bind(&blob.digest.as_bytes()[..])
            },
        )
    }

    fn refuse_marked(&mut self, references: &[BlobReference<'_>]) -> Result<()> {
        if !self.sweeps()?.1 {
            return Ok(());
        }
        for BlobReference { address, blob, .. } in references {
            let text = "SELECT 1 FROM artifact WHERE digest = ?1 AND doomed = 1";
            if self
                .sql
                .query_first("read marked blobs", text, [&blob.digest.as_bytes()[..]], |_| Ok(()))?
                .is_some()
            {
                let by =
                    address.map_or_else(|| "a job".to_owned(), |address| format!("`{address}`"));
                return Err(Error::conflict(format!(
                    "{by} names blob {}, which is being deleted",
                    blob.digest
                )));
            }
        }
        Ok(())
    }

    /// Whether an end names a blob that is being deleted, or that may have been since it was looked
    /// for.
    pub(super) fn names_swept(&mut self, finish: &Finish) -> Result<bool> {
        let blobs =
            || finish.blobs.iter().chain(finish.outputs.iter().flat_map(|output| &output.blobs));
        if blobs().next().is_none() {
            return Ok(false);
        }
        let (epoch, dooms) = self.sweeps()?;
        let moved = finish.sweep_epoch.is_some_and(|seen| seen != epoch);
        if !moved && !dooms {
            return Ok(false);
        }
        for blob in blobs() {
            // A sweep takes the row along: a blob that has one and is not marked was spared, or
            // named again since.
            let text = "SELECT doomed FROM artifact WHERE digest = ?1";
            let doomed = self.sql.query_first(
                "read a blob",
                text,
                [&blob.digest.as_bytes()[..]],
                |row| row.get::<_, bool>(0),
            )?;
            if doomed.unwrap_or(moved) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many sweeps there were, and whether any blob is marked for deletion.
    fn sweeps(&mut self) -> Result<(u64, bool)> {
        if let Some(known) = self.known.sweeps {
            return Ok(known);
        }
        let text = "SELECT value, EXISTS (SELECT 1 FROM artifact WHERE doomed = 1) FROM meta WHERE name = 'sweep_epoch'";
        let read = self.sql.query_first("read marked blobs", text, [], |row| {
            Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), row.get(1)?))
        })?;
        let sweeps = read.ok_or_else(|| Error::store("the database has no count of sweeps"))?;
        self.known.sweeps = Some(sweeps);
        Ok(sweeps)
    }

    /// Set outputs of a version in place of what they were.
    pub(super) fn set_outputs(
        &mut self,
        component: i64,
        version: u32,
        outputs: &'b [OutputRow],
    ) -> Result<()> {
        for output in outputs {
            let insert = "INSERT INTO output (component, version, name, value) VALUES (?1, ?2, ?3, ?4) \
                ON CONFLICT (component, version, name) DO UPDATE SET value = excluded.value";
            let what = format!("set output `{}`", output.name);
            self.sql.execute(
                &what,
                insert,
                (component, version, &output.name, json_text(&output.value)),
            )?;
            drop_output_references(self.sql, component, version, Some(&output.name))?;
            let owner = Reference {
                component,
                version,
                revision: None,
                output: Some(&output.name),
                job: None,
                checkpoint: None,
            };
            let references: Vec<_> = output.blobs.iter().map(|blob| owner.of_job(blob)).collect();
            self.refer(&references)?;
        }
        Ok(())
    }

    /// Copy outputs, with their references to blobs, from one version to another.
    pub(super) fn copy_outputs(
        &mut self,
        address: &Address,
        (from, to): (u32, u32),
        outputs: &[String],
    ) -> Result<()> {
        let (component, _) = self.known.find_or_error(&address.at(from))?;
        self.known.find_or_error(&address.at(to))?;
        let names = Value::from(outputs).to_string();
        let copy = "INSERT INTO output (component, version, name, value) SELECT component, ?3, name, value FROM output \
            WHERE component = ?1 AND version = ?2 AND name IN (SELECT value FROM json_each(?4)) \
            ON CONFLICT (component, version, name) DO UPDATE SET value = excluded.value";
        if self.sql.execute("copy outputs", copy, (component, from, to, &names))? != outputs.len() {
            let text = format!(
                "`{}` no longer has all of the outputs {}",
                address.at(from),
                outputs.join(", ")
            );
            return Err(Error::conflict(text));
        }
        let old = "DELETE FROM artifact_ref WHERE component = ?1 AND version = ?2 AND output IN (SELECT value FROM json_each(?3))";
        self.sql.execute("copy outputs", old, (component, to, &names))?;
        let references = "INSERT INTO artifact_ref (component, version, output, path, digest) \
            SELECT component, ?3, output, path, digest FROM artifact_ref WHERE component = ?1 AND version = ?2 \
            AND output IN (SELECT value FROM json_each(?4))";
        self.sql.execute("copy outputs", references, (component, from, to, &names)).map(drop)
    }

    /// Refuse what was decided under a sweep lock that was lost.
    pub(super) fn check_lock(&self, lock: i64) -> Result<()> {
        let newest = sweep_lock(self.sql)?;
        if newest == lock {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "the sweep lock {lock} was lost: another process has taken lock {newest}"
        )))
    }

    pub(super) fn mark_blobs(&mut self, digests: &[Digest]) -> Result<()> {
        let text = "INSERT INTO artifact (digest, size, doomed) SELECT unhex(j.value), 0, 1 FROM json_each(?1) j \
            WHERE NOT EXISTS (SELECT 1 FROM artifact_ref r WHERE r.digest = unhex(j.value)) \
            ON CONFLICT (digest) DO UPDATE SET doomed = 1 RETURNING digest";
        self.done.marked.extend(self.sql.query(
            "mark blobs for deletion",
            text,
            [hex_list(digests)],
            |row| digest(row, 0),
        )?);
        self.known.sweeps = None;
        Ok(())
    }

    pub(super) fn confirm_deleted(&mut self, digests: &[Digest]) -> Result<()> {
        let text = "DELETE FROM artifact WHERE doomed = 1 AND digest IN (SELECT unhex(value) FROM json_each(?1))";
        self.sql.execute("forget deleted blobs", text, [hex_list(digests)])?;
        self.known.sweeps = None;
        self.sql
            .execute(
                "count a sweep",
                "UPDATE meta SET value = value + 1 WHERE name = 'sweep_epoch'",
                [],
            )
            .map(drop)
    }
}

fn drop_output_references(
    sql: Sql<'_>,
    component: i64,
    version: u32,
    output: Option<&str>,
) -> Result<()> {
    let text = "DELETE FROM artifact_ref WHERE component = ?1 AND version = ?2 AND output = ?3";
    sql.execute("replace an output", text, (component, version, output)).map(drop)
}

/// The number of the sweep lock that was taken last.
pub(crate) fn sweep_lock(sql: Sql<'_>) -> Result<i64> {
    let text = "SELECT value FROM meta WHERE name = 'sweep_lock'";
    Ok(sql.query_first("read the sweep lock", text, [], |row| row.get(0))?.unwrap_or(0))
}

fn hex_list(digests: &[Digest]) -> String {
    let hex: Vec<String> =
        digests.iter().map(|digest| format!("\"{}\"", digest.to_hex())).collect();
    format!("[{}]", hex.join(","))
}
