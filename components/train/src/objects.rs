//! Small objects below a place in an object store, read and written whole.

use crate::save_path::S3Path;
use superduper::Result;

#[cfg(feature = "s3")]
impl S3Path {
    /// Write an object below this place in one request. An object of the same name is replaced.
    ///
    /// `name` is relative to [`path`](S3Path::path), with `/` between its parts: `notes.txt`,
    /// `scripts/model.rs`. The whole object is in memory, so this is for small ones.
    ///
    /// # Errors
    /// `Unsupported` without the feature `s3`; `InvalidInput` for an endpoint, bucket or path that
    /// cannot be used; `NotFound` for a key whose environment variable or file is missing; `Store`
    /// for a bucket that does not exist, for credentials that are refused, and for a service that
    /// does not answer.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.check()?;
        crate::s3::Bucket::open(self)?.write(name, bytes).await
    }

    /// Read a small object below this place; `None` where there is none.
    ///
    /// # Errors
    /// As for [`put`](S3Path::put).
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.check()?;
        let found = crate::s3::Bucket::open(self)?.read(name).await?;
        Ok(found.map(|bytes| bytes.as_ref().to_vec()))
    }
}

#[cfg(not(feature = "s3"))]
impl S3Path {
    /// Write an object below this place in one request. An object of the same name is replaced.
    ///
    /// `name` is relative to [`path`](S3Path::path), with `/` between its parts: `notes.txt`,
    /// `scripts/model.rs`. The whole object is in memory, so this is for small ones.
    ///
    /// # Errors
    /// `Unsupported` without the feature `s3`; `InvalidInput` for an endpoint, bucket or path that
    /// cannot be used; `NotFound` for a key whose environment variable or file is missing; `Store`
    /// for a bucket that does not exist, for credentials that are refused, and for a service that
    /// does not answer.
    pub async fn put(&self, _name: &str, _bytes: Vec<u8>) -> Result<()> {
        Err(crate::save_path::unsupported())
    }

    /// Read a small object below this place; `None` where there is none.
    ///
    /// # Errors
    /// As for [`put`](S3Path::put).
    pub async fn read(&self, _name: &str) -> Result<Option<Vec<u8>>> {
        Err(crate::save_path::unsupported())
    }
}
