//! Blobs: bytes, files and tensors that belong to components, kept outside of their documents.

mod blob;
mod bytes;
mod cell;
mod handle;

pub use blob::{Blob, StoredBlob};
pub use bytes::Bytes;
pub use cell::Artifact;
pub use handle::{BlobHandle, BlobSource, Hashed};
