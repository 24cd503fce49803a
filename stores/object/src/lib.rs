//! Artifacts of superduper in a folder, in memory or in an object store.
