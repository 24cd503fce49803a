//! The conditions of a batch. Nothing here writes.

use crate::state::{Counter, State};
use superduper_core::{
    Address, Error, Result,
    store::{Expect, JobRole, RunId, RunPurpose, RunState},
};

pub(super) fn check(state: &State, expects: &[Expect]) -> Result<()> {
    for expect in expects {
        match expect {
            Expect::Newest { address, state: expected } => newest(state, address, *expected)?,
            Expect::SweepEpoch(epoch) => {
                if i64::try_from(*epoch) != Ok(state.counter(Counter::SweepEpoch)) {
                    return Err(Error::conflict("blobs were swept since the plan was made"));
                }
            }
            Expect::Unreferenced { children } => unreferenced(state, children)?,
            Expect::Label { address, label, version } => {
                points_at(state, address, label, *version)?
            }
            Expect::Unlabelled { address, but } => unlabelled(state, address, but.as_deref())?,
            Expect::Removable { versions } => removable(state, versions)?,
            Expect::NoRun { address, but } => no_run(state, address, *but)?,
        }
    }
    Ok(())
}

fn newest(state: &State, address: &Address, expected: Option<(u32, u32, bool)>) -> Result<()> {
    let found = state.live(address).and_then(|component| {
        let number = state.newest_version(component)?;
        let version = state.versions.get(&(component, number))?;
        Some((number, version.revision, state.is_being_removed(component, number)))
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

fn unreferenced(state: &State, children: &[Address]) -> Result<()> {
    let listed = |address: &Address, number: u32| {
        children.iter().any(|child| {
            child.kind == address.kind
                && child.identifier == address.identifier
                && child.version.is_none_or(|at| at.version == number)
        })
    };
    for ((component, number, revision), row) in state.revisions.iter() {
        if state
            .versions
            .get(&(*component, *number))
            .is_none_or(|version| version.revision != *revision)
        {
            continue;
        }
        let parent = state.address(*component, *number, None);
        if listed(&parent, *number) {
            continue;
        }
        for edge in &row.edges {
            let child = state.address(edge.child.0, edge.child.1, None);
            if listed(&child, edge.child.1) {
                return Err(Error::conflict(format!(
                    "`{child}` is referenced by `{parent}` at `{}`",
                    edge.path
                )));
            }
        }
    }
    Ok(())
}

fn points_at(state: &State, address: &Address, label: &str, expected: Option<u32>) -> Result<()> {
    let found = state
        .live(address)
        .and_then(|id| state.labels.get(&(id, label.to_owned())))
        .map(|(version, _)| *version);
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

fn unlabelled(state: &State, address: &Address, but: Option<&str>) -> Result<()> {
    let Some(id) = state.live(address) else { return Ok(()) };
    let version = address.version.map(|at| at.version);
    let labels = state.labels.range((id, String::new())..).take_while(|((of, _), _)| *of == id);
    let keeps = |label: &str, number: u32| Some(number) == version && Some(label) != but;
    match labels.into_iter().find(|((_, label), (number, _))| keeps(label, *number)) {
        Some(((_, label), _)) => {
            Err(Error::conflict(format!("label `{label}` points at `{address}`")))
        }
        None => Ok(()),
    }
}

fn removable(state: &State, versions: &[Address]) -> Result<()> {
    if let Some(gone) = versions.iter().find(|version| state.find(version).is_none()) {
        return Err(Error::conflict(format!(
            "`{gone}` is gone, but the plan was made with it there"
        )));
    }
    for (id, run) in state
        .runs
        .iter()
        .filter(|(_, run)| run.state == RunState::Running && run.purpose == RunPurpose::Remove)
    {
        let jobs = state
            .jobs_of_run
            .range((*id, superduper_core::store::JobId(0))..)
            .take_while(|((run, _), ())| run == id);
        let jobs = jobs.filter_map(|((_, job), ())| state.jobs.get(job)).map(|job| &job.row);
        let open: Vec<_> =
            jobs.filter(|row| row.role == JobRole::Cleanup && !row.state.is_terminal()).collect();
        let number = |address: &Address| address.version.map(|at| at.version);
        let same = |one: &Address, other: &Address| {
            one.kind == other.kind && one.identifier == other.identifier
        };
        let takes = |address: &&Address| {
            same(&run.root, address)
                && (run.root.version.is_none() || number(&run.root) == number(address))
                || open
                    .iter()
                    .any(|row| same(&row.target, address) && number(&row.target) == number(address))
        };
        if let Some(address) = versions.iter().find(takes) {
            return Err(Error::conflict(format!("run {id} removes `{address}` already")));
        }
    }
    Ok(())
}

fn no_run(state: &State, address: &Address, but: Option<RunId>) -> Result<()> {
    let same =
        |other: &Address| other.kind == address.kind && other.identifier == address.identifier;
    for (id, run) in
        state.runs.iter().filter(|(id, run)| run.state == RunState::Running && Some(**id) != but)
    {
        let jobs = || {
            let jobs = state
                .jobs_of_run
                .range((*id, superduper_core::store::JobId(0))..)
                .take_while(|((run, _), ())| run == id);
            jobs.filter_map(|((_, job), ())| state.jobs.get(job))
        };
        let is_open =
            run.purpose == RunPurpose::Remove || jobs().any(|job| !job.row.state.is_terminal());
        if is_open && (same(&run.root) || jobs().any(|job| same(&job.row.target))) {
            return Err(Error::conflict(format!(
                "run {id} of `{}` is not finished",
                address.unversioned()
            )));
        }
    }
    Ok(())
}
