//! The files of a training, and their hash.

use super::{
    bundle::written,
    graph::{PreviewJob, first_round},
    scripts::{Part, helpers},
    show::{SitePreview, ask},
};
use crate::{
    class::Class,
    model_config::{ModelConfig, NUM_CLASSES},
    training::FederatedTraining,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;
use superduper::{Address, ComponentType, Db, Digest, Error, Hasher, Result, plan::Plan};

/// The document of the training.
pub(super) const TRAINING: &str = "training.json";
/// What the files are. It is written last.
pub(super) const META: &str = "meta.json";
const CLIENT: &str = "config_fed_client.json";
const SERVER: &str = "config_fed_server.json";

/// A training before it is applied: its files, what of its source is missing, what its sites would
/// answer, and the jobs of its first round. Its `Display` shows all of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Preview {
    /// The training, with the version that it will have.
    pub training: Address,
    pub(super) hash: String,
    /// All files, in the order of their paths.
    pub files: Vec<PreviewFile>,
    /// What of the source is missing, names that it uses and that are not captured, and whether it
    /// differs from what is on record.
    pub notes: Vec<String>,
    /// What each site answers.
    pub sites: Vec<SitePreview>,
    /// The jobs of the first round.
    pub jobs: Vec<PreviewJob>,
}

/// A file of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewFile {
    /// Its path in the bundle, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl FederatedTraining {
    /// Show what applying this training would do.
    ///
    /// Nothing is written, and no job starts. The preview asks the gates of the sites, and it calls
    /// [`FederatedModel::dry_forward`](crate::FederatedModel::dry_forward).
    ///
    /// ```
    /// # use superduper::prelude::*;
    /// # use superduper_federated::FederatedTraining;
    /// # async fn example(db: Db, training: FederatedTraining) -> Result<()> {
    /// let preview = training.preview(&db).await?;
    /// println!("{preview}");
    /// preview.export("out/job").await?;
    /// db.apply(training).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Db::plan`]: all that an apply would refuse.
    pub async fn preview(&self, db: &Db) -> Result<Preview> {
        let plan = db.plan(self).await?;
        let contents = Contents::of(self, &plan)?;
        let (mut files, hash) = contents.files(self)?;
        let address = contents.address.clone();
        let mut notes: Vec<String> = contents.parts.iter().flat_map(Part::missing).collect();
        notes.extend(helpers(&contents.parts));
        notes.extend(absolute_paths(&contents.document));
        let stored = db.load::<FederatedTraining>(self.identifier.as_str()).await;
        if let Some(started) = stored.ok().and_then(|stored| stored.started.get().ok())
            && started.source_digest != self.source_digest()?.to_hex()
        {
            let text = "the source of model, executor or persistor differs from that with which the \
                        stored training was started";
            notes.push(text.to_owned());
        }
        let sites = ask(self, db, &address).await?;
        let jobs = first_round(self, &address);
        files.push(file(META, text(&meta(self, &contents.parts, &files, &hash))?));
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Preview { training: address, hash, files, notes, sites, jobs })
    }

    /// The captured source of model, executor and persistor, but for what is built in, as a preview
    /// shows it in its scripts.
    ///
    /// # Errors
    /// As for [`source_digest`](FederatedTraining::source_digest).
    pub fn captured_source(&self) -> Result<String> {
        let (parts, carried) = (Part::all(self)?, self.carried_code()?);
        let is_carried = carried.is_some();
        let scripts = parts.iter().filter(|part| !part.class.is_built_in());
        let scripts = scripts.filter(|part| !is_carried || part.role != "model");
        let carried = carried.map(|carried| carried.about);
        let texts: Vec<String> =
            carried.into_iter().chain(scripts.filter_map(Part::script)).collect();
        Ok(texts.join("\n"))
    }

    /// What custom code of this training the [digest](FederatedTraining::source_digest) does not cover,
    /// with what to do about it: types and blocks that are not marked, items of the same files that
    /// are not captured, strategies, filters and endpoints of one's own. Code of other files and
    /// crates is not looked at, and neither are settings.
    ///
    /// # Errors
    /// As for [`source_digest`](FederatedTraining::source_digest).
    pub fn uncovered_source(&self) -> Result<Vec<String>> {
        let parts = Part::all(self)?;
        if self.carried_code()?.is_some() {
            // What runs it is no custom code; the rest has no place beside a sandbox.
            let [_, executor, persistor] = &parts;
            let rest = [executor, persistor].into_iter().filter(|part| !part.class.is_built_in());
            let rest = rest.map(|part| {
                format!("the {} `{}` would run outside of the sandbox", part.role, part.class.path)
            });
            return Ok(rest.chain(self.other_code()).collect());
        }
        let mut found: Vec<String> = parts.iter().flat_map(Part::missing).collect();
        found.extend(helpers(&parts));
        found.extend(self.other_code());
        Ok(found)
    }

    /// The hash of the preview of this training, as it would be applied now.
    pub(crate) async fn hash_of_preview(&self, db: &Db) -> Result<String> {
        let plan = db.plan(self).await?;
        Ok(Contents::of(self, &plan)?.files(self)?.1)
    }
}

