//! Metadata of superduper in memory: the reference that other stores are compared with.
