//! Looking at a database after a crash: the invariants, and a dump that is equal for equal
//! databases.
//!
//! Invariant: nothing here looks at times, at the numbers of attempts or at ids; all else that is
//! stored is in the dump.

use crate::scenario::{Place, open};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::{Path, PathBuf},
};
use superduper::{
    Db, Digest,
    prelude::*,
    store::{EventRow, JobFilter, JobRow, JobState, RunFilter, RunState, StoredVersion},
};

/// What a database holds, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Versions, revisions, documents and references: what was declared.
    pub(crate) declared: String,
    /// What is declared, outputs, blobs as files, and how the newest job of each trigger ended.
    pub(crate) state: String,
    /// All runs with their jobs and what these wait for, and messages.
    pub(crate) history: String,
    /// The planned jobs of each run.
    pub(crate) planned: Vec<BTreeSet<String>>,
    /// Final jobs, as they are on record.
    pub(crate) terminal: BTreeMap<i64, String>,
    /// Jobs that have more than one end on record.
    pub(crate) ended_twice: usize,
    /// Jobs and runs that are not final.
    pub(crate) open: usize,
    /// Broken invariants.
    pub(crate) problems: Vec<String>,
}

/// Open the database anew and look at all of it.
pub(crate) async fn look(place: &Place) -> Result<Found> {
    let db = open(place).await?;
    let mut found = Found::default();
    components(&db, &mut found).await?;
    found.state.clone_from(&found.declared);
    outputs(&db, &mut found).await?;
    blobs(&db, place, &mut found).await?;
    let jobs = runs(&db, &mut found).await?;
    events(&db, &jobs, &mut found).await?;
    effects(place, &jobs, &mut found);
    file(&place.database().join("metadata.sqlite"), &mut found);
    Ok(found)
}

macro_rules! line {
    ($text:expr, $($rest:tt)*) => { let _ = writeln!($text, $($rest)*); };
}

async fn stored(db: &Db, address: &str) -> Result<Option<StoredVersion>> {
    Ok(db.metadata().tree(address.parse()?).await?.into_iter().next())
}

/// No half tree: every version and revision is there and can be read, and every reference leads
/// somewhere.
async fn components(db: &Db, found: &mut Found) -> Result<()> {
    let references = db.metadata().references().await?;
    let mut known = BTreeSet::new();
    for line in db.list().await? {
        let path = line.address.path();
        if !line.known {
            found.problems.push(format!("the row of `{path}` cannot be read"));
        }
        for (index, version) in line.versions.iter().enumerate() {
            if *version as usize != index {
                found.problems.push(format!("`{path}` has the versions {:?}", line.versions));
            }
            known.insert(format!("{path}@{version}"));
            let newest = stored(db, &format!("{path}@{version}"))
                .await?
                .map_or(0, |stored| stored.revision());
            for revision in 0..=newest {
                let address = format!("{path}@{version}.{revision}");
                match stored(db, &address).await {
                    Ok(Some(row)) => {
                        let StoredVersion {
                            uuid,
                            content_hash,
                            type_version,
                            document,
                            owes_jobs,
                            content_of,
                            next_version,
                            ..
                        } = row;
                        line!(
                            found.declared,
                            "{address} {uuid} {content_hash} {type_version} {owes_jobs} {content_of:?} {next_version} {document}"
                        );
                    }
                    other => found
                        .problems
                        .push(format!("revision `{address}` cannot be read: {other:?}")),
                }
            }
            if let Err(error) = db.load_dyn(format!("{path}@{version}").as_str()).await {
                found.problems.push(format!("`{path}@{version}` cannot be loaded: {error}"));
            }
        }
    }
    let mut edges: Vec<String> = references
        .iter()
        .map(|edge| format!("{} {} -> {} {}", edge.parent, edge.path, edge.child, edge.current))
        .collect();
    edges.sort();
    line!(found.declared, "{edges:#?}");
    for edge in &references {
        let child = edge.child.to_string();
        if !known.iter().any(|known| child == *known || child.starts_with(&format!("{known}."))) {
            found
                .problems
                .push(format!("`{}` refers to `{child}`, which is not there", edge.parent));
        }
    }
    Ok(())
}