impl Preview {
    /// A file by its path.
    pub fn file(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// The hash of document and source. It is on record when the training has begun, in
    /// its output `started`, and it is that of the exported files.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// What is shown, before it is written as files.
struct Contents {
    address: Address,
    document: Value,
    parts: [Part; 3],
}

impl Contents {
    fn of(training: &FederatedTraining, plan: &Plan) -> Result<Self> {
        let kind = FederatedTraining::__kind();
        let is_it =
            |address: &Address| address.kind == kind && address.identifier == training.identifier;
        let root = plan.components().iter().find(|planned| is_it(&planned.address));
        let root = root.ok_or_else(|| Error::internal("a plan has its root"))?;
        Ok(Contents {
            address: root.address.clone(),
            document: written(kind, root.document()),
            parts: Part::all(training)?,
        })
    }

    /// All files but `meta.json`, and their hash.
    fn files(&self, training: &FederatedTraining) -> Result<(Vec<PreviewFile>, String)> {
        let mut files = vec![
            file(CLIENT, text(&client(training, &self.parts)?)?),
            file(SERVER, text(&server(training, &self.parts, &self.document)?)?),
            file(TRAINING, text(&self.document)?),
        ];
        let scripts = self.parts.iter().filter_map(|part| Some((part.path(), part.script()?)));
        files.extend(scripts.map(|(path, text)| PreviewFile { path, text }));
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let digests = files.iter().map(|file| (file.path.as_str(), digest(&file.text)));
        let hash = hash_of(digests);
        Ok((files, hash))
    }
}

fn file(path: &str, text: String) -> PreviewFile {
    PreviewFile { path: path.to_owned(), text }
}

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_hex()
}

/// The hash of files with these digests, but for `meta.json`.
pub(super) fn hash_of<'a>(files: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut hasher = Hasher::new();
    hasher.update(b"superduper federated preview 1\n");
    for (path, digest) in files {
        hasher.update(format!("{path}\0{digest}\n").as_bytes());
    }
    hasher.finish().to_hex()
}

fn text(value: &Value) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}

/// The settings of a value behind a trait object, without its type.
fn args(value: &(impl Serialize + ?Sized)) -> Result<Value> {
    let mut value = serde_json::to_value(value)?;
    if let Value::Object(map) = &mut value {
        map.remove("type");
    }
    Ok(value)
}

