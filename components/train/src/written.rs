//! What a job wrote outside of the artifact store: files and objects, with their digests.
//!
//! Invariant: a file appears whole under its name (temporary file, fsync, rename). Only what is on
//! record here is deleted again, and only where its bytes are still the same.

use crate::save_path::S3Path;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use superduper::unreturned::{Site, Unreturned};
use superduper::{Digest, Error, JobContext, Result};

/// What a job wrote outside of the artifact store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Written {
    /// The artifact path.
    pub(crate) path: Option<PathBuf>,
    /// Files with the digests of their bytes.
    pub(crate) files: Vec<(PathBuf, Digest)>,
    /// Folders that were not there before, outermost first.
    pub(crate) folders: Vec<PathBuf>,
    /// The place of the objects.
    pub(crate) place: Option<S3Path>,
    /// Objects, in the order of writing.
    pub(crate) objects: Vec<WrittenObject>,
    /// Whose drafts are whose; empty in what was read back.
    #[serde(skip)]
    pub(crate) drafts: Drafts,
}

/// Names of unfinished files.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Drafts {
    /// Of all attempts of this job and of no other one.
    job: String,
    attempt: u32,
}

impl Drafts {
    pub(crate) fn of(ctx: &JobContext) -> Self {
        let uuid = ctx.huuid().rsplit(':').next().unwrap_or_default().to_owned();
        Drafts {
            job: format!(".{uuid}-{}-", ctx.job_id().map_or(0, |job| job.0)),
            attempt: ctx.attempt(),
        }
    }

    /// The name of a file that shows whether a folder can be written to.
    pub(crate) fn probe(&self) -> String {
        format!("{}{}-reach.tmp", self.job, self.attempt)
    }

    fn name(&self, serial: u64) -> String {
        format!("{}{}-{}-{serial}.tmp", self.job, self.attempt, std::process::id())
    }

    /// Delete what earlier attempts, killed in the middle, left.
    fn clear(&self, folder: &Path) {
        let current = format!("{}{}-", self.job, self.attempt);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&self.job) && name.ends_with(".tmp") && !name.starts_with(&current)
            {
                // A draft that stays does no harm.
                fs::remove_file(entry.path())
                    .or_warn(Site::SWEEP, "removing a draft of an earlier attempt");
            }
        }
    }
}

/// An object that a job wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WrittenObject {
    /// Its key in the bucket.
    pub(crate) key: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// What the service calls this state of it.
    pub(crate) etag: Option<String>,
}

/// An error of the file system, with what was tried and where.
pub(crate) fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::from(error).context(format_args!("{what} `{}`", path.display()))
}

impl Written {
    pub(crate) fn folder(path: &Path, ctx: &JobContext) -> Result<Self> {
        let mut written =
            Written { path: Some(path.to_owned()), drafts: Drafts::of(ctx), ..Written::default() };
        written.make(path)?;
        Ok(written)
    }

    /// Make a folder, and note those that were not there.
    pub(crate) fn make(&mut self, folder: &Path) -> Result<()> {
        let missing: Vec<PathBuf> =
            folder.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(folder).map_err(|error| failed("make the folder", folder, error))?;
        self.folders.extend(missing.into_iter().rev());
        self.drafts.clear(folder);
        Ok(())
    }

    /// Write a file under its name, all of it or nothing; nothing where the attempt was cancelled
    /// or given up.
    pub(crate) fn file(
        &mut self,
        path: &Path,
        digest: Digest,
        ctx: &JobContext,
        write: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let folder = path.parent().unwrap_or(path);
        let draft = folder.join(self.drafts.name(SERIAL.fetch_add(1, Ordering::Relaxed)));
        let result = File::create_new(&draft)
            .map_err(|error| failed("write", &draft, error))
            .and_then(|mut file| {
                write(&mut file)?;
                file.sync_all().map_err(|error| failed("write", &draft, error))?;
                ctx.check_cancelled()?;
                fs::rename(&draft, path).map_err(|error| failed("write", path, error))?;
                File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(|error| failed("write", folder, error))
            });
        if result.is_err() {
            // Return the error. A draft that stays does no harm.
            fs::remove_file(&draft).or_warn(Site::SWEEP.job(ctx.job_id()), "removing a draft");
        }
        result?;
        self.files.push((path.to_owned(), digest));
        Ok(())
    }

    /// Leave alone what another job wrote to the same place too; the place may be known by another
    /// path there.
    pub(crate) fn leave(&mut self, other: &Written) {
        let below = |base: Option<&Path>, path: &Path| {
            base.and_then(|base| path.strip_prefix(base).ok()).unwrap_or(path).to_owned()
        };
        let theirs: HashSet<PathBuf> =
            other.files.iter().map(|(path, _)| below(other.path.as_deref(), path)).collect();
        let base = self.path.clone();
        self.files.retain(|(path, _)| !theirs.contains(&below(base.as_deref(), path)));
        self.objects.retain(|object| !other.objects.iter().any(|others| others.key == object.key));
    }

    /// Delete what was written and is still as it was, and the folders that are empty then.
    pub(crate) fn delete(&self) -> Result<()> {
        for (path, digest) in &self.files {
            match digest_of(path) {
                Ok(found) if found == *digest => match fs::remove_file(path) {
                    // Another sweep was there first.
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failed("delete", path, error));
                    }
                    _ => {}
                },
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", path, error)),
            }
        }
        for folder in self.folders.iter().rev() {
            fs::remove_dir(folder).ignored("a folder with files of others stays");
        }
        Ok(())
    }
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = superduper::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
