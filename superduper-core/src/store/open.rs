//! How stores are opened, and where a job process finds those of its parent.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What opening a store may do to the place where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OpenMode {
    /// Make it where there is none. An older format is brought forward.
    #[default]
    Create,
    /// Refuse a place without one. An older format is brought forward.
    Existing,
    /// Refuse a place without one, and write nothing, neither now nor later.
    ReadOnly,
}

/// Where the stores of a database are, as their capabilities tell it: what a job process opens, so
/// that it works on the stores of its parent. Secrets are no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLocations {
    /// What to open the metadata store with:
    /// [`MetadataCapabilities::shared`](super::MetadataCapabilities::shared).
    pub metadata: PathBuf,
    /// What to open the artifact store with:
    /// [`ArtifactCapabilities::shared`](super::ArtifactCapabilities::shared).
    pub artifacts: PathBuf,
}