/// The form is that of NVFlare's `config_fed_client.json`.
fn client(training: &FederatedTraining, parts: &[Part; 3]) -> Result<Value> {
    let mut tasks = vec!["train"];
    if matches!(training.uncertainty, crate::config::UncertaintyMethod::Swag { .. }) {
        tasks.push("swag");
    }
    if !training.options.skip_model_tests {
        tasks.push("test");
    }
    if training.options.predict {
        tasks.push("predict");
    }
    let mut filters = Vec::new();
    for site in training.sites.iter().filter(|site| !site.filters.is_empty()) {
        let list: Result<Vec<Value>> = site
            .filters
            .iter()
            .map(|filter| Ok(json!({"path": filter.typetag_name(), "args": args(&**filter)?})))
            .collect();
        filters.push(json!({"sites": [site.name], "tasks": ["train"], "filters": list?}));
    }
    let executor = json!({
        "path": parts[1].class.path,
        "args": training.config.args_with(training.num_classes())?,
        "settings": args(&*training.executor)?,
    });
    Ok(json!({
        "format_version": 2,
        "executors": [{"tasks": tasks, "executor": executor}],
        "task_data_filters": [],
        "task_result_filters": filters,
        "components": [],
    }))
}

/// The form is that of NVFlare's `config_fed_server.json`.
fn server(training: &FederatedTraining, parts: &[Part; 3], document: &Value) -> Result<Value> {
    let federation = serde_json::to_value(&training.federation)?;
    let strategy = args(&*training.strategy)?;
    let persistor = args(&*training.persistor)?;
    let model = &document["model"];
    // The number of classes is not among the arguments of a class by its name.
    let (mut model, by_name) = match model["model_args"].as_object() {
        Some(arguments) if model["kind"] == ModelConfig::__kind() => (arguments.clone(), true),
        _ => (model.as_object().cloned().unwrap_or_default(), false),
    };
    if by_name && training.takes_num_classes()? {
        model.insert(NUM_CLASSES.to_owned(), Value::from(training.num_classes()));
    }
    Ok(json!({
        "format_version": 2,
        "workflows": [{
            "id": "rounds",
            "path": FederatedTraining::__kind(),
            "args": federation,
        }],
        "components": [
            {"id": "model", "path": parts[0].class.path, "args": model},
            {"id": "persistor", "path": parts[2].class.path, "args": persistor},
            {"id": "strategy", "path": training.strategy.typetag_name(), "args": strategy},
        ],
    }))
}

/// Values that are absolute paths: they make the bundle one of this machine.
fn absolute_paths(document: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &mut String, found: &mut Vec<String>) {
        let length = at.len();
        match value {
            Value::String(text) if text.len() > 1 && Path::new(text).is_absolute() => {
                found.push(format!(
                    "`{at}` is the absolute path `{text}`: the hash holds for this machine only"
                ));
            }
            Value::Array(items) => items.iter().enumerate().for_each(|(place, item)| {
                at.push_str(&format!("[{place}]"));
                walk(item, at, found);
                at.truncate(length);
            }),
            Value::Object(map) => map.iter().for_each(|(key, item)| {
                at.push_str(if length == 0 { "" } else { "." });
                at.push_str(key);
                walk(item, at, found);
                at.truncate(length);
            }),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, &mut String::new(), &mut found);
    found
}

fn meta(
    training: &FederatedTraining,
    parts: &[Part; 3],
    files: &[PreviewFile],
    hash: &str,
) -> Value {
    let sites: Vec<&str> = training.sites.iter().map(|site| site.name.as_str()).collect();
    let digests: Map<String, Value> =
        files.iter().map(|file| (file.path.clone(), Value::from(digest(&file.text)))).collect();
    let class = |part: &Part| {
        let Class { path, sources, .. } = &part.class;
        let script = (!sources.is_empty()).then(|| part.path());
        (part.role.to_owned(), json!({"path": path, "script": script}))
    };
    let classes: Map<String, Value> = parts.iter().map(class).collect();
    json!({
        "format_version": 1,
        "name": match training.federation.job_name.as_str() {
            "" => &training.identifier,
            name => name,
        },
        "training": training.identifier,
        "hash": hash,
        "min_clients": training.federation.min_clients,
        "deploy_map": {"app": sites},
        "byoc": parts.iter().any(|part| !part.class.is_built_in()),
        "classes": classes,
        "files": digests,
    })
}
