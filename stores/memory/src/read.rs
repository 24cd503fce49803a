//! Reads that take more than a lookup.

use crate::{
    lines::job_matches,
    state::{Counter, Dependency, Edge, Job, State},
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use superduper_core::{
    Address, Digest,
    store::{
        AuditedOutput, AuditedRevision, ChangeCursor, ComponentHealth, ComponentId, EdgeRow,
        JobBrief, JobDependency, JobFilter, JobId, JobRow, JobState, LabelRow, ListedComponent,
        OutputWriter, Reference, RunChanges, RunId, Snapshot, StoredVersion,
    },
};

fn same(left: &Address, right: &Address) -> bool {
    left.kind == right.kind && left.identifier == right.identifier
}

impl State {
    pub(crate) fn snapshot(&self, addresses: &[Address]) -> Snapshot {
        let mut snapshot = Snapshot {
            sweep_epoch: u64::try_from(self.counter(crate::state::Counter::SweepEpoch))
                .unwrap_or(0),
            ..Snapshot::default()
        };
        for address in addresses {
            let Some((component, number)) = self.find(&address.unversioned()) else { continue };
            let Some(stored) = self.stored(component, number, None) else { continue };
            if snapshot.components.insert(address.path(), stored).is_none() {
                snapshot.jobs.extend(self.newest_jobs(component, number));
            }
        }
        snapshot.jobs.sort_by_key(|job| job.id);
        snapshot
    }

    pub(crate) fn tree(&self, root: &Address) -> Vec<StoredVersion> {
        let Some((component, number)) = self.find(root) else { return Vec::new() };
        let mut queue = std::collections::VecDeque::from([(
            component,
            number,
            root.version.and_then(|at| at.revision),
        )]);
        let mut seen = HashSet::from([(component, number)]);
        let mut tree = Vec::new();
        while let Some((component, number, revision)) = queue.pop_front() {
            let Some(stored) = self.stored(component, number, revision) else { continue };
            if let Some(row) = self.revisions.get(&(component, number, stored.revision())) {
                let new =
                    row.edges.iter().map(|edge| edge.child).filter(|child| seen.insert(*child));
                queue.extend(new.map(|(component, number)| (component, number, None)));
            }
            tree.push(stored);
        }
        tree
    }

    pub(crate) fn versions(&self, address: &Address) -> Vec<StoredVersion> {
        let Some(component) = self.live(address) else { return Vec::new() };
        self.versions_of(component)
            .filter_map(|(number, _)| self.stored(component, number, None))
            .collect()
    }

    pub(crate) fn list(&self, kind: Option<&str>) -> Vec<ListedComponent> {
        let mut lines = Vec::new();
        for ((of, _), component) in self.names.iter() {
            if kind.is_some_and(|kind| kind != of) {
                continue;
            }
            lines.extend(self.listed(*component));
        }
        lines
    }

    fn listed(&self, component: ComponentId) -> Option<ListedComponent> {
        let versions: Vec<u32> = self.versions_of(component).map(|(number, _)| number).collect();
        let created_at = self.versions_of(component).next().map(|(_, row)| row.created_at)?;
        let newest = self.stored(component, *versions.last()?, None)?;
        Some(ListedComponent {
            component,
            address: newest.address,
            versions,
            uuid: newest.uuid,
            type_version: newest.type_version,
            removing: self.components.get(&component).is_some_and(|row| row.removing),
            owes_jobs: newest.owes_jobs,
            created_at,
            updated_at: newest.updated_at,
        })
    }

    pub(crate) fn health(&self, address: &Address) -> Option<ComponentHealth> {
        let root = self.live(address)?;
        let listed = self.listed(root)?;
        let mut seen = HashSet::new();
        let mut stack: Vec<(ComponentId, u32)> =
            self.newest_version(root).map(|number| (root, number)).into_iter().collect();
        let mut unhealthy = Vec::new();
        while let Some((component, number)) = stack.pop() {
            // A version that is not the newest one has no health: its jobs do not count.
            if self.newest_version(component) != Some(number) || !seen.insert(component) {
                continue;
            }
            unhealthy.extend(
                self.newest_jobs(component, number)
                    .into_iter()
                    .filter(|job| job.state != JobState::Succeeded),
            );
            let revision = self.versions.get(&(component, number)).map_or(0, |row| row.revision);
            if let Some(row) = self.revisions.get(&(component, number, revision)) {
                stack.extend(row.edges.iter().map(|edge| edge.child));
            }
        }
        unhealthy.sort_by_key(|job| job.id);
        Some(ComponentHealth { listed, unhealthy })
    }

    pub(crate) fn labels(&self, asked: Option<&Address>) -> Vec<LabelRow> {
        let mut rows = Vec::new();
        for ((kind, identifier), component) in self.names.iter() {
            if asked.is_none_or(|asked| asked.kind == *kind && asked.identifier == *identifier) {
                let labels = self
                    .labels
                    .range((*component, String::new())..)
                    .take_while(|((of, _), _)| of == component);
                rows.extend(labels.map(|((_, label), (version, at))| LabelRow {
                    address: self.address(*component, *version, None),
                    label: label.clone(),
                    at: *at,
                }));
            }
        }
        rows
    }

    fn all_references(&self) -> impl Iterator<Item = (ComponentId, u32, Reference)> {
        self.revisions.iter().flat_map(move |((component, number, revision), row)| {
            let current = self
                .versions
                .get(&(*component, *number))
                .is_some_and(|version| version.revision == *revision);
            row.edges.iter().map(move |edge| {
                let reference = Reference {
                    parent: self.address(*component, *number, Some(*revision)),
                    child: self.address(edge.child.0, edge.child.1, None),
                    path: edge.path.clone(),
                    current,
                };
                (*component, *number, reference)
            })
        })
    }

    pub(crate) fn referrers(&self, children: &[Address]) -> Vec<Reference> {
        let wanted = |child: &Address| {
            let version = child.version.map(|at| at.version);
            children.iter().any(|asked| {
                same(asked, child) && asked.version.is_none_or(|at| Some(at.version) == version)
            })
        };
        self.all_references()
            .map(|(_, _, reference)| reference)
            .filter(|reference| wanted(&reference.child))
            .collect()
    }

    pub(crate) fn references(&self) -> Vec<Reference> {
        let newest =
            |component: ComponentId, number: u32| self.newest_version(component) == Some(number);
        self.all_references()
            .filter(|(id, number, line)| line.current && newest(*id, *number))
            .map(|(_, _, line)| line)
            .collect()
    }

    pub(crate) fn unhealthy(&self) -> Vec<JobBrief> {
        let mut jobs: Vec<JobBrief> = Vec::new();
        for (_, component) in self.names.iter() {
            if let Some(number) = self.newest_version(*component) {
                jobs.extend(
                    self.newest_jobs(*component, number)
                        .into_iter()
                        .filter(|job| job.state != JobState::Succeeded),
                );
            }
        }
        jobs.sort_by_key(|job| job.id);
        jobs
    }

    pub(crate) fn output_writers(&self, addresses: &[Address]) -> Vec<OutputWriter> {
        let asked: HashSet<ComponentId> =
            addresses.iter().filter_map(|address| self.live(address)).collect();
        let ends = self
            .events
            .iter()
            .map(|(_, event)| event)
            .filter(|event| event.kind == "job.succeeded");
        ends.filter_map(|event| {
            let outputs = event.detail.as_ref()?.split(", ").map(str::to_owned).collect();
            let row = &self.jobs.get(&event.job?)?.row;
            let (target, role, method, key) =
                (row.target.clone(), row.role, row.method.clone(), row.key.clone());
            asked.contains(&row.component).then_some(OutputWriter {
                job: row.id,
                target,
                role,
                method,
                key,
                outputs,
            })
        })
        .collect()
    }

    pub(crate) fn filter_jobs(&self, filter: &JobFilter) -> Vec<JobRow> {
        let wanted = |row: &JobRow| job_matches(filter, row);
        let base: Box<dyn DoubleEndedIterator<Item = &Job>> = match (&filter.ids, filter.run) {
            (Some(ids), _) => {
                let ids: std::collections::BTreeSet<JobId> = ids.iter().copied().collect();
                Box::new(ids.into_iter().filter_map(|id| self.jobs.get(&id)))
            }
            (None, Some(run)) if filter.key.is_some() => {
                let key = (run, filter.key.clone().unwrap_or_default());
                Box::new(self.job_keys.get(&key).and_then(|id| self.jobs.get(id)).into_iter())
            }
            (None, Some(run)) => Box::new(self.jobs_of(run)),
            (None, None) => Box::new(self.jobs.iter().map(|(_, job)| job)),
        };
        let limit = filter.limit.unwrap_or(usize::MAX);
        let mut jobs: Vec<JobRow> =
            base.rev().map(|job| &job.row).filter(|row| wanted(row)).take(limit).cloned().collect();
        jobs.reverse();
        jobs
    }

    pub(crate) fn dependencies_of(&self, run: RunId) -> Vec<JobDependency> {
        let of = |id: JobId| self.dependencies.range((id, JobId(i64::MIN))..=(id, JobId(i64::MAX)));
        let all = self.jobs_of(run).flat_map(|job| of(job.row.id));
        all.map(dependency).collect()
    }

    pub(crate) fn edges_of(&self, job: JobId) -> (Vec<JobDependency>, Vec<JobDependency>) {
        let needs = self
            .dependencies
            .range((job, JobId(i64::MIN))..=(job, JobId(i64::MAX)))
            .map(dependency)
            .collect();
        let dependents = self.dependents.range((job, JobId(i64::MIN))..=(job, JobId(i64::MAX)));
        let waiting = dependents.filter_map(|((needs, job), ())| {
            Some(((*job, *needs), self.dependencies.get(&(*job, *needs))?))
        });
        (needs, waiting.map(|(key, row)| dependency((&key, row))).collect())
    }

    pub(crate) fn changes(&self, run: RunId, after: ChangeCursor) -> Option<RunChanges> {
        let row = self.runs.get(&run)?.clone();
        let mut changed: BTreeSet<JobId> = self
            .jobs_of_run
            .range((run, JobId(after.job + 1))..=(run, JobId(i64::MAX)))
            .map(|((_, id), ())| *id)
            .collect();
        let told = self
            .events
            .range(after.event.saturating_add(1)..)
            .filter(|(_, event)| event.run == Some(run) && event.kind != "job.progressed");
        changed.extend(told.filter_map(|(_, event)| event.job));
        let silent = self.silent.range((run, after.silent.saturating_add(1))..=(run, i64::MAX));
        changed.extend(silent.map(|(_, job)| *job));
        let of = |id: JobId| self.dependencies.range((id, JobId(i64::MIN))..=(id, JobId(i64::MAX)));
        let dependencies = changed.iter().flat_map(|id| of(*id));
        let cursor = ChangeCursor {
            event: self.events.last_key().copied().unwrap_or(0),
            silent: self.counter(Counter::SilentChange),
            job: self.jobs.last_key().map_or(0, |last| last.0),
        };
        Some(RunChanges {
            run: row,
            dependencies: dependencies.map(dependency).collect(),
            jobs: changed
                .iter()
                .filter_map(|id| self.jobs.get(id))
                .map(|job| job.row.clone())
                .collect(),
            cursor,
        })
    }

    pub(crate) fn referenced_blobs(&self, first: Option<u8>) -> Vec<(Digest, u64)> {
        let wanted = self
            .blob_references()
            .filter(|(_, _, blob)| first.is_none_or(|byte| blob.digest.as_bytes()[0] == byte));
        let all: BTreeMap<Digest, u64> =
            wanted.map(|(_, _, blob)| (blob.digest, blob.size)).collect();
        all.into_iter().collect()
    }

    pub(crate) fn audit(
        &self,
        after: Option<(ComponentId, u32)>,
        versions: usize,
    ) -> Vec<AuditedRevision> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        for ((component, number), version) in
            self.versions.range((from, Bound::Unbounded)).take(versions)
        {
            for ((_, _, revision), row) in self
                .revisions
                .range((*component, *number, 0)..=(*component, *number, version.revision))
            {
                let outputs = self.outputs.range((*component, *number, String::new())..);
                let outputs = outputs.take_while(|((of, at, _), _)| {
                    *revision == version.revision && (of, at) == (component, number)
                });
                let edge = |edge: &Edge| EdgeRow {
                    path: edge.path.clone(),
                    child: self.address(edge.child.0, edge.child.1, None),
                };
                found.push(AuditedRevision {
                    component: *component,
                    address: self.address(*component, *number, Some(*revision)),
                    uuid: row.uuid,
                    content_hash: row.content_hash,
                    type_version: row.type_version,
                    document: Ok(row.document.clone()),
                    edges: row.edges.iter().map(edge).collect(),
                    blobs: row.blobs.clone(),
                    outputs: outputs
                        .map(|((_, _, name), output)| AuditedOutput {
                            name: name.clone(),
                            value: Ok(output.value.clone()),
                            blobs: output.blobs.clone(),
                        })
                        .collect(),
                });
            }
        }
        found
    }

    pub(crate) fn blobs_of(&self, address: &Address, versions: &[u32]) -> Vec<Digest> {
        let Some(component) = self.live(address) else { return Vec::new() };
        let all = self
            .blob_references()
            .filter(|(id, number, _)| *id == component && versions.contains(number));
        let all: std::collections::BTreeSet<Digest> = all.map(|(_, _, blob)| blob.digest).collect();
        all.into_iter().collect()
    }
}

fn dependency(((job, needs), row): (&(JobId, JobId), &Dependency)) -> JobDependency {
    JobDependency {
        job: *job,
        needs: *needs,
        parameter: row.parameter.clone(),
        any_end: row.any_end,
    }
}
