//! Labels that move, components that get another name.

use super::Commit;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use superduper_core::{
    Address, Digest, Error, ErrorKind, Result,
    store::{ComponentId, Timestamp, being_removed},
};

impl Commit<'_> {
    pub(super) fn label(
        &mut self,
        address: &Address,
        label: String,
        version: Option<u32>,
        at: Timestamp,
    ) -> Result<()> {
        let id = self.state.live_or_error(address)?;
        let detail = |place: String| format!("{}@{label} -> {place}", address.path());
        let key = (id, label.clone());
        match version {
            Some(version) => {
                self.state.find_or_error(&address.at(version))?;
                if self.state.is_being_removed(id, version) {
                    return Err(being_removed(&address.at(version)));
                }
                self.state.labels.set(key, (version, at));
                self.component_event(
                    at,
                    "component.labelled",
                    detail(address.at(version).to_string()),
                );
            }
            None if self.state.labels.contains(&key) => {
                self.state.labels.remove(&key);
                self.component_event(at, "component.labelled", detail("nothing".to_owned()));
            }
            None => {}
        }
        Ok(())
    }

    /// A label keeps its version, unless the whole component goes.
    pub(super) fn keep_labelled(&self, gone: &BTreeMap<ComponentId, BTreeSet<u32>>) -> Result<()> {
        for ((id, label), (version, _)) in self.state.labels.iter() {
            let Some(numbers) = gone.get(id).filter(|numbers| numbers.contains(version)) else {
                continue;
            };
            let stays = self
                .state
                .versions
                .range((*id, 0)..=(*id, u32::MAX))
                .any(|((_, number), _)| !numbers.contains(number));
            if stays {
                let address = self.state.address(*id, *version, None);
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!("`{address}` is labelled `{label}`"),
                )
                .with_hint("move the label to another version or take it away first"));
            }
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Address, to: &Address, at: Timestamp) -> Result<()> {
        let id = self.state.live_or_error(from)?;
        if self.state.live(to).is_some() {
            return Err(Error::conflict(format!("`{}` exists already", to.path())));
        }
        self.state.components.change(&id, |row| row.address = to.unversioned());
        self.state.names.remove(&(from.kind.clone(), from.identifier.clone()));
        self.state.names.set((to.kind.clone(), to.identifier.clone()), id);
        let rename = |address: &mut Address| {
            address.kind.clone_from(&to.kind);
            address.identifier.clone_from(&to.identifier);
        };
        let jobs: Vec<_> = self
            .state
            .jobs
            .iter()
            .filter(|(_, job)| job.row.component == id)
            .map(|(key, _)| *key)
            .collect();
        for job in jobs {
            self.state.jobs.change(&job, |job| rename(&mut job.row.target));
        }
        let same =
            |address: &Address| address.kind == from.kind && address.identifier == from.identifier;
        let runs: Vec<_> = self
            .state
            .runs
            .iter()
            .filter(|(_, run)| same(&run.root))
            .map(|(key, _)| *key)
            .collect();
        for run in runs {
            self.state.runs.change(&run, |run| rename(&mut run.root));
        }
        self.component_event(at, "component.renamed", format!("{} -> {}", from.path(), to.path()));
        Ok(())
    }

    pub(super) fn rewrite(
        &mut self,
        address: &Address,
        document: Value,
        uuid: Digest,
        content_hash: Digest,
    ) -> Result<()> {
        let id = self.state.live_or_error(address)?;
        let (version, revision) =
            address.version.map_or((0, 0), |at| (at.version, at.revision.unwrap_or(0)));
        let changed = self.state.revisions.change(&(id, version, revision), |row| {
            row.document = document;
            row.uuid = uuid;
            row.content_hash = content_hash;
        });
        if !changed {
            self.ignore();
        }
        Ok(())
    }
}
