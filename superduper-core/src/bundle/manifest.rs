//! The JSON files of a bundle: its table of contents and its documents.
//!
//! Invariant: the digest of a manifest covers the manifest, and through it every file of the
//! bundle.

use super::{FORMAT, MANIFEST};
use crate::{
    address::Address,
    digest::{Digest, write_canonical},
    error::{Error, ErrorKind, Result},
    json::{MAX_READ, nesting, read_json, with_stack_for},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    #[serde(rename = "_format")]
    pub(super) format: u64,
    pub(super) root: Address,
    /// Children before parents.
    pub(super) components: Vec<ListedComponent>,
    /// Sorted by digest.
    pub(super) blobs: Vec<ListedBlob>,
    /// The digest of all the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListedComponent {
    pub(super) address: Address,
    pub(super) digest: Digest,
    pub(super) file: String,
    pub(super) size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListedBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A component in a bundle. `version` of the address counts the versions of the component in the
/// bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComponentDocument {
    #[serde(rename = "_format")]
    pub(super) format: u64,
    pub(super) kind: String,
    /// The version of the type.
    pub(super) version: u32,
    pub(super) address: Address,
    pub(super) uuid: Digest,
    pub(super) content_hash: Digest,
    pub(super) fields: Value,
    pub(super) outputs: Map<String, Value>,
}

/// Canonical JSON and a newline.
fn text_of(value: &impl Serialize) -> Result<Vec<u8>> {
    // Documents of older versions may be deeper than what is written today.
    let value = with_stack_for(MAX_READ, || serde_json::to_value(value));
    let value =
        value.map_err(|error| Error::internal("write a file of a bundle").with_source(error))?;
    let mut text = Vec::with_capacity(1024);
    write_canonical(&value, &mut text);
    text.push(b'\n');
    Ok(text)
}

impl Manifest {
    /// The file, and the digest of the bundle.
    pub(super) fn write(mut self) -> Result<(Vec<u8>, Digest)> {
        self.digest = None;
        let digest = Digest::of(&text_of(&self)?);
        self.digest = Some(digest);
        Ok((text_of(&self)?, digest))
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut manifest: Manifest = read(bytes, MANIFEST)?;
        let told = manifest.digest.take();
        if told != Some(Digest::of(&text_of(&manifest)?)) {
            return Err(edited(MANIFEST, "its content does not have the digest that it tells"));
        }
        manifest.digest = told;
        if text_of(&manifest)? != bytes {
            return Err(edited(MANIFEST, "it is not written as an export writes it"));
        }
        Ok(manifest)
    }
}

impl ComponentDocument {
    pub(super) fn write(&self) -> Result<Vec<u8>> {
        text_of(self)
    }

    pub(super) fn read(bytes: &[u8], file: &str) -> Result<Self> {
        read(bytes, file)
    }
}

/// Read a JSON file, its format first: a newer one need not have the members of this one.
fn read<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T> {
    let not_ours = |why: String| {
        Error::new(ErrorKind::Format, format!("`{file}` is not a file of a bundle: {why}"))
    };
    let value = read_json(bytes).map_err(not_ours)?;
    match value.get("_format").and_then(Value::as_u64) {
        Some(FORMAT) => with_stack_for(nesting(&value), || serde_json::from_value(value)).map_err(|error| not_ours(error.to_string())),
        Some(newer) if newer > FORMAT => {
            Err(Error::new(ErrorKind::Format, format!("the bundle has format {newer}, this program knows formats up to {FORMAT}"))
                .with_hint("import it with the newer version of superduper that wrote it, or export it again with this one"))
        }
        _ => Err(not_ours("it tells no format".to_owned())),
    }
}

/// The error for a file that is not what it was when the bundle was written.
pub(super) fn edited(file: &str, what: impl std::fmt::Display) -> Error {
    Error::integrity(format!("`{file}` was changed or damaged after the export: {what}"))
        .with_hint("copy the bundle again, or export it again; bundles cannot be edited")
}
