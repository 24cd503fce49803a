//! What a batch needs to know of the components that it names, read with one statement.
//!
//! Invariant: it is kept up with what the batch itself writes, so that later operations see earlier
//! ones.

use crate::{
    codec::{number, optional_number},
    error::failed,
    sql::Sql,
};
use std::collections::{HashMap, HashSet};
use superduper_core::{
    Address, Error, Result,
    store::{Batch, Expect, Finished, Op},
};

/// A component that is not removed.
#[derive(Default)]
pub(super) struct Live {
    pub(super) id: i64,
    pub(super) newest: u32,
    pub(super) next_version: u32,
    /// Whether the whole component is being removed.
    pub(super) removing: bool,
    /// Those of the versions named that are being removed alone.
    pub(super) removals: HashSet<u32>,
    /// The newest revision of each version that the batch names.
    pub(super) revisions: HashMap<u32, u32>,
}

impl Live {
    /// Whether a version is being removed, alone or with the whole component.
    pub(super) fn is_being_removed(&self, version: u32) -> bool {
        self.removing || self.removals.contains(&version)
    }
}

#[derive(Default)]
pub(super) struct Known<'b> {
    components: HashMap<(&'b str, &'b str), Live>,
    /// How many sweeps there were, and whether any blob is marked for deletion, where that was
    /// read.
    pub(super) sweeps: Option<(u64, bool)>,
}

fn name(address: &Address) -> (&str, &str) {
    (&address.kind, &address.identifier)
}

impl<'b> Known<'b> {
    pub(super) fn read(sql: Sql<'_>, batch: &'b Batch) -> Result<Self> {
        let names = Names::of(batch).all;
        let mut known = Known::default();
        let epoch_matters =
            batch.expect.iter().any(|expect| matches!(expect, Expect::SweepEpoch(_)));
        if names.is_empty() && !epoch_matters {
            return Ok(known);
        }
        let text = "SELECT m.value, EXISTS (SELECT 1 FROM artifact WHERE doomed = 1), \
                j.key, c.id, c.newest, c.next_version, c.removing, v.number, v.revision, \
                EXISTS (SELECT 1 FROM run r WHERE r.root = c.id AND r.root_version = v.number AND r.purpose = 1) \
            FROM meta m LEFT JOIN json_each(?1) j \
            LEFT JOIN component c ON c.kind = j.value ->> 0 AND c.identifier = j.value ->> 1 AND c.removed = 0 \
            LEFT JOIN version v INDEXED BY version_key ON v.component = c.id AND v.number = coalesce(j.value ->> 2, c.newest) \
            WHERE m.name = 'sweep_epoch'";
        let list = serde_json::to_string(&names)
            .map_err(|error| Error::internal("list what a batch names").with_source(error))?;
        let read = || {
            let mut statement = sql.prepare(text)?;
            let mut rows = statement.query([list])?;
            while let Some(row) = rows.next()? {
                known.sweeps =
                    Some((u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), row.get(1)?));
                let name = row
                    .get::<_, Option<i64>>(2)?
                    .and_then(|place| names.get(usize::try_from(place).ok()?));
                let (Some(name), Some(id)) = (name, row.get::<_, Option<i64>>(3)?) else {
                    continue;
                };
                let live = known.components.entry((name.0, name.1)).or_default();
                live.id = id;
                live.newest = number(row, 4)?;
                live.next_version = number(row, 5)?;
                live.removing = row.get(6)?;
                if let Some(version) = optional_number(row, 7)? {
                    live.revisions.insert(version, number(row, 8)?);
                    if row.get(9)? {
                        live.removals.insert(version);
                    }
                }
            }
            Ok(())
        };
        read().map_err(failed("read what a batch names"))?;
        Ok(known)
    }

    pub(super) fn live<'a>(&'a self, address: &'a Address) -> Option<&'a Live> {
        self.components.get(&name(address))
    }

    pub(super) fn live_or_error(&self, address: &Address) -> Result<i64> {
        let missing =
            || Error::not_found(format!("there is no component `{}`", address.unversioned()));
        self.live(address).map(|live| live.id).ok_or_else(missing)
    }

    /// The component and version of an address, the newest version where it names none.
    pub(super) fn find_or_error(&self, address: &Address) -> Result<(i64, u32)> {
        let (id, version, _) = self.revision_or_error(address)?;
        Ok((id, version))
    }

    /// Component, version and the version's newest revision.
    pub(super) fn revision_or_error(&self, address: &Address) -> Result<(i64, u32, u32)> {
        let find = || {
            let live = self.live(address)?;
            let version = address.version.map_or(live.newest, |at| at.version);
            live.revisions.get(&version).map(|revision| (live.id, version, *revision))
        };
        find().ok_or_else(|| Error::not_found(format!("there is no component `{address}`")))
    }

    /// Whether a version is being removed; of a version that is not stored, whether its component
    /// is.
    pub(super) fn is_being_removed(&self, address: &Address, version: u32) -> bool {
        self.live(address).is_some_and(|live| live.is_being_removed(version))
    }

    /// Note that a version is being removed.
    pub(super) fn marked(&mut self, address: &'b Address) {
        if let (Some(at), Some(live)) = (address.version, self.components.get_mut(&name(address))) {
            live.removals.insert(at.version);
        }
    }

    /// Note what was stored.
    pub(super) fn stored(&mut self, address: &'b Address, id: i64, version: u32, revision: u32) {
        let live = self.components.entry(name(address)).or_default();
        live.id = id;
        live.newest = version;
        live.next_version = live.next_version.max(version + 1);
        live.revisions.insert(version, revision);
    }

    /// Note another name.
    pub(super) fn renamed(&mut self, from: &'b Address, to: &'b Address) {
        if let Some(live) = self.components.remove(&name(from)) {
            self.components.insert(name(to), live);
        }
    }

    /// Note what was deleted; `newest` is what is left.
    pub(super) fn deleted(&mut self, address: &'b Address, versions: &[u32], newest: Option<u32>) {
        match (newest, self.components.get_mut(&name(address))) {
            (Some(newest), Some(live)) => {
                live.newest = newest;
                live.revisions.retain(|version, _| !versions.contains(version));
            }
            _ => {
                self.components.remove(&name(address));
            }
        }
    }
}

