//! Nothing here: `tests/snapshots.rs` holds the public API of each crate against `docs/api`.
