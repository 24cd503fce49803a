//! Bundles: components on their way from one database to another, as a folder or a tar file.
//!
//! ```text
//! bundle.json                   format, root, components and blobs with digests and sizes, a digest over all of it
//! components/000000.json        a document as `db.show` gives it, children before parents, the root last
//! blobs/blake3/ab/abcd…         a blob under its digest
//! ```
//!
//! Invariant: a bundle is a function of the content alone. It holds no time, no name of a machine
//! and no number that a database gave: versions are counted inside of the bundle. So equal content
//! gives equal bytes, wherever and whenever it is exported. Nothing of a bundle is used before it
//! was verified, and nothing outside of those names is read.

mod export;
mod import;
mod kinds;
mod manifest;
mod marks;
mod names;
mod open;
mod order;
mod plan;
mod source;
mod tar;
mod target;

pub use export::{Export, Exported};
pub use import::Import;
pub(crate) use marks::references;
use names::{
    FORMAT, LONGEST, MANIFEST, PIECE, blob_name, component_name, is_file_name, is_folder_name,
};
