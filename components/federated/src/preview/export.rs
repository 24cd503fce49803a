//! Writing a preview to a folder or a bucket.
//!
//! Invariant: whoever reads the place finds the old bundle or the new one, never a mix. A folder is
//! written beside its place and takes it in one step. In a bucket the files have the hash of the
//! bundle in their names, and `meta.json`, which names them, is replaced last.

use super::{
    Preview,
    files::{META, PreviewFile},
};
use serde_json::Value;
use std::{fs, io::ErrorKind as IoKind, path::Path};
use superduper::{Error, Result};
use superduper_train::{S3Path, SavePath};
use tempfile::TempDir;

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportedTraining {
    /// Where.
    pub place: String,
    /// The hash of the preview.
    pub hash: String,
    /// How many files.
    pub files: usize,
}

impl Preview {
    /// Write all files to a folder, or to a place in a bucket
    /// ([`S3Path`](superduper_train::S3Path), with the feature `s3`). An earlier bundle there is
    /// replaced.
    ///
    /// In a bucket, `meta.json` is at the place itself. The other files are below `<hash>/`.
    /// The files of earlier bundles stay.
    ///
    /// # Guarantees
    /// Equal previews give equal bytes. A reader finds the old bundle or the new one, also after a
    /// crash at any point.
    ///
    /// # Assumptions
    /// If the folder exists, its file system can exchange two names in one step (`renameat2` on
    /// Linux).
    ///
    /// # Errors
    /// `InvalidInput` for a place with files that are not a bundle, which stay as they are, and for
    /// a URL instead of a folder or an `S3Path`; `Store` for a folder that cannot be written and
    /// for a bucket that cannot be reached; `Unsupported` for an `S3Path` without the feature `s3`;
    /// those of [`S3Path::put`](superduper_train::S3Path::put).
    pub async fn export(&self, place: impl Into<SavePath>) -> Result<ExportedTraining> {
        let place = place.into();
        let context = || format!("exporting to `{place}`");
        match &place {
            SavePath::Folder(folder) if folder.to_string_lossy().contains("://") => {
                Err(Error::invalid(format!("`{place}` is a URL, not a folder"))
                    .with_hint("give an `S3Path` with endpoint, region and keys, or a folder"))
            }
            SavePath::Folder(folder) => {
                let (folder, files) = (folder.clone(), self.files.clone());
                let written = tokio::task::spawn_blocking(move || to_folder(&folder, &files));
                written.await.map_err(|error| Error::internal(error.to_string()))?
            }
            SavePath::S3(bucket) => self.to_bucket(bucket).await,
        }
        .map_err(|error| error.context(context()))?;
        let (hash, files) = (self.hash.clone(), self.files.len());
        Ok(ExportedTraining { place: place.to_string(), hash, files })
    }

    async fn to_bucket(&self, bucket: &S3Path) -> Result<()> {
        if let Some(found) = bucket.read(META).await? {
            check_meta(&found)?;
        }
        for file in self.files.iter().filter(|file| file.path != META) {
            let name = format!("{}/{}", self.hash, file.path);
            bucket.put(&name, file.text.clone().into_bytes()).await?;
        }
        let text = self.file(META).unwrap_or_default();
        let mut meta: Value = serde_json::from_str(text)?;
        meta["folder"] = Value::from(self.hash.as_str());
        bucket.put(META, serde_json::to_vec_pretty(&meta)?).await
    }
}

fn to_folder(folder: &Path, files: &[PreviewFile]) -> Result<()> {
    let folder = std::path::absolute(folder).map_err(|error| cannot("find", folder, error))?;
    let found = look(&folder)?;
    let parent = folder.parent().unwrap_or(Path::new("/")).to_owned();
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| Error::invalid("it is not the name of a folder"))?;
    fs::create_dir_all(&parent).map_err(|error| cannot("make", &parent, error))?;
    let draft = draft_in(&parent, &name).map_err(|error| cannot("write into", &parent, error))?;
    for file in files {
        let path = draft.path().join(&file.path);
        let above = path.parent().unwrap_or(draft.path()).to_owned();
        let written = || {
            fs::create_dir_all(&above)?;
            fs::write(&path, &file.text)?;
            fs::File::open(&path)?.sync_all()?;
            fs::File::open(&above)?.sync_all()
        };
        written().map_err(|error| cannot("write", &path, error))?;
    }
    match found {
        Found::Bundle => exchange(draft, &folder)?,
        // An empty folder gives way to another one.
        Found::Nothing => {
            fs::rename(draft.path(), &folder)
                .map_err(|error| cannot("put in place", &folder, error))?;
            // It is no longer under the name that would be cleared away.
            let _kept = draft.keep();
        }
    }
    let synced = fs::File::open(&parent).and_then(|parent| parent.sync_all());
    synced.map_err(|error| cannot("write", &parent, error))
}

/// Put a new bundle in the place of an old one. Both names are there before and after.
fn exchange(draft: TempDir, folder: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let exchanged = renameat_with(CWD, draft.path(), CWD, folder, RenameFlags::EXCHANGE);
    exchanged.map_err(|error| {
        cannot("replace", folder, error.into())
            .with_hint("if this file system cannot exchange two folders, export to a new folder")
    })?;
    // The old bundle is the draft now. What somebody put into it meanwhile is not deleted.
    if let Err(error) = look(draft.path()) {
        let kept = draft.keep();
        return Err(error.context(format_args!(
            "the new bundle is in place; what was there is kept in `{}`",
            kept.display()
        )));
    }
    Ok(())
}

/// A folder beside the place of a bundle, which goes away unless it is kept. Like any new folder it
/// is for all who may read its parent.
fn draft_in(parent: &Path, name: &str) -> std::io::Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".draft")
        .permissions(fs::Permissions::from_mode(0o777))
        .tempdir_in(parent)
}

/// What is at the place of a bundle.
enum Found {
    /// Nothing, or an empty folder.
    Nothing,
    /// A bundle, and nothing else.
    Bundle,
}

/// Look at the place of a bundle. Anything that an export did not write is refused.
fn look(folder: &Path) -> Result<Found> {
    let there = match files_below(folder) {
        Ok(there) => there,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(cannot("look into", folder, error)),
    };
    if there.is_empty() {
        return Ok(Found::Nothing);
    }
    let meta = match fs::read(folder.join(META)) {
        Ok(found) => check_meta(&found)?,
        Err(error) if error.kind() == IoKind::NotFound => return Err(something_else()),
        Err(error) => return Err(cannot("read", &folder.join(META), error)),
    };
    let is_ours = |path: &String| path == META || meta["files"].get(path).is_some();
    match there.iter().find(|path| !is_ours(path)) {
        Some(other) => Err(something_else().context(format_args!("`{other}`"))),
        None => Ok(Found::Bundle),
    }
}

/// The files below a folder, by their paths with `/`; empty folders too.
fn files_below(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() {
            found.push(name);
            continue;
        }
        let below = files_below(&entry.path())?;
        if below.is_empty() {
            found.push(name);
        } else {
            found.extend(below.into_iter().map(|path| format!("{name}/{path}")));
        }
    }
    Ok(found)
}

fn check_meta(found: &[u8]) -> Result<Value> {
    let meta: Value = serde_json::from_slice(found).unwrap_or_default();
    match meta["hash"].is_string() && meta["files"].is_object() {
        true => Ok(meta),
        false => Err(something_else()),
    }
}

fn something_else() -> Error {
    Error::invalid("what is there is not an exported training, and is not replaced")
        .with_hint("choose another place, or remove it")
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::store(format!("cannot {what} `{}`", path.display())).with_source(error)
}
