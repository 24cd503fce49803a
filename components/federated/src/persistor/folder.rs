//! The default persistor: nothing beside the database, or a folder with models, metrics and a log.
//!
//! Invariant: a model appears whole under its name. What a retry writes again takes the place of what
//! was there, and so does a line that a crash cut short.

use super::{ModelPersistor, PersistContext, RoundReport};
use crate::executor::ReturnCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    fs,
    io::{ErrorKind as IoKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use superduper::unreturned::{Site, Unreturned};
use superduper::{Error, Result, Tensors, artifact::Blob};

/// Starts from the model's own weights. With a folder it also writes files:
///
/// - `model_out/model.safetensors`: the newest global model;
/// - `model_out/model_r3.safetensors`: the model after three rounds, if `every_round` is set;
/// - `files_out/metrics.csv`: one row for each metric of each site, with the columns `round` (the
///   number of rounds done, from 1), `task`, `site`, `code`, `samples` (rows), `metric`, `value`. A
///   row without a site has the mean over the sites. A site without metrics has one row, without
///   metric and value;
/// - `files_out/metrics.jsonl`: the same rows, one JSON object on each line;
/// - `files_out/log.txt`: one line for the training and one for the test of each round;
/// - `files_out/training_uuid`: the version of the training that the folder belongs to. A training
///   refuses a folder of another one.
///
/// Without a folder it writes no files. The database has the newest global model in any case, and
/// those that `federation.keep` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultPersistor {
    /// The folder in which `model_out` and `files_out` are created. Each training needs a folder of
    /// its own. A relative path starts at the working directory of the process that runs the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Keep the model of every round, not only the newest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub every_round: bool,
}

impl DefaultPersistor {
    /// Write models, metrics and a log into a folder.
    pub fn to(folder: impl Into<PathBuf>) -> Self {
        DefaultPersistor { folder: Some(folder.into()), every_round: false }
    }

    /// Keep the model of every round.
    #[must_use]
    pub fn every_round(mut self) -> Self {
        self.every_round = true;
        self
    }
}

const MODELS: &str = "model_out";
const FILES: &str = "files_out";
const NEWEST: &str = "model.safetensors";
/// The uuid of the training that the folder belongs to.
const OWNER: &str = "training_uuid";

#[typetag::serde(name = "federated.DefaultPersistor")]
impl ModelPersistor for DefaultPersistor {
    fn load(&self, ctx: &PersistContext<'_>) -> Result<Tensors> {
        if let Some(folder) = &self.folder {
            take_folder(folder, ctx.training_uuid())?;
        }
        ctx.initial()
    }

    fn save(
        &self,
        weights: &Tensors,
        rounds: u64,
        ctx: &PersistContext<'_>,
    ) -> Result<Option<Tensors>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        take_folder(folder, ctx.training_uuid())?;
        let models = folder.join(MODELS);
        if self.every_round {
            write_tensors(&models.join(format!("model_r{rounds}.safetensors")), weights)?;
        }
        write_tensors(&models.join(NEWEST), weights)?;
        Ok(None)
    }

    fn report(&self, report: &RoundReport, _ctx: &PersistContext<'_>) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let files = folder.join(FILES);
        let lines = lines(report);
        let path = files.join("metrics.csv");
        let table = table(&read(&path)?, report, &lines).map_err(|error| {
            let text = format!("`{}` is not a table of metrics", path.display());
            Error::invalid(text).with_source(error).with_hint("give each training its own folder")
        })?;
        put(&path, table)?;
        let path = files.join("metrics.jsonl");
        put(&path, json_lines(&read(&path)?, report, &lines))?;
        let path = files.join("log.txt");
        put(&path, log(&read(&path)?, report))
    }

    fn wants_reports(&self) -> bool {
        self.folder.is_some()
    }

    fn inventory(&self, _ctx: &PersistContext<'_>) -> Result<Vec<String>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let models = folder.join(MODELS);
        let entries = match fs::read_dir(&models) {
            Ok(entries) => entries,
            Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &models, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| cannot("read", &models, error))?.file_name();
            let name = name.to_string_lossy();
            found.extend(name.strip_suffix(".safetensors").map(str::to_owned));
        }
        // The newest has no number and comes last.
        let number = |name: &str| name.strip_prefix("model_r").and_then(|text| text.parse().ok());
        found.sort_by_key(|name| (number(name).unwrap_or(u64::MAX), name.clone()));
        Ok(found)
    }

    fn get(&self, name: &str, ctx: &PersistContext<'_>) -> Result<Tensors> {
        let known = self.inventory(ctx)?;
        let (Some(folder), true) = (&self.folder, known.iter().any(|known| known == name)) else {
            let text = format!("the persistor has no model `{name}`");
            return Err(Error::not_found(text).with_hint(match known.as_slice() {
                [] => "it has none; give it a folder with `DefaultPersistor::to`".to_owned(),
                known => format!("it has {}", known.join(", ")),
            }));
        };
        let path = folder.join(MODELS).join(format!("{name}.safetensors"));
        let bytes = fs::read(&path).map_err(|error| cannot("read", &path, error))?;
        Tensors::from_bytes(bytes).map_err(|error| error.context(path.display()))
    }
}

