//! The document of a training as people write it, and reading it back from an exported bundle.

use super::files::{META, TRAINING, hash_of};
use crate::training::FederatedTraining;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use superduper::{Address, Component, Db, Digest, Error, Result};
use superduper_train::SavePath;

impl FederatedTraining {
    /// Read a training from a bundle that [`Preview::export`](crate::Preview::export) wrote, into
    /// this database. Its preview has the hash of the bundle if this program has the same source.
    ///
    /// Blobs, such as the rows of a [`TableData`](crate::candle::TableData), are not in a bundle:
    /// they must be in the artifact store of the database.
    ///
    /// # Errors
    /// `NotFound` if there is no bundle; `Integrity` for a file that is missing or changed;
    /// `InvalidInput` for a bundle without an executor, for a file that is not JSON, and for a
    /// document that is not a federated training; `Store` for a file that cannot be read; those of
    /// [`S3Path::read`](superduper_train::S3Path::read) and of [`Db::decode_documents`].
    pub async fn from_bundle(db: &Db, place: impl Into<SavePath>) -> Result<FederatedTraining> {
        let place = place.into();
        let document = document(&place).await?;
        if document["executor"].is_null() {
            return Err(Error::invalid(format!("executors are not specified in `{place}`"))
                .with_hint("a training has an `executor`, such as {\"type\": \"federated.DefaultExecutor\"}"));
        }
        let mut found = db
            .decode_documents(&[document])
            .await
            .map_err(|error| error.context(format_args!("`{TRAINING}` in `{place}`")))?;
        let training: Box<dyn Component> =
            found.pop().ok_or_else(|| Error::internal("one document gives one component"))?;
        superduper::downcast(training).map_err(|_| {
            Error::invalid(format!("`{TRAINING}` in `{place}` is no federated training"))
        })
    }
}

/// The document of a bundle, all files of which are as they were exported.
async fn document(place: &SavePath) -> Result<Value> {
    // An export may replace the bundle while its files are read: then they are read again.
    for _ in 0..8 {
        let meta = read(place, META).await?.ok_or_else(|| {
            Error::not_found(format!("`{place}` has no `{META}`: it is no exported training"))
        })?;
        let found = document_of(place, &json(place, META, &meta)?).await;
        if found.is_ok() || read(place, META).await?.is_some_and(|newest| newest == meta) {
            return found;
        }
    }
    let text = format!("`{place}` is replaced all the time");
    Err(Error::new(superduper::ErrorKind::Conflict, text))
}

async fn document_of(place: &SavePath, meta: &Value) -> Result<Value> {
    let folder = meta["folder"].as_str();
    let files = meta["files"]
        .as_object()
        .ok_or_else(|| Error::invalid(format!("`{META}` of `{place}` does not list the files")))?;
    let mut document = None;
    for (path, digest) in files {
        let stored = folder.map_or_else(|| path.clone(), |folder| format!("{folder}/{path}"));
        let bytes = read(place, &stored)
            .await?
            .ok_or_else(|| Error::integrity(format!("`{path}` is missing in `{place}`")))?;
        if digest.as_str() != Some(&Digest::of(&bytes).to_hex()) {
            let text = format!("`{path}` in `{place}` is not what was exported");
            return Err(Error::integrity(text).with_hint("export the training again"));
        }
        if path == TRAINING {
            document = Some(json(place, path, &bytes)?);
        }
    }
    let digests = files
        .iter()
        .map(|(path, digest)| (path.as_str(), digest.as_str().unwrap_or_default().to_owned()));
    if meta["hash"].as_str() != Some(&hash_of(digests)) {
        let text = format!("the hash in `{META}` of `{place}` is not that of its files");
        return Err(Error::integrity(text).with_hint("export the training again"));
    }
    document.ok_or_else(|| Error::integrity(format!("`{TRAINING}` is missing in `{place}`")))
}

fn json(place: &SavePath, path: &str, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(format!("`{path}` in `{place}` is no JSON: {error}")))
}

async fn read(place: &SavePath, path: &str) -> Result<Option<Vec<u8>>> {
    match place {
        SavePath::Folder(folder) => {
            let path = inside(folder, path)?;
            let at = path.clone();
            let read = tokio::task::spawn_blocking(move || std::fs::read(at)).await;
            match read.map_err(|error| Error::internal(error.to_string()))? {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    Err(Error::store(format!("cannot read `{}`", path.display()))
                        .with_source(error))
                }
            }
        }
        SavePath::S3(bucket) => bucket.read(path).await,
    }
}

/// A path inside of a folder; a name that leads out of it is refused.
fn inside(folder: &Path, path: &str) -> Result<PathBuf> {
    let leads_out = |piece: &str| piece.is_empty() || piece == "." || piece == "..";
    if path.split('/').any(leads_out) || path.contains('\\') {
        return Err(Error::invalid(format!("`{path}` is no name of a file in a bundle")));
    }
    Ok(folder.join(path))
}

/// A stored document as people write it: components inside have their kind beside their fields.
pub(super) fn written(kind: &str, document: &Value) -> Value {
    let mut fields = match plain(document) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("kind".to_owned(), Value::from(kind));
    Value::Object(fields)
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(map) => match (map.get("$kind").and_then(Value::as_str), map.get("$body")) {
            (Some(kind), Some(body)) => {
                let mut fields = match plain(body) {
                    Value::Object(fields) => fields,
                    _ => Map::new(),
                };
                let key = if fields.contains_key("kind") { "$kind" } else { "kind" };
                fields.insert(key.to_owned(), Value::from(kind));
                Value::Object(fields)
            }
            // A reference is to the newest version, wherever the document is read.
            _ if map.len() == 1 && map.get("$ref").is_some_and(Value::is_string) => {
                let text = map["$ref"].as_str().unwrap_or_default();
                let address: Option<Address> = text.parse().ok();
                let newest = address.map(|address| address.unversioned().to_string());
                json!({"$ref": newest.unwrap_or_else(|| text.to_owned())})
            }
            _ => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        },
        other => other.clone(),
    }
}