async fn outputs(db: &Db, found: &mut Found) -> Result<()> {
    for line in db.list().await? {
        for version in &line.versions {
            let row = stored(db, &format!("{}@{version}", line.address.path())).await?;
            line!(
                found.state,
                "{}@{version} outputs {:?}",
                line.address.path(),
                row.map(|row| row.outputs)
            );
        }
    }
    Ok(())
}

/// No dangling reference, and no file under a blob's name with other bytes.
async fn blobs(db: &Db, place: &Place, found: &mut Found) -> Result<()> {
    let folder = place.database().join("artifacts");
    let mut files = Vec::new();
    walk(&folder, &mut files);
    files.sort();
    let mut whole = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(&folder).unwrap_or(&file).display().to_string();
        let bytes = std::fs::read(&file)?;
        line!(found.state, "file {name} {}", bytes.len());
        if name.starts_with("blake3") {
            let digest = Digest::of(&bytes);
            if file.file_name().is_some_and(|last| last.to_str() == Some(&digest.to_hex())) {
                whole.insert(digest);
            } else {
                found.problems.push(format!("a file with other bytes has the name of blob {name}"));
            }
        }
    }
    let mut referenced = db.metadata().referenced_blobs(None).await?;
    referenced.sort();
    for (digest, size) in referenced {
        line!(found.state, "refers to {digest} of {size}");
        if !whole.contains(&digest) {
            found.problems.push(format!("blob {digest} is referred to and not there"));
        }
    }
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn name(job: &JobRow) -> String {
    format!("{} {:?} {} {}", job.target, job.role, job.method, job.key.as_deref().unwrap_or("-"))
}

fn end(job: &JobRow) -> String {
    let failure = job.failure.as_ref().map(ToString::to_string).filter(|_| job.state.is_terminal());
    format!("{} {:?} {:?}", job.state, job.result, failure.map(without_ids))
}