const HEADER: [&str; 7] = ["round", "task", "site", "code", "samples", "metric", "value"];

/// A metric of a site, or of all sites where the site is empty.
struct Line<'a> {
    site: &'a str,
    code: &'static str,
    samples: u64,
    metric: &'a str,
    value: Option<f64>,
}

fn lines(report: &RoundReport) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for site in &report.sites {
        let line = |metric, value| Line {
            site: &site.site,
            code: site.code.name(),
            samples: site.samples,
            metric,
            value,
        };
        if site.metrics.is_empty() {
            lines.push(line("", None));
        }
        lines.extend(site.metrics.iter().map(|(name, value)| line(name, Some(*value))));
    }
    let samples = report.sites.iter().map(|site| site.samples).sum();
    lines.extend(report.metrics.iter().map(|(metric, value)| Line {
        site: "",
        code: "OK",
        samples,
        metric,
        value: Some(*value),
    }));
    lines
}

/// What becomes of a file.
enum Change {
    /// It gets these bytes at its end.
    Append(Vec<u8>),
    /// It is these bytes.
    Replace(Vec<u8>),
}

/// Whether a file ends with whole lines none of which is of this report. Reports come in the order
/// of the rounds, so those of an earlier try are the last ones.
fn is_clean(before: &str, is_old: impl Fn(&str) -> bool) -> bool {
    !before.is_empty() && before.ends_with('\n') && !before.lines().last().is_some_and(is_old)
}

