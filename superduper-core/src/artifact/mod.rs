//! Blobs: bytes, files and tensors that belong to components, kept outside of their documents.

mod bytes;
mod handle;

pub use bytes::Bytes;
pub use handle::{BlobHandle, BlobSource, Hashed};