/// Failures name jobs by their ids.
fn without_ids(text: String) -> String {
    text.split(' ')
        .map(|word| if word.parse::<i64>().is_ok() { "#" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

async fn runs(db: &Db, found: &mut Found) -> Result<BTreeMap<i64, JobRow>> {
    let mut all = BTreeMap::new();
    let mut newest = BTreeMap::new();
    for run in db.runs(RunFilter::default()).await? {
        let jobs = db.jobs(JobFilter { run: Some(run.id), ..JobFilter::default() }).await?;
        line!(found.history, "run {:?} {} {:?} {}", run.purpose, run.root, run.state, run.data);
        let here: BTreeMap<i64, &JobRow> = jobs.iter().map(|job| (job.id.0, job)).collect();
        let mut lines: Vec<String> =
            jobs.iter().map(|job| format!("  {} {}", name(job), end(job))).collect();
        for dependency in db.metadata().dependencies(run.id).await? {
            let Some(job) = here.get(&dependency.job.0) else { continue };
            match db.job(dependency.needs).await {
                Ok(needs) => lines.push(format!(
                    "  {} waits for {} {:?}",
                    name(job),
                    name(&needs),
                    dependency.parameter
                )),
                Err(error) => {
                    found.problems.push(format!("`{}` waits for a lost job: {error}", name(job)))
                }
            }
        }
        lines.sort();
        found.history.push_str(&(lines.join("\n") + "\n"));
        found.planned.push(jobs.iter().filter(|job| job.key.is_none()).map(name).collect());
        let open = jobs.iter().filter(|job| !job.state.is_terminal()).count();
        if run.state != RunState::Running && open > 0 {
            found.problems.push(format!(
                "run {} is {:?} with {open} jobs that are not final",
                run.id, run.state
            ));
        }
        found.open += open + usize::from(run.state == RunState::Running);
        for job in jobs {
            if job.state.is_terminal() {
                found.terminal.insert(
                    job.id.0,
                    format!("{} {} attempt {}", name(&job), end(&job), job.attempt),
                );
            }
            if job.lost > 3 || (job.state == JobState::Running && job.owner.is_none()) {
                found.problems.push(format!(
                    "job {} is {} without an owner, or was lost {} times",
                    job.id, job.state, job.lost
                ));
            }
            let version = job.target.version.map_or(0, |at| at.version);
            newest.insert(
                format!(
                    "{}@{version} {:?} {} {:?}",
                    job.target.path(),
                    job.role,
                    job.method,
                    job.key
                ),
                format!("{} {:?}", job.state, job.result),
            );
            all.insert(job.id.0, job);
        }
    }
    line!(found.state, "{newest:#?}");
    let mut messages: Vec<String> = db
        .metadata()
        .messages(superduper::store::Cursor::default(), 1000)
        .await?
        .iter()
        .map(|message| format!("{} {}", message.topic, message.payload))
        .collect();
    messages.sort();
    line!(found.history, "{messages:?}");
    Ok(all)
}

/// Each end is on record once.
async fn events(db: &Db, jobs: &BTreeMap<i64, JobRow>, found: &mut Found) -> Result<()> {
    let events: Vec<EventRow> =
        db.metadata().events(superduper::store::Cursor::default(), None, 100_000).await?.rows;
    let ends = ["job.succeeded", "job.failed", "job.cancelled", "job.skipped"];
    for (id, job) in jobs {
        let ended: Vec<&str> = events
            .iter()
            .filter(|event| event.job == Some(job.id) && ends.contains(&event.kind.as_str()))
            .map(|event| event.kind.as_str())
            .collect();
        let state = format!("job.{}", job.state);
        let fits =
            if job.state.is_terminal() { ended == [state.as_str()] } else { ended.is_empty() };
        if !fits {
            found.problems.push(format!(
                "job {id} (`{}`) is {} and has the ends {ended:?} on record",
                name(job),
                job.state
            ));
        }
        found.ended_twice += usize::from(ended.len() > 1);
    }
    Ok(())
}

/// What ran was on record before; what succeeded has run; no two attempts share a number.
fn effects(place: &Place, jobs: &BTreeMap<i64, JobRow>, found: &mut Found) {
    let text = std::fs::read_to_string(place.effects()).unwrap_or_default();
    let mut seen = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).unwrap_or(-1);
        let (job, attempt, method) = (number(), number(), words.next().unwrap_or_default());
        if method == "setup" {
            continue;
        }
        *seen.entry((job, attempt)).or_insert(0) += 1;
        match jobs.get(&job) {
            None => found.problems.push(format!("`{line}` ran and is not on record")),
            Some(row) if i64::from(row.attempt) < attempt || row.method != method => {
                found.problems.push(format!(
                    "`{line}` ran, on record is `{}` with attempt {}",
                    name(row),
                    row.attempt
                ));
            }
            Some(_) => {}
        }
    }
    for ((job, attempt), times) in &seen {
        if *times > 1 {
            found.problems.push(format!("attempt {attempt} of job {job} ran {times} times"));
        }
    }
    for (id, job) in jobs {
        if job.state == JobState::Succeeded && !seen.keys().any(|(job, _)| job == id) {
            found.problems.push(format!("job {id} (`{}`) succeeded and never ran", name(job)));
        }
    }
}

/// What the public API does not reach.
fn file(path: &Path, found: &mut Found) {
    let check = || -> rusqlite::Result<Vec<String>> {
        let connection = rusqlite::Connection::open_with_flags(
            path,
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        )?;
        let mut wrong = Vec::new();
        let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if whole != "ok" {
            wrong.push(format!("integrity_check: {whole}"));
        }
        let mut broken = connection.prepare("PRAGMA foreign_key_check")?;
        let tables = broken
            .query_map([], |row| row.get::<_, String>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        wrong.extend(
            tables.into_iter().map(|table| format!("foreign_key_check: a row of `{table}`")),
        );
        Ok(wrong)
    };
    match check() {
        Ok(wrong) => found.problems.extend(wrong),
        Err(error) => found.problems.push(format!("the database file cannot be checked: {error}")),
    }
}