/// The lines of a report in the table; those of an earlier try give way.
fn table(before: &str, report: &RoundReport, lines: &[Line<'_>]) -> csv::Result<Change> {
    let round = report.rounds.to_string();
    let is_old = |record: &csv::StringRecord| {
        (record.get(0), record.get(1)) == (Some(&round), Some(&report.task))
    };
    let record_of = |line: &str| {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
        reader.records().next().and_then(std::result::Result::ok)
    };
    let appends = is_clean(before, |line| record_of(line).is_some_and(|record| is_old(&record)));
    let mut table = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    if !appends {
        table.write_record(HEADER)?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(before.as_bytes());
        for record in reader.records() {
            let record = record?;
            // A line that a crash cut short has fewer fields.
            if record.len() == HEADER.len() && !is_old(&record) {
                table.write_record(&record)?;
            }
        }
    }
    for line in lines {
        let value = line.value.map(|value| value.to_string()).unwrap_or_default();
        let samples = line.samples.to_string();
        let task = report.task.as_str();
        table.write_record([&round, task, line.site, line.code, &samples, line.metric, &value])?;
    }
    let bytes = table.into_inner().map_err(|error| error.into_error())?;
    Ok(if appends { Change::Append(bytes) } else { Change::Replace(bytes) })
}

/// Lines of JSON, likewise.
fn json_lines(before: &str, report: &RoundReport, lines: &[Line<'_>]) -> Change {
    let new = lines.iter().map(|line| {
        json!({
            "round": report.rounds,
            "task": report.task,
            "site": line.site,
            "code": line.code,
            "samples": line.samples,
            "metric": line.metric,
            "value": line.value,
        })
        .to_string()
    });
    let is_old = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(line) => line["round"] == report.rounds && line["task"] == report.task.as_str(),
        // A crash cut it short.
        Err(_) => true,
    };
    changed(before, is_old, new)
}

/// The log, likewise.
fn log(before: &str, report: &RoundReport) -> Change {
    let begin = format!("round {}, {}: ", report.rounds, report.task);
    let (good, bad): (Vec<_>, Vec<_>) =
        report.sites.iter().partition(|site| site.code == ReturnCode::Ok);
    let metrics: Vec<String> =
        report.metrics.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let failed: Vec<String> =
        bad.iter().map(|site| format!("{}: {} {}", site.site, site.code, site.reason)).collect();
    let mut line = format!("{begin}{} of {} sites answered", good.len(), report.sites.len());
    for part in [metrics.join(", "), failed.join("; ")].iter().filter(|part| !part.is_empty()) {
        line.push_str("; ");
        line.push_str(&part.replace(['\n', '\r'], " "));
    }
    // The last line may be cut short.
    let whole = before.rfind('\n').map_or("", |end| &before[..=end]);
    changed(whole, |line| line.starts_with(&begin), [line].into_iter())
}

fn changed(
    before: &str,
    is_old: impl Fn(&str) -> bool,
    new: impl Iterator<Item = String>,
) -> Change {
    let joined = |lines: &mut dyn Iterator<Item = String>| -> Vec<u8> {
        lines.flat_map(|line| [line, "\n".to_owned()]).collect::<String>().into_bytes()
    };
    if is_clean(before, &is_old) {
        return Change::Append(joined(&mut { new }));
    }
    let kept = before.lines().filter(|line| !is_old(line)).map(str::to_owned);
    Change::Replace(joined(&mut kept.chain(new)))
}

/// Change a file. Bytes at its end are not whole after a crash; the next report mends that.
fn put(path: &Path, change: Change) -> Result<()> {
    match change {
        Change::Replace(bytes) => write(path, [bytes.as_slice()].into_iter()),
        Change::Append(bytes) => {
            let appended = || {
                let mut file = fs::OpenOptions::new().append(true).open(path)?;
                file.write_all(&bytes)?;
                file.sync_data()
            };
            appended().map_err(|error| cannot("write", path, error))
        }
    }
}

/// Refuse a folder that has the files of another training, or of another version of this one.
fn take_folder(folder: &Path, uuid: &str) -> Result<()> {
    let path = folder.join(FILES).join(OWNER);
    match read(&path)?.trim() {
        "" => write(&path, [uuid.as_bytes(), b"\n"].into_iter()),
        owner if owner == uuid => Ok(()),
        owner => {
            let text = format!("`{}` has the files of training {owner}", folder.display());
            Err(Error::invalid(text)
                .with_hint("give this training, or this version of it, a folder of its own")
                .fatal())
        }
    }
}

/// The text of a file; empty where there is none.
fn read(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == IoKind::NotFound => Ok(String::new()),
        Err(error) => Err(cannot("read", path, error)),
    }
}

fn write_tensors(path: &Path, weights: &Tensors) -> Result<()> {
    let chunks = Tensors::source(Arc::new(weights.clone())).chunks()?;
    let chunks: Vec<_> = chunks.collect::<Result<_>>()?;
    write(path, chunks.iter().map(AsRef::as_ref))
}

/// Write a file that appears whole.
fn write<'a>(path: &Path, parts: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = || {
        fs::create_dir_all(folder)?;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        clear_drafts(folder, &name);
        let draft = folder.join(format!(".{name}.{}.draft", uuid::Uuid::new_v4()));
        let mut file = fs::File::create(&draft)?;
        parts.into_iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        fs::File::open(folder)?.sync_all()
    };
    written().map_err(|error| cannot("write", path, error))
}

/// Delete what processes that were killed left of this file. Another process may write a younger one.
fn clear_drafts(folder: &Path, name: &str) {
    const AGE: Duration = Duration::from_secs(600);
    let begin = format!(".{name}.");
    let is_old = |entry: &fs::DirEntry| {
        let written = entry.metadata().and_then(|data| data.modified()).ok();
        written.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > AGE)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.starts_with(&begin) && found.ends_with(".draft") && is_old(&entry) {
            // A draft that stays does no harm.
            fs::remove_file(entry.path()).or_warn(Site::SWEEP, "removing an unfinished file");
        }
    }
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::store(format!("cannot {what} `{}`", path.display())).with_source(error)
}
