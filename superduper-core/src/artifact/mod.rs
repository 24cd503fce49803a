//! Blobs: bytes, files and tensors that belong to components, kept outside of their documents.
//!
//! A field of type [`Artifact`] holds a blob. [`Bytes`], [`File`], [`Folder`] and [`Tensors`] are
//! blobs; a type of your own becomes one by [`Blob`], which says how its value is written and how a
//! [`StoredBlob`] is read.

mod blob;
mod bytes;
#[cfg(feature = "candle")]
mod candle;
mod cell;
pub(crate) mod contract;
mod dtype;
mod file;
mod folder;
mod handle;
mod layout;
mod ranges;
pub(crate) mod tar;
mod tensors;

pub use blob::{Blob, StoredBlob};
pub use bytes::Bytes;
pub use cell::Artifact;
pub use dtype::{Dtype, Element, TensorData, TensorInfo};
pub use file::File;
pub(crate) use folder::FOLDER_KEY;
pub use folder::Folder;
pub use handle::{BlobHandle, BlobSource, Hashed};
pub(crate) use handle::{CHUNK, blocking};
pub(crate) use tensors::TENSORS;
pub use tensors::Tensors;
