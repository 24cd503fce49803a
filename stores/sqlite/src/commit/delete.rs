//! Deleting versions.
//!
//! Neighbouring deletions are one: parents and children of one tree may come in any order.

use super::{Commit, Of};
use crate::codec::{address, number, optional_number};
use std::collections::{BTreeMap, BTreeSet};
use superduper_core::{
    Address, Error, ErrorKind, Result,
    store::{Op, Timestamp},
};

impl<'b> Commit<'_, 'b> {
    /// Do the deletions at the head of the list; the answer is the rest of it.
    pub(super) fn delete(&mut self, ops: &'b [Op]) -> Result<&'b [Op]> {
        let mut gone: BTreeMap<i64, (&Address, BTreeSet<u32>)> = BTreeMap::new();
        let mut count = 0;
        for op in ops {
            let Op::Delete { address, versions } = op else { break };
            count += 1;
            if let Some(live) = self.known.live(address) {
                gone.entry(live.id)
                    .or_insert_with(|| (address, BTreeSet::new()))
                    .1
                    .extend(versions);
            }
        }
        let pairs: Vec<(i64, u32)> = gone
            .iter()
            .flat_map(|(id, (_, versions))| versions.iter().map(|version| (*id, *version)))
            .collect();
        if !pairs.is_empty() {
            let set = serde_json::to_string(&pairs)
                .map_err(|error| Error::internal("list deleted versions").with_source(error))?;
            self.keep_labelled(&set)?;
            self.drop_superseded(&gone, &set)?;
            self.delete_versions(&gone, &set)?;
        }
        Ok(&ops[count..])
    }

    /// A label keeps its version, unless the whole component goes.
    fn keep_labelled(&self, set: &str) -> Result<()> {
        let text = "SELECT c.kind, c.identifier, l.version, NULL, l.name \
            FROM json_each(?1) j JOIN label l ON l.component = j.value ->> 0 AND l.version = j.value ->> 1 \
            JOIN component c ON c.id = l.component \
            WHERE EXISTS (SELECT 1 FROM version v INDEXED BY version_key WHERE v.component = l.component \
                AND (v.component, v.number) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1)))";
        let labelled =
            self.sql.query_first("read the labels of deleted versions", text, [set], |row| {
                Ok((address(row, 0)?, row.get::<_, String>(4)?))
            })?;
        match labelled {
            Some((version, label)) => {
                Err(Error::new(ErrorKind::InUse, format!("`{version}` is labelled `{label}`"))
                    .with_hint("move the label to another version or take it away first"))
            }
            None => Ok(()),
        }
    }

    /// Delete the superseded revisions that refer to what goes; a current one is an error.
    fn drop_superseded(
        &self,
        gone: &BTreeMap<i64, (&Address, BTreeSet<u32>)>,
        set: &str,
    ) -> Result<()> {
        let text = "SELECT p.kind, p.identifier, e.version, NULL, c.kind, c.identifier, e.child_version, NULL, e.path, \
                e.component, e.revision, e.revision = v.revision \
            FROM json_each(?1) j JOIN edge e ON e.child = j.value ->> 0 AND e.child_version = j.value ->> 1 \
            JOIN version v INDEXED BY version_key ON v.component = e.component AND v.number = e.version \
            JOIN component p ON p.id = e.component JOIN component c ON c.id = e.child";
        let mut superseded = BTreeSet::new();
        let rows = self.sql.query("read what refers to deleted versions", text, [set], |row| {
            let key = (row.get::<_, i64>(9)?, number(row, 2)?, number(row, 10)?);
            Ok((
                key,
                row.get::<_, bool>(11)?,
                address(row, 0)?,
                address(row, 4)?,
                row.get::<_, String>(8)?,
            ))
        })?;
        for ((component, version, revision), current, parent, child, path) in rows {
            if gone.get(&component).is_some_and(|(_, versions)| versions.contains(&version)) {
                continue;
            }
            if current {
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!("`{child}` is referenced by `{parent}` at `{path}`"),
                )
                .with_hint("remove or change what refers to it first"));
            }
            superseded.insert((component, version, revision));
        }
        for key in superseded {
            for text in [
                "DELETE FROM edge WHERE component = ?1 AND version = ?2 AND revision = ?3",
                "DELETE FROM artifact_ref WHERE component = ?1 AND version = ?2 AND revision = ?3",
                "DELETE FROM revision WHERE component = ?1 AND version = ?2 AND number = ?3",
            ] {
                self.sql.execute("drop a superseded revision", text, key)?;
            }
        }
        Ok(())
    }

    fn delete_versions(
        &mut self,
        gone: &BTreeMap<i64, (&'b Address, BTreeSet<u32>)>,
        set: &str,
    ) -> Result<()> {
        let edges = "DELETE FROM edge WHERE (component, version) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";
        self.sql.execute("delete references", edges, [set])?;
        // They would name blobs that are about to be swept. Both halves have an index of their own.
        let checkpoints = "DELETE FROM checkpoint WHERE job IN ( \
            SELECT o.id FROM json_each(?1) k CROSS JOIN job o INDEXED BY job_target \
            ON o.component = k.value ->> 0 AND o.version = k.value ->> 1 WHERE o.key IS NULL \
            UNION ALL SELECT o.id FROM json_each(?1) k CROSS JOIN job o INDEXED BY job_spawned \
            ON o.component = k.value ->> 0 AND o.version = k.value ->> 1 WHERE o.key IS NOT NULL)";
        self.sql.execute("delete checkpoints", checkpoints, [set])?;
        let mut deleted = self.delete_rows(gone)?;
        for (id, (address, _)) in gone {
            let Some(versions) = deleted.remove(id) else { continue };
            let newest =
                "SELECT max(number) FROM version INDEXED BY version_key WHERE component = ?1";
            let newest = self
                .sql
                .query_first("read what is left of a component", newest, [id], |row| {
                    optional_number(row, 0)
                })?
                .flatten();
            let update = "UPDATE component SET newest = coalesce(?2, newest), removed = iif(?2 IS NULL, id, 0), \
                removing = iif(?2 IS NULL, 0, removing) WHERE id = ?1";
            self.sql.execute("delete a component", update, (id, newest))?;
            self.known.deleted(address, &versions, newest);
            let detail = match newest {
                None => address.path(),
                Some(_) => versions
                    .iter()
                    .map(|version| address.at(*version).to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            self.event(Timestamp::now(), Of::Batch, "component.removed", Some(detail.into()));
        }
        Ok(())
    }
    /// Delete rows of versions, and say which there were, ascending for each component.
    ///
    /// A lookup in `version` compares rows on its way, and SQLite reads a row that does not fit
    /// into a page as a whole to compare it. In ascending order each lookup would compare the same
    /// neighbour, whose document may have many megabytes. So the rows go in an order that keeps
    /// those which are left evenly spread.
    fn delete_rows(
        &self,
        gone: &BTreeMap<i64, (&Address, BTreeSet<u32>)>,
    ) -> Result<BTreeMap<i64, Vec<u32>>> {
        let mut pairs: Vec<(i64, u32)> = gone
            .iter()
            .flat_map(|(id, (_, versions))| versions.iter().map(|version| (*id, *version)))
            .collect();
        let bits = usize::BITS - pairs.len().leading_zeros();
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_unstable_by_key(|place| place.reverse_bits() >> (usize::BITS - bits));
        pairs = order.into_iter().map(|place| pairs[place]).collect();
        let mut deleted: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (id, version) in pairs {
            if self.sql.execute(
                "delete a version",
                "DELETE FROM version WHERE component = ?1 AND number = ?2",
                (id, version),
            )? > 0
            {
                deleted.entry(id).or_default().push(version);
            }
        }
        deleted.values_mut().for_each(|versions| versions.sort_unstable());
        Ok(deleted)
    }
}