/// Kind, identifier and version of rows that the batch needs, each once.
#[derive(Default)]
struct Names<'b> {
    all: Vec<(&'b str, &'b str, Option<u32>)>,
    seen: HashSet<(&'b str, &'b str, Option<u32>)>,
    last: Option<&'b Address>,
}

impl<'b> Names<'b> {
    fn of(batch: &'b Batch) -> Self {
        let mut names = Names::default();
        for expect in &batch.expect {
            if let Expect::Newest { address, .. } = expect {
                names.add_newest(address);
            }
        }
        batch.ops.iter().for_each(|op| names.add_op(op));
        names
    }

    fn add_op(&mut self, op: &'b Op) {
        match op {
            Op::Put(put) => {
                self.add_newest(&put.address);
                put.edges.iter().for_each(|edge| self.add(&edge.child));
            }
            Op::SetJobsPending { address, .. } => self.add(address),
            Op::Removing { address, .. } | Op::Delete { address, .. } => self.add_newest(address),
            Op::Run(run) => self.add_newest(&run.root),
            Op::Jobs { jobs, .. } => jobs.iter().for_each(|job| self.add(&job.target)),
            Op::Finish(finish) => {
                finish.spawned.iter().for_each(|job| self.add(&job.target));
                if let Finished::Blocked(block) = &finish.end {
                    block.read.iter().for_each(|(address, _)| self.add_newest(address));
                }
            }
            Op::Label { address, version, .. } => {
                self.insert((&address.kind, &address.identifier, *version))
            }
            Op::Rewrite { address, .. } => self.add_newest(address),
            Op::Rename { from, to, .. } => {
                self.add_newest(from);
                self.add_newest(to);
            }
            Op::SetOutputs { address, .. } => self.add(address),
            Op::Relink { address, edges, .. } => {
                self.add(address);
                edges.iter().for_each(|edge| self.add(&edge.child));
            }
            Op::CopyOutputs { address, from, to, .. } => {
                self.insert((&address.kind, &address.identifier, Some(*from)));
                self.insert((&address.kind, &address.identifier, Some(*to)));
            }
            _ => {}
        }
    }

    fn add(&mut self, address: &'b Address) {
        // Long lists of jobs mostly have one target: comparing with the last one saves the hashing.
        if self.last != Some(address) {
            self.last = Some(address);
            self.insert((&address.kind, &address.identifier, address.version.map(|at| at.version)));
        }
    }

    fn add_newest(&mut self, address: &'b Address) {
        self.insert((&address.kind, &address.identifier, None));
    }

    fn insert(&mut self, name: (&'b str, &'b str, Option<u32>)) {
        if self.seen.insert(name) {
            self.all.push(name);
        }
    }
}
