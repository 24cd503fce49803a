//! Storing versions and revisions.
//!
//! Neighbouring puts of different components are one group: each table gets all its rows at once.

use super::{Commit, Of, blobs::Reference};
use crate::codec::json_text;
use std::collections::HashSet;
use superduper_core::{
    Address, Error, Result, VersionRef,
    store::{BlobRow, ComponentId, EdgeRow, Op, PutAction, PutVersion, being_removed},
};

/// A reference whose child was found: component, version and revision of the parent, the path, the
/// child and its version.
type FoundEdge<'e> = ((i64, u32, u32), &'e str, (i64, u32));

/// A put with its component.
struct Placed<'b> {
    put: &'b PutVersion,
    component: i64,
    version: u32,
    revision: u32,
}

impl<'b> Commit<'_, 'b> {
    /// Store the puts at the head of the list; the answer is the rest of it.
    pub(super) fn put(&mut self, ops: &'b [Op]) -> Result<&'b [Op]> {
        let mut names = HashSet::new();
        let group: Vec<&PutVersion> = ops
            .iter()
            .map_while(|op| match op {
                Op::Put(put) if names.insert((&put.address.kind, &put.address.identifier)) => {
                    Some(put)
                }
                _ => None,
            })
            .collect();
        let rest = &ops[group.len()..];
        let placed = self.place(group)?;
        self.write_versions(&placed)?;
        self.write_edges(&placed)?;
        let mut references = Vec::new();
        for Placed { put, component, version, revision } in &placed {
            let owner = Reference::revision(*component, *version, *revision);
            references.extend(put.blobs.iter().map(|blob| owner.to(&put.address, blob)));
        }
        self.refer(&references)?;
        for Placed { put, component, .. } in placed {
            self.done.components.push(ComponentId(component));
            self.event(
                put.at,
                Of::Batch,
                "component.applied",
                Some(put.address.to_string().into()),
            );
        }
        Ok(rest)
    }

    /// Check the numbers and make the rows of new components.
    fn place(&mut self, group: Vec<&'b PutVersion>) -> Result<Vec<Placed<'b>>> {
        let mut placed = Vec::with_capacity(group.len());
        for put in group {
            let (version, revision) = self.check_number(put)?;
            let component = self.known.live(&put.address).map_or(0, |live| live.id);
            placed.push(Placed { put, component, version, revision });
        }
        let new: Vec<&PutVersion> =
            placed.iter().filter(|placed| placed.component == 0).map(|placed| placed.put).collect();
        self.sql.insert(
            "record components",
            ("INSERT INTO component (kind, identifier)", 2, ""),
            &new,
            |row, put| {
                row.bind(&put.address.kind)?;
                row.bind(&put.address.identifier)
            },
        )?;
        // Rows of one transaction get consecutive ids: nobody else inserts meanwhile.
        let mut next = self.sql.connection.last_insert_rowid() + 1 - new.len() as i64;
        for Placed { put, component, version, revision } in &mut placed {
            if *component == 0 {
                *component = next;
                next += 1;
            }
            self.known.stored(&put.address, *component, *version, *revision);
        }
        Ok(placed)
    }

    fn check_number(&self, put: &PutVersion) -> Result<(u32, u32)> {
        let address = &put.address;
        let Some(VersionRef { version, revision: Some(revision) }) = address.version else {
            return Err(Error::invalid(format!(
                "`{address}` is to be stored without a version and revision"
            )));
        };
        let expected = match (put.action, self.known.live(address)) {
            (PutAction::Create, None) => (0, 0),
            (PutAction::Create, Some(_)) => {
                return Err(Error::conflict(format!("`{}` exists already", address.unversioned())));
            }
            (_, None) => {
                return Err(Error::conflict(format!("`{}` does not exist", address.unversioned())));
            }
            (PutAction::Version, Some(live)) => (live.next_version, 0),
            (PutAction::Revision, Some(live)) => {
                (live.newest, live.revisions.get(&live.newest).map_or(0, |newest| newest + 1))
            }
        };
        if put.action == PutAction::Revision && self.known.is_being_removed(address, version) {
            return Err(being_removed(&address.at(version)));
        }
        if (version, revision) != expected {
            return Err(Error::conflict(format!(
                "`{address}` is to be stored where {}.{} is next",
                expected.0, expected.1
            )));
        }
        Ok((version, revision))
    }

    fn write_versions(&self, placed: &[Placed<'_>]) -> Result<()> {
        let is_new = |placed: &&Placed<'_>| placed.put.action != PutAction::Revision;
        let new: Vec<&Placed<'_>> = placed.iter().filter(is_new).collect();
        let head = "INSERT INTO version (component, number, revision, owes_jobs, content_of, created_at, updated_at, type_version, uuid, \
            content_hash, document)";
        self.sql.insert(
            "record versions",
            (head, 11, ""),
            &new,
            |row, Placed { put, component, version, revision }| {
                row.bind(component)?;
                row.bind(version)?;
                row.bind(revision)?;
                row.bind(put.owes_jobs)?;
                row.bind(put.content_of)?;
                row.bind(put.at.0)?;
                row.bind(put.at.0)?;
                row.bind(put.type_version)?;
                row.bind(&put.uuid.as_bytes()[..])?;
                row.bind(&put.content_hash.as_bytes()[..])?;
                row.bind(json_text(&put.document))
            },
        )?;
        for placed in placed {
            match placed.put.action {
                PutAction::Create => {}
                PutAction::Version => {
                    let update =
                        "UPDATE component SET newest = ?2, next_version = ?2 + 1 WHERE id = ?1";
                    self.sql.execute(
                        "record a version",
                        update,
                        (placed.component, placed.version),
                    )?;
                }
                PutAction::Revision => self.revise(placed)?,
            }
        }
        Ok(())
    }

    /// Move the newest revision aside and put the new one in its place.
    fn revise(&self, Placed { put, component, version, revision }: &Placed<'_>) -> Result<()> {
        let keep = "INSERT INTO revision (component, version, number, updated_at, type_version, uuid, content_hash, document) \
            SELECT component, number, revision, updated_at, type_version, uuid, content_hash, document FROM version \
            WHERE component = ?1 AND number = ?2";
        self.sql.execute("keep a superseded revision", keep, (component, version))?;
        let update = "UPDATE version SET revision = ?3, owes_jobs = ?4, content_of = ?5, updated_at = ?6, type_version = ?7, uuid = ?8, \
            content_hash = ?9, document = ?10 WHERE component = ?1 AND number = ?2";
        let values = rusqlite::params![
            component,
            version,
            revision,
            put.owes_jobs,
            put.content_of,
            put.at.0,
            put.type_version,
            &put.uuid.as_bytes()[..],
            &put.content_hash.as_bytes()[..],
            json_text(&put.document),
        ];
        self.sql.execute("record a revision", update, values).map(drop)
    }

    fn write_edges(&self, placed: &[Placed<'_>]) -> Result<()> {
        let mut edges = Vec::new();
        for Placed { put, component, version, revision } in placed {
            let is_going = |edge: &&EdgeRow| {
                self.known
                    .is_being_removed(&edge.child, edge.child.version.map_or(0, |at| at.version))
            };
            if let Some(edge) = put.edges.iter().find(is_going) {
                return Err(being_removed(&edge.child)
                    .context(format!("`{}` at `{}`", put.address, edge.path)));
            }
            self.find_children(
                &put.address,
                (*component, *version, *revision),
                &put.edges,
                &mut edges,
            )?;
        }
        self.insert_edges(&edges)
    }

    fn find_children<'e>(
        &self,
        parent: &Address,
        key: (i64, u32, u32),
        edges: &'e [EdgeRow],
        found: &mut Vec<FoundEdge<'e>>,
    ) -> Result<()> {
        for edge in edges {
            if edge.child.version.is_none() {
                return Err(Error::invalid(format!(
                    "`{parent}` refers to `{}` without a version",
                    edge.child
                )));
            }
            let child = self.known.find_or_error(&edge.child);
            let child =
                child.map_err(|error| error.context(format!("`{parent}` at `{}`", edge.path)))?;
            found.push((key, &edge.path, child));
        }
        Ok(())
    }

    fn insert_edges(&self, edges: &[FoundEdge<'_>]) -> Result<()> {
        let head = "INSERT INTO edge (component, version, revision, path, child, child_version)";
        self.sql.insert("record references", (head, 6, ""), edges, |row, (parent, path, child)| {
            row.bind(parent.0)?;
            row.bind(parent.1)?;
            row.bind(parent.2)?;
            row.bind(path)?;
            row.bind(child.0)?;
            row.bind(child.1)
        })
    }

    /// Write the references of a stored revision anew.
    pub(super) fn relink(
        &mut self,
        address: &'b Address,
        edges: &'b [EdgeRow],
        blobs: &'b [BlobRow],
    ) -> Result<()> {
        let (component, version, newest) = self.known.revision_or_error(address)?;
        let revision = address.version.and_then(|at| at.revision).unwrap_or(newest);
        let key = (component, version, revision);
        let stored = "SELECT 1 FROM version WHERE component = ?1 AND number = ?2 AND revision = ?3 \
            UNION ALL SELECT 1 FROM revision WHERE component = ?1 AND version = ?2 AND number = ?3";
        if self.sql.query_first("read a revision", stored, key, |_| Ok(()))?.is_none() {
            return Err(Error::not_found(format!("there is no component `{address}`")));
        }
        let mut found = Vec::new();
        self.find_children(address, key, edges, &mut found)?;
        for text in [
            "DELETE FROM edge WHERE component = ?1 AND version = ?2 AND revision = ?3",
            "DELETE FROM artifact_ref WHERE component = ?1 AND version = ?2 AND revision = ?3",
        ] {
            self.sql.execute("replace references", text, key)?;
        }
        self.insert_edges(&found)?;
        let owner = Reference::revision(component, version, revision);
        let references: Vec<_> = blobs.iter().map(|blob| owner.to(address, blob)).collect();
        self.refer(&references)
    }
}
