//! Labels that move, components that get another name.

use super::{Commit, Of};
use crate::codec::{json_text, optional_number};
use serde_json::Value;
use superduper_core::{
    Address, Digest, Error, Result,
    store::{Timestamp, being_removed},
};

impl<'b> Commit<'_, 'b> {
    pub(super) fn label(
        &mut self,
        address: &'b Address,
        label: &str,
        version: Option<u32>,
        at: Timestamp,
    ) -> Result<()> {
        let id = self.known.live_or_error(address)?;
        if let Some(version) =
            version.filter(|version| self.known.is_being_removed(address, *version))
        {
            return Err(being_removed(&address.at(version)));
        }
        let changed = match version {
            Some(version) => {
                let text = "INSERT INTO label (component, name, version, at) SELECT component, ?2, number, ?4 FROM version \
                    WHERE component = ?1 AND number = ?3 \
                    ON CONFLICT (component, name) DO UPDATE SET version = excluded.version, at = excluded.at";
                let changed = self.sql.execute("move a label", text, (id, label, version, at.0))?;
                if changed == 0 {
                    return Err(Error::not_found(format!(
                        "there is no component `{}`",
                        address.at(version)
                    )));
                }
                changed
            }
            None => self.sql.execute(
                "take a label away",
                "DELETE FROM label WHERE component = ?1 AND name = ?2",
                (id, label),
            )?,
        };
        if changed > 0 {
            let place = version
                .map_or_else(|| "nothing".to_owned(), |version| address.at(version).to_string());
            self.event(
                at,
                Of::Batch,
                "component.labelled",
                Some(format!("{}@{label} -> {place}", address.path()).into()),
            );
        }
        Ok(())
    }

    pub(super) fn check_label(
        &self,
        address: &Address,
        label: &str,
        expected: Option<u32>,
    ) -> Result<()> {
        let text = "SELECT l.version FROM label l JOIN component c ON c.id = l.component \
            WHERE c.kind = ?1 AND c.identifier = ?2 AND c.removed = 0 AND l.name = ?3";
        let values = (&address.kind, &address.identifier, label);
        let found = self
            .sql
            .query_first("read a label", text, values, |row| optional_number(row, 0))?
            .flatten();
        if found == expected {
            return Ok(());
        }
        let say = |version: Option<u32>| {
            version.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"))
        };
        Err(Error::conflict(format!(
            "label `{}@{label}` points at {}, not at {}",
            address.path(),
            say(found),
            say(expected)
        )))
    }

    pub(super) fn check_unlabelled(&self, address: &Address, but: Option<&str>) -> Result<()> {
        let text = "SELECT l.name FROM label l JOIN component c ON c.id = l.component \
            WHERE c.kind = ?1 AND c.identifier = ?2 AND c.removed = 0 AND l.version = ?3 \
            AND l.name IS NOT ?4 ORDER BY l.name";
        let version = address.version.map(|at| at.version);
        let values = (&address.kind, &address.identifier, version, but);
        match self.sql.query_first("read the labels of a version", text, values, |row| {
            row.get::<_, String>(0)
        })? {
            Some(label) => Err(Error::conflict(format!("label `{label}` points at `{address}`"))),
            None => Ok(()),
        }
    }

    pub(super) fn rename(
        &mut self,
        from: &'b Address,
        to: &'b Address,
        at: Timestamp,
    ) -> Result<()> {
        let id = self.known.live_or_error(from)?;
        if self.known.live(to).is_some() {
            return Err(Error::conflict(format!("`{}` exists already", to.path())));
        }
        let update = "UPDATE component SET kind = ?2, identifier = ?3 WHERE id = ?1";
        self.sql.execute("rename a component", update, (id, &to.kind, &to.identifier))?;
        self.known.renamed(from, to);
        self.event(
            at,
            Of::Batch,
            "component.renamed",
            Some(format!("{} -> {}", from.path(), to.path()).into()),
        );
        Ok(())
    }

    pub(super) fn rewrite(
        &mut self,
        address: &Address,
        document: &Value,
        uuid: Digest,
        content_hash: Digest,
    ) -> Result<()> {
        let id = self.known.live_or_error(address)?;
        let (version, revision) =
            address.version.map_or((0, 0), |at| (at.version, at.revision.unwrap_or(0)));
        let document = json_text(document);
        for text in [
            "UPDATE version SET document = ?4, uuid = ?5, content_hash = ?6 WHERE component = ?1 AND number = ?2 AND revision = ?3",
            "UPDATE revision SET document = ?4, uuid = ?5, content_hash = ?6 WHERE component = ?1 AND version = ?2 AND number = ?3",
        ] {
            let values = (
                id,
                version,
                revision,
                &document,
                &uuid.as_bytes()[..],
                &content_hash.as_bytes()[..],
            );
            if self.sql.execute("rewrite a document", text, values)? > 0 {
                return Ok(());
            }
        }
        self.ignore();
        Ok(())
    }
}
