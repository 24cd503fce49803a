//! The conditions of a batch. Nothing here writes.

use super::Commit;
use crate::codec::{Code, address, address_list};
use std::collections::HashSet;
use superduper_core::{
    Address, Error, Result,
    store::{Expect, JobRole, RunId, RunPurpose},
};

impl Commit<'_, '_> {
    pub(super) fn check(&self, expects: &[Expect]) -> Result<()> {
        for expect in expects {
            match expect {
                Expect::Newest { address, state } => self.check_newest(address, *state)?,
                Expect::SweepEpoch(epoch) => {
                    if self.known.sweeps.map(|(now, _)| now) != Some(*epoch) {
                        return Err(Error::conflict("blobs were swept since the plan was made"));
                    }
                }
                Expect::Unreferenced { children } => self.check_unreferenced(children)?,
                Expect::Label { address, label, version } => {
                    self.check_label(address, label, *version)?
                }
                Expect::Unlabelled { address, but } => {
                    self.check_unlabelled(address, but.as_deref())?;
                }
                Expect::Removable { versions } => self.check_removable(versions)?,
                Expect::NoRun { address, but } => self.check_no_run(address, *but)?,
            }
        }
        Ok(())
    }

    fn check_newest(&self, address: &Address, expected: Option<(u32, u32, bool)>) -> Result<()> {
        let live = self.known.live(address);
        let found = live.map(|live| {
            (
                live.newest,
                live.revisions.get(&live.newest).copied().unwrap_or(0),
                live.is_being_removed(live.newest),
            )
        });
        if found == expected {
            return Ok(());
        }
        let say = |state: Option<(u32, u32, bool)>| match state {
            None => "absent".to_owned(),
            Some((version, revision, removing)) => {
                format!("at {version}.{revision}{}", if removing { ", being removed" } else { "" })
            }
        };
        Err(Error::conflict(format!(
            "`{}` is {}, but the plan was made with it {}",
            address.unversioned(),
            say(found),
            say(expected)
        )))
    }

    fn check_unreferenced(&self, children: &[Address]) -> Result<()> {
        let listed: HashSet<(&str, &str, Option<u32>)> = children
            .iter()
            .map(|child| (&*child.kind, &*child.identifier, child.version.map(|at| at.version)))
            .collect();
        let is_listed = |address: &Address| {
            let version = address.version.map(|at| at.version);
            [version, None]
                .into_iter()
                .any(|version| listed.contains(&(&*address.kind, &*address.identifier, version)))
        };
        let text = "SELECT p.kind, p.identifier, e.version, NULL, c.kind, c.identifier, e.child_version, NULL, e.path \
            FROM json_each(?1) j \
            JOIN component c ON c.kind = j.value ->> 0 AND c.identifier = j.value ->> 1 AND c.removed = 0 \
            JOIN edge e ON e.child = c.id AND (j.value ->> 2 IS NULL OR e.child_version = j.value ->> 2) \
            JOIN version v INDEXED BY version_key ON v.component = e.component AND v.number = e.version AND v.revision = e.revision \
            JOIN component p ON p.id = e.component";
        let rows = self.sql.query(
            "read what refers to a component",
            text,
            [address_list(children.iter())],
            |row| Ok((address(row, 0)?, address(row, 4)?, row.get::<_, String>(8)?)),
        )?;
        match rows.into_iter().find(|(parent, _, _)| !is_listed(parent)) {
            Some((parent, child, path)) => {
                Err(Error::conflict(format!("`{child}` is referenced by `{parent}` at `{path}`")))
            }
            None => Ok(()),
        }
    }

    fn check_removable(&self, versions: &[Address]) -> Result<()> {
        let list = address_list(versions.iter());
        let text = "SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, NULL FROM json_each(?1) j WHERE NOT EXISTS ( \
            SELECT 1 FROM component c CROSS JOIN version v INDEXED BY version_key ON v.component = c.id AND v.number = j.value ->> 2 \
            WHERE c.kind = j.value ->> 0 AND c.identifier = j.value ->> 1 AND c.removed = 0) LIMIT 1";
        if let Some(gone) =
            self.sql
                .query_first("read what is to be removed", text, [&list], |row| address(row, 0))?
        {
            return Err(Error::conflict(format!(
                "`{gone}` is gone, but the plan was made with it there"
            )));
        }
        let text = "SELECT c.kind, c.identifier, j.value ->> 2, NULL, r.id FROM run r CROSS JOIN json_each(?1) j \
            CROSS JOIN component c ON c.kind = j.value ->> 0 AND c.identifier = j.value ->> 1 AND c.removed = 0 \
            WHERE r.state = 0 AND r.purpose = ?2 AND ( \
                (r.root = c.id AND (r.root_version IS NULL OR r.root_version = j.value ->> 2)) \
                OR EXISTS (SELECT 1 FROM job o WHERE o.run = r.id AND o.role = ?3 AND o.state < 3 \
                    AND o.component = c.id AND o.version = j.value ->> 2)) LIMIT 1";
        let values = (list, RunPurpose::Remove.code(), JobRole::Cleanup.code());
        match self.sql.query_first("read unfinished removals", text, values, |row| {
            Ok((address(row, 0)?, row.get::<_, i64>(4)?))
        })? {
            Some((version, run)) => {
                Err(Error::conflict(format!("run {run} removes `{version}` already")))
            }
            None => Ok(()),
        }
    }

    fn check_no_run(&self, address: &Address, but: Option<RunId>) -> Result<()> {
        let text = "WITH same AS (SELECT id FROM component WHERE kind = ?1 AND identifier = ?2) \
            SELECT id FROM run WHERE state = 0 AND id IS NOT ?3 AND (root IN same \
                OR EXISTS (SELECT 1 FROM job WHERE job.run = run.id AND job.component IN same)) \
                AND (purpose = ?4 OR EXISTS (SELECT 1 FROM job WHERE job.run = run.id AND job.state < 3)) LIMIT 1";
        let values =
            (&address.kind, &address.identifier, but.map(|run| run.0), RunPurpose::Remove.code());
        match self
            .sql
            .query_first("read unfinished runs", text, values, |row| row.get::<_, i64>(0))?
        {
            Some(run) => Err(Error::conflict(format!(
                "run {run} of `{}` is not finished",
                address.unversioned()
            ))),
            None => Ok(()),
        }
    }
}
