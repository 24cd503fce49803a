//! What a location means: a folder, memory, or a URL.
//!
//! Invariant: a text that was meant as something else than a path is refused, instead of a folder
//! being made of that name.

use std::path::{Path, PathBuf, absolute};
use superduper_core::{Error, ErrorKind, Result};

/// Where a database is.
pub(crate) enum Place {
    Memory,
    /// An absolute path.
    Folder(PathBuf),
}

/// Where artifacts are.
pub(crate) enum StorePlace {
    /// An absolute path.
    Folder(PathBuf),
    Url(String),
}

impl Place {
    pub(crate) fn of_database(location: &Path) -> Result<Self> {
        let Some((scheme, rest)) = scheme_of(location)? else {
            return folder(location).map(Place::Folder);
        };
        match scheme.as_str() {
            "memory" if rest.is_empty() => Ok(Place::Memory),
            "memory" => Err(Error::invalid(format!("`{}` names a database in memory, and such have no names", location.display()))
                .with_hint("write `memory://`, or open a folder")),
            "file" | "sqlite" => folder_of_url(&format!("file://{rest}"), location).map(Place::Folder),
            other => Err(Error::new(ErrorKind::Unsupported, format!("databases cannot be opened at `{other}://`")).with_hint(
                "open a folder, `file:///folder` or `memory://`; blobs can live elsewhere with `Db::builder().artifacts_at(\"s3://…\")`",
            )),
        }
    }
}

impl StorePlace {
    pub(crate) fn of_artifacts(location: &Path) -> Result<Self> {
        match scheme_of(location)? {
            None => folder(location).map(StorePlace::Folder),
            Some((scheme, rest)) if scheme == "file" => {
                folder_of_url(&format!("file://{rest}"), location).map(StorePlace::Folder)
            }
            Some((scheme, rest)) => Ok(StorePlace::Url(format!("{scheme}://{rest}"))),
        }
    }
}

/// Scheme and rest of a URL; `None` for a path.
fn scheme_of(location: &Path) -> Result<Option<(String, String)>> {
    let text = location.to_string_lossy();
    let is_scheme = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    match text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
        None => Ok(None),
        Some((scheme, rest)) if rest.starts_with("//") && location.to_str().is_some() => {
            Ok(Some((scheme.to_owned(), rest[2..].to_owned())))
        }
        Some((scheme, _)) => Err(no_path(
            &text,
            &format!("begins with `{scheme}:`, as a URL does"),
            match scheme {
                "memory" => "write `memory://` for a database in memory",
                "file" | "sqlite" => "write `file:///folder` with three slashes, or the path alone",
                _ if scheme.len() == 1 => "paths of Windows are not supported",
                _ => "write `scheme://…` for a URL",
            },
        )),
    }
}

/// The folder of a path.
fn folder(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return Err(Error::invalid("the location is empty")
            .with_hint("give the path of a folder, such as `my.db`"));
    }
    if text.starts_with('~') {
        return Err(no_path(
            &text,
            "begins with `~`, which only a shell replaces",
            "write the whole path of the home folder",
        ));
    }
    if text == ":memory:" {
        return Err(no_path(
            &text,
            "is SQLite's name for memory",
            "write `memory://`, or `Db::in_memory()`",
        ));
    }
    absolute(path).map_err(|error| Error::from(error).context(format_args!("resolving `{text}`")))
}

fn no_path(text: &str, why: &str, hint: &str) -> Error {
    Error::invalid(format!("`{text}` {why}"))
        .with_hint(format!("{hint}; `./{text}` is a folder of that name"))
}

fn folder_of_url(url: &str, location: &Path) -> Result<PathBuf> {
    superduper_object::folder_of_url(url).ok_or_else(|| {
        Error::invalid(format!("`{}` does not name a folder", location.display()))
            .with_hint("write `file:///folder` with three slashes")
    })
}
