//! How a folder becomes a blob, and how it is opened again.

use super::{
    FOLDER_KEY, Folder, Origin,
    listing::{Listed, changed, list, pack},
};
use crate::{
    artifact::{
        Blob, BlobSource, File, Hashed, StoredBlob, blocking, contract::Chunks, handle::hash_chunks,
    },
    error::Result,
    future::BoxFuture,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// A folder on disk.
struct FolderSource {
    name: String,
    path: PathBuf,
    hashed: Mutex<Option<Vec<Listed>>>,
}

impl BlobSource for FolderSource {
    fn chunks(&self) -> Result<Chunks> {
        let files = list(&self.path)?;
        let hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if hashed.as_ref().is_some_and(|hashed| *hashed != files) {
            return Err(changed(&self.path));
        }
        pack(&self.path, &self.name, files)
    }

    fn hash(&self) -> Result<Hashed> {
        let before = list(&self.path)?;
        let mut hashed = hash_chunks(pack(&self.path, &self.name, before.clone())?)?;
        if list(&self.path)? != before {
            return Err(changed(&self.path));
        }
        hashed.extra.insert(FOLDER_KEY.to_owned(), self.name.clone().into());
        *self.hashed.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        Ok(hashed)
    }
}

/// A folder that was loaded, as a new blob.
struct TarSource {
    name: String,
    file: Arc<dyn BlobSource>,
}

impl BlobSource for TarSource {
    fn chunks(&self) -> Result<Chunks> {
        self.file.chunks()
    }

    fn hash(&self) -> Result<Hashed> {
        let mut hashed = self.file.hash()?;
        hashed.extra.insert(FOLDER_KEY.to_owned(), self.name.clone().into());
        Ok(hashed)
    }
}

impl Blob for Folder {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        let name = value.name().to_owned();
        match value.origin() {
            Origin::Disk(path) => {
                Arc::new(FolderSource { name, path: path.clone(), hashed: Mutex::new(None) })
            }
            Origin::Packed(tar, _) => {
                Arc::new(TarSource { name, file: File::source(Arc::new(tar.clone())) })
            }
        }
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let file = <File as Blob>::open(blob.clone()).await?;
            let opened = blocking(move || Ok(Folder::packed(file))).await?;
            opened.map_err(|why| blob.malformed(why))
        })
    }
}
