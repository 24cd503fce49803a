//! The blobs of a version: where they stand, and what they are.

use super::Db;
use crate::{
    artifact::{FOLDER_KEY, TENSORS},
    digest::Digest,
    encode::{Mark, visit_marks},
    error::{Error, Result},
    json::check_readable,
    locator::Locator,
};
use serde_json::{Map, Value};
use std::fmt;

/// What the bytes of an artifact are, as far as the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArtifactFormat {
    /// A safetensors file: the digests of its tensors are on record.
    Safetensors,
    /// A tar file of a folder: `Artifact<Folder>`. The name of the folder is on record.
    Folder,
    /// Bytes of any kind: `Artifact<Bytes>` and `Artifact<File>`, which the record does not tell
    /// apart.
    Bytes,
}

impl ArtifactFormat {
    /// The lowercase name.
    pub fn name(self) -> &'static str {
        match self {
            ArtifactFormat::Safetensors => "safetensors",
            ArtifactFormat::Folder => "folder",
            ArtifactFormat::Bytes => "bytes",
        }
    }

    fn of(reference: &Map<String, Value>) -> Self {
        if reference.contains_key(TENSORS) {
            ArtifactFormat::Safetensors
        } else if reference.contains_key(FOLDER_KEY) {
            ArtifactFormat::Folder
        } else {
            ArtifactFormat::Bytes
        }
    }
}

impl fmt::Display for ArtifactFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An artifact that a version refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactLine {
    /// The field, and the place in its value: `weights`, `folds[2].weights`.
    pub path: String,
    /// Whether the field is an output, which a job has set.
    pub is_output: bool,
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// What the bytes are.
    pub format: ArtifactFormat,
}

impl fmt::Display for ArtifactLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArtifactLine { path, digest, size, format, .. } = self;
        write!(f, "{path} {digest} {size} bytes, {format}")
    }
}

impl Db {
    /// The artifacts that a version refers to, those of its declared fields first, then those of
    /// its outputs, by path. No blob is read. The artifacts of its children are those of their own
    /// addresses.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// for artifact in db.artifacts("acme.Model/churn@prod").await? {
    ///     println!("{}: {} bytes of {}", artifact.path, artifact.size, artifact.format);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `Decode` for a document or output on record that cannot be read; `Store`.
    pub async fn artifacts(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Vec<ArtifactLine>> {
        let address = self.resolve(address).await?;
        let tree = self.inner().metadata.tree(address.clone()).await?;
        let Some(stored) = tree.into_iter().next() else {
            return Err(self.not_found(&address.kind, &address.to_string()).await);
        };
        let name = &stored.address;
        check_readable(&stored.document, format_args!("the document of `{name}`"))?;
        let mut found = Vec::new();
        find(&stored.document, "", &mut found)?;
        let declared = found.len();
        let mut outputs: Vec<(&String, &Value)> = stored.outputs.iter().collect();
        outputs.sort_unstable_by_key(|(output, _)| *output);
        for (output, value) in outputs {
            check_readable(value, format_args!("the output `{output}` of `{name}`"))?;
            find(value, output, &mut found)?;
        }
        found.iter_mut().skip(declared).for_each(|line| line.is_output = true);
        Ok(found)
    }
}

/// Find the references to blobs in a value, by path.
fn find(value: &Value, path: &str, found: &mut Vec<ArtifactLine>) -> Result<()> {
    visit_marks(value, &mut path.to_owned(), &mut |path, mark| {
        if mark.name == "$blob" {
            found.push(line(path, &mark)?);
        }
        Ok(())
    })
}

fn line(path: &str, mark: &Mark<'_>) -> Result<ArtifactLine> {
    let (digest, size) = mark.blob(path)?;
    let format = ArtifactFormat::of(mark.object);
    Ok(ArtifactLine { path: path.to_owned(), is_output: false, digest, size, format })
}
