//! Blobs: bytes, files and tensors that belong to components, kept outside of their documents.

mod blob;
mod bytes;
#[cfg(feature = "candle")]
mod candle;
mod cell;
mod dtype;
mod file;
mod handle;
mod layout;
mod ranges;
mod tensors;

pub use blob::{Blob, StoredBlob};
pub use bytes::Bytes;
pub use cell::Artifact;
pub use dtype::{Dtype, Element, TensorData, TensorInfo};
pub use file::File;
pub use handle::{BlobHandle, BlobSource, Hashed};
pub(crate) use handle::{CHUNK, blocking};
pub use tensors::Tensors;
