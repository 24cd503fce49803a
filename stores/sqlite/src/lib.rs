//! Metadata of superduper in one SQLite file.
