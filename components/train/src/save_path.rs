//! Where a model goes besides the artifact store: a folder, or a place in an object store.
//!
//! Invariant: credentials are references (`env:NAME`); no text made here holds a value of them.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Component as Piece, Path, PathBuf},
};
use superduper::{Error, Result, Secret};

/// Where a model is written to. Its text is a path, or a URL such as `s3://bucket/path`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SavePath {
    /// A folder.
    Folder(PathBuf),
    /// An object store.
    S3(S3Path),
}

/// A place in an object store that speaks S3. Needs the feature `s3` to be written to or read.
///
/// ```
/// use superduper::Secret;
/// use superduper_train::{S3Path, TrainSpec};
///
/// let place = S3Path {
///     endpoint: "https://storage.example.com".into(),
///     region: "eu-central-1".into(),
///     bucket: "models".into(),
///     path: "team".into(),
///     access_key: Secret::env("S3_ACCESS_KEY"),
///     secret_key: Secret::env("S3_SECRET_KEY"),
/// };
/// let spec = TrainSpec::new().save_path(place).save_with_id(true).model_name("mean");
/// assert_eq!(spec.artifact_path("run-7")?.unwrap().to_string(), "s3://models/team/run-7/mean");
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Path {
    /// The URL of the service, without user, path and query; empty for the one of AWS in that
    /// region.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// The bucket. It must be there.
    pub bucket: String,
    /// The path in it; may be empty.
    pub path: String,
    /// The access key.
    pub access_key: Secret<String>,
    /// The secret key.
    pub secret_key: Secret<String>,
}

impl<P: Into<PathBuf>> From<P> for SavePath {
    fn from(path: P) -> Self {
        SavePath::Folder(path.into())
    }
}

impl From<S3Path> for SavePath {
    fn from(path: S3Path) -> Self {
        SavePath::S3(path)
    }
}

impl fmt::Display for SavePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SavePath::Folder(path) => write!(f, "{}", path.display()),
            SavePath::S3(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for S3Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        self.pieces().try_for_each(|piece| write!(f, "/{piece}"))
    }
}

impl SavePath {
    /// The folder, if it is one.
    pub fn as_folder(&self) -> Option<&Path> {
        match self {
            SavePath::Folder(path) => Some(path),
            SavePath::S3(_) => None,
        }
    }

    /// The place below this one.
    pub(crate) fn join(&self, pieces: &[&str]) -> Result<Self> {
        Ok(match self {
            SavePath::Folder(base) => {
                let base = std::path::absolute(base).map_err(|error| {
                    Error::from(error).context(format_args!("`{}`", base.display()))
                })?;
                SavePath::Folder(pieces.iter().fold(base, |path, piece| path.join(piece)))
            }
            SavePath::S3(base) => {
                let all: Vec<&str> = base.pieces().chain(pieces.iter().copied()).collect();
                SavePath::S3(S3Path { path: all.join("/"), ..base.clone() })
            }
        })
    }

    /// The same text for the same place, for every process that writes there.
    pub(crate) fn identity(&self) -> String {
        match self {
            SavePath::Folder(folder) => {
                // Of what is not there, as much as is.
                let there =
                    folder.ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)));
                let rest = there.as_ref().and_then(|(path, _)| folder.strip_prefix(path).ok());
                let whole = there.as_ref().zip(rest).map(|((_, found), rest)| found.join(rest));
                whole
                    .as_deref()
                    .unwrap_or(folder)
                    .to_string_lossy()
                    .trim_end_matches('/')
                    .to_owned()
            }
            SavePath::S3(place) => format!("{} {place}", place.endpoint.trim_end_matches('/')),
        }
    }

    /// Refuse what this program cannot write to, before anything starts.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            SavePath::Folder(base) if is_url(base) => Err(not_a_folder(base)),
            SavePath::Folder(base) if base.is_file() => Err(Error::invalid(format!(
                "the save path `{}` is a file, not a folder",
                base.display()
            ))),
            SavePath::Folder(_) => Ok(()),
            #[cfg(feature = "s3")]
            SavePath::S3(path) => path.check(),
            #[cfg(not(feature = "s3"))]
            SavePath::S3(_) => Err(unsupported()),
        }
    }
}

impl S3Path {
    fn pieces(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|piece| !piece.is_empty())
    }

    /// Refuse what cannot be a place, and credentials that are not there.
    #[cfg_attr(
        not(feature = "s3"),
        expect(dead_code, reason = "nothing is written to such a place then")
    )]
    pub(crate) fn check(&self) -> Result<()> {
        let host = self
            .endpoint
            .strip_prefix("https://")
            .or_else(|| self.endpoint.strip_prefix("http://"));
        let host = host.map(|host| host.trim_end_matches('/'));
        if !self.endpoint.is_empty()
            && host.is_none_or(|host| host.is_empty() || host.contains(['@', '?', '#', '/', ' ']))
        {
            // It is not repeated: a user and password in it are exactly what is refused.
            return Err(Error::invalid(format!("the endpoint of `{self}` cannot be used"))
                .with_hint("write `https://host` or `http://host:port`; credentials belong into `access_key` and `secret_key`"));
        }
        check_piece(&self.bucket)
            .map_err(|error| error.context(format_args!("the bucket of `{self}`")))?;
        self.pieces()
            .try_for_each(check_piece)
            .map_err(|error| error.context(format_args!("the path of `{self}`")))?;
        for (what, secret) in [("access", &self.access_key), ("secret", &self.secret_key)] {
            secret
                .reveal()
                .map_err(|error| error.context(format_args!("the {what} key of `{self}`")))?;
        }
        Ok(())
    }
}

/// Whether a path is the text of a URL: as a folder it would be `s3:` in whatever folder the
/// program runs in.
fn is_url(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let scheme = text.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn not_a_folder(url: &Path) -> Error {
    #[cfg(not(feature = "s3"))]
    if url.starts_with("s3:") {
        return unsupported();
    }
    Error::invalid(format!("the save path `{}` is a URL, not a folder", url.display()))
        .with_hint("give an `S3Path` with endpoint, region and keys, or a folder")
}

/// What is said where the feature `s3` is missing.
#[cfg(not(feature = "s3"))]
pub(crate) fn unsupported() -> Error {
    Error::new(superduper::ErrorKind::Unsupported, "S3 output path not supported")
        .with_hint(
            "build with the feature `s3` of `superduper-train`, or give a folder, or none: the artifact store keeps the model in any case",
        )
        .fatal()
}

/// Refuse a piece of a path that is not the name of one file.
pub(crate) fn check_piece(piece: &str) -> Result<()> {
    let mut parts = Path::new(piece).components();
    let single =
        matches!((parts.next(), parts.next()), (Some(Piece::Normal(only)), None) if only == piece);
    if single
        && !piece.contains(['\\', '\0'])
        && !piece.chars().any(char::is_control)
        && piece.len() <= 255
    {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`{}` cannot be a piece of the artifact path",
        piece.escape_debug()
    ))
    .with_hint("a piece is the name of one file: without `/`, and neither `.` nor `..`"))
}
