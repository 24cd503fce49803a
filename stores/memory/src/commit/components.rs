//! Storing and deleting versions.
//!
//! Invariant: an edge points at a stored version of a component that is not removed.

use super::Commit;
use crate::state::{ComponentRow, Edge, OutputValue, RevisionRow, VersionRow};
use std::collections::{BTreeMap, BTreeSet};
use superduper_core::{
    Address, Error, Result, VersionRef,
    store::{
        BlobRow, ComponentId, EdgeRow, JobId, OutputRow, PutAction, PutVersion, Timestamp,
        being_removed,
    },
};

impl Commit<'_> {
    pub(super) fn put(&mut self, put: PutVersion) -> Result<()> {
        let address = &put.address;
        let Some(VersionRef { version, revision: Some(revision) }) = address.version else {
            return Err(Error::invalid(format!(
                "`{address}` is to be stored without a version and revision"
            )));
        };
        self.check_blobs(address, &put.blobs)?;
        if put.action == PutAction::Revision && self.is_going(address) {
            return Err(being_removed(&address.at(version)));
        }
        if let Some(edge) = put.edges.iter().find(|edge| self.is_going(&edge.child)) {
            return Err(
                being_removed(&edge.child).context(format!("`{address}` at `{}`", edge.path))
            );
        }
        let edges = self.find_children(address, put.edges)?;
        let component = self.number(address, put.action, version, revision)?;
        let before = self.state.versions.get(&(component, version)).map(|row| row.created_at);
        let row = VersionRow {
            revision,
            owes_jobs: put.owes_jobs,
            content_of: put.content_of,
            created_at: before.unwrap_or(put.at),
        };
        self.state.versions.set((component, version), row);
        let row = RevisionRow {
            uuid: put.uuid,
            content_hash: put.content_hash,
            type_version: put.type_version,
            document: put.document,
            edges,
            blobs: put.blobs,
            at: put.at,
        };
        self.state.revisions.set((component, version, revision), row);
        self.done.components.push(component);
        self.component_event(put.at, "component.applied", put.address.to_string());
        Ok(())
    }

    fn find_children(&self, parent: &Address, edges: Vec<EdgeRow>) -> Result<Vec<Edge>> {
        let mut found = Vec::with_capacity(edges.len());
        for edge in edges {
            if edge.child.version.is_none() {
                return Err(Error::invalid(format!(
                    "`{parent}` refers to `{}` without a version",
                    edge.child
                )));
            }
            let child = self
                .state
                .find_or_error(&edge.child)
                .map_err(|error| error.context(format!("`{parent}` at `{}`", edge.path)))?;
            found.push(Edge { path: edge.path, child });
        }
        Ok(found)
    }

    pub(super) fn relink(
        &mut self,
        address: &Address,
        edges: Vec<EdgeRow>,
        blobs: Vec<BlobRow>,
    ) -> Result<()> {
        let (component, version) = self.state.find_or_error(address)?;
        let newest = self.state.versions.get(&(component, version)).map_or(0, |row| row.revision);
        let revision = address.version.and_then(|at| at.revision).unwrap_or(newest);
        self.check_blobs(address, &blobs)?;
        let edges = self.find_children(address, edges)?;
        let found = self.state.revisions.change(&(component, version, revision), |row| {
            row.edges = edges;
            row.blobs = blobs;
        });
        if found {
            Ok(())
        } else {
            Err(Error::not_found(format!("there is no component `{address}`")))
        }
    }

    pub(super) fn set_outputs(&mut self, address: &Address, outputs: Vec<OutputRow>) -> Result<()> {
        let (component, version) = self.state.find_or_error(address)?;
        for output in outputs {
            self.check_blobs(address, &output.blobs)?;
            let value = OutputValue { value: output.value, blobs: output.blobs };
            self.state.outputs.set((component, version, output.name), value);
        }
        Ok(())
    }

    /// Check the numbers of a put against what is stored, and make the component where it is new.
    fn number(
        &mut self,
        address: &Address,
        action: PutAction,
        version: u32,
        revision: u32,
    ) -> Result<ComponentId> {
        let found = self.state.live(address);
        let expected = match (action, found) {
            (PutAction::Create, None) => (0, 0),
            (PutAction::Create, Some(_)) => {
                return Err(Error::conflict(format!("`{}` exists already", address.unversioned())));
            }
            (_, None) => {
                return Err(Error::conflict(format!("`{}` does not exist", address.unversioned())));
            }
            (PutAction::Version, Some(id)) => {
                (self.state.components.get(&id).map_or(0, |row| row.next_version), 0)
            }
            (PutAction::Revision, Some(id)) => {
                let newest = self.state.newest_version(id).unwrap_or(0);
                (newest, self.state.versions.get(&(id, newest)).map_or(0, |row| row.revision + 1))
            }
        };
        if (version, revision) != expected {
            return Err(Error::conflict(format!(
                "`{address}` is to be stored where {}.{} is next",
                expected.0, expected.1
            )));
        }
        let id = found.unwrap_or_else(|| {
            ComponentId(self.state.components.last_key().map_or(1, |last| last.0 + 1))
        });
        match action {
            PutAction::Create => {
                let row = ComponentRow {
                    address: address.unversioned(),
                    next_version: 1,
                    removing: false,
                };
                self.state.components.set(id, row);
                self.state.names.set((address.kind.clone(), address.identifier.clone()), id);
            }
            PutAction::Version => {
                self.state.components.change(&id, |row| row.next_version += 1);
            }
            PutAction::Revision => {}
        }
        Ok(id)
    }

    pub(super) fn removing(&mut self, address: &Address, on: bool) -> Result<()> {
        let id = self.state.live_or_error(address)?;
        if self.state.components.get(&id).is_some_and(|row| row.removing != on) {
            self.state.components.change(&id, |row| row.removing = on);
            let kind = if on { "component.removing" } else { "component.kept" };
            self.component_event(Timestamp::now(), kind, address.path());
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, deletions: Vec<(Address, Vec<u32>)>) -> Result<()> {
        let mut gone: BTreeMap<ComponentId, BTreeSet<u32>> = BTreeMap::new();
        for (address, versions) in &deletions {
            let Some(id) = self.state.live(address) else { continue };
            let stored = versions
                .iter()
                .copied()
                .filter(|number| self.state.versions.contains(&(id, *number)));
            gone.entry(id).or_default().extend(stored);
        }
        self.keep_labelled(&gone)?;
        let is_gone = |id: &ComponentId, number: &u32| {
            gone.get(id).is_some_and(|numbers| numbers.contains(number))
        };
        let mut dropped = Vec::new();
        for (key @ (id, number, revision), row) in self.state.revisions.iter() {
            if is_gone(id, number) {
                dropped.push(*key);
            } else if let Some(edge) =
                row.edges.iter().find(|edge| is_gone(&edge.child.0, &edge.child.1))
            {
                if self
                    .state
                    .versions
                    .get(&(*id, *number))
                    .is_some_and(|version| version.revision == *revision)
                {
                    let child = self.state.address(edge.child.0, edge.child.1, None);
                    let parent = self.state.address(*id, *number, None);
                    return Err(in_use(&child, &parent, &edge.path));
                }
                dropped.push(*key);
            }
        }
        dropped.iter().for_each(|key| self.state.revisions.remove(key));
        for (id, numbers) in gone.into_iter().filter(|(_, numbers)| !numbers.is_empty()) {
            self.delete_versions(id, &numbers);
        }
        Ok(())
    }

    fn delete_versions(&mut self, id: ComponentId, numbers: &BTreeSet<u32>) {
        let Some(name) = self.state.components.get(&id).map(|row| row.address.clone()) else {
            return;
        };
        for number in numbers {
            let outputs = self.state.outputs.range((id, *number, String::new())..);
            let outputs: Vec<_> = outputs
                .take_while(|((of, at, _), _)| (*of, at) == (id, number))
                .map(|(key, _)| key.clone())
                .collect();
            outputs.iter().for_each(|key| self.state.outputs.remove(key));
            let jobs = self
                .state
                .jobs_of_version
                .range((id, *number, JobId(0))..=(id, *number, JobId(i64::MAX)));
            let jobs: BTreeSet<JobId> = jobs.map(|((_, _, job), ())| *job).collect();
            let kept: Vec<_> = self
                .state
                .checkpoints
                .iter()
                .map(|(key, _)| *key)
                .filter(|(job, _)| jobs.contains(job))
                .collect();
            kept.iter().for_each(|key| self.state.checkpoints.remove(key));
            self.state.versions.remove(&(id, *number));
            self.state.removals.remove(&(id, *number));
        }
        let labels =
            self.state.labels.range((id, String::new())..).take_while(|((of, _), _)| *of == id);
        let labels: Vec<_> = labels
            .filter(|(_, (version, _))| numbers.contains(version))
            .map(|(key, _)| key.clone())
            .collect();
        labels.iter().for_each(|key| self.state.labels.remove(key));
        let detail = if self.state.newest_version(id).is_none() {
            self.state.names.remove(&(name.kind.clone(), name.identifier.clone()));
            name.path()
        } else {
            numbers.iter().map(|number| name.at(*number).to_string()).collect::<Vec<_>>().join(", ")
        };
        self.component_event(Timestamp::now(), "component.removed", detail);
    }

    pub(super) fn copy_outputs(
        &mut self,
        address: &Address,
        from: u32,
        to: u32,
        outputs: Vec<String>,
    ) -> Result<()> {
        let (id, _) = self.state.find_or_error(&address.at(from))?;
        self.state.find_or_error(&address.at(to))?;
        for name in outputs {
            let Some(output) = self.state.outputs.get(&(id, from, name.clone())).cloned() else {
                return Err(Error::conflict(format!(
                    "`{}` no longer has the output {name}",
                    address.at(from)
                )));
            };
            self.state.outputs.set((id, to, name), output);
        }
        Ok(())
    }
}

fn in_use(child: &Address, parent: &Address, path: &str) -> Error {
    Error::new(
        superduper_core::ErrorKind::InUse,
        format!("`{child}` is referenced by `{parent}` at `{path}`"),
    )
    .with_hint("remove or change what refers to it first")
}
