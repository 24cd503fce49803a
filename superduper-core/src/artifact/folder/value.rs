//! A folder as a value: its files by name.

use super::{Place, listing, packed};
use crate::{
    artifact::{Bytes, File, blocking},
    error::{Error, ErrorKind, Result},
};
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{Read, Seek, SeekFrom, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// The member of a reference that holds the name of a folder.
pub(crate) const FOLDER_KEY: &str = "folder";

/// A folder of this machine, with its name and the names of its files: a tokenizer or a decoder
/// that looks at names finds them again.
///
/// Applying a component stores the folder as one blob. A loaded folder reads single files from the
/// blob; [`local_path`](Folder::local_path) gives a folder on disk.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{Folder, prelude::*};
///
/// #[derive(Component)]
/// struct Encoder {
///     identifier: String,
///     model: Artifact<Folder>,
/// }
///
/// # async fn example(db: Db) -> Result<()> {
/// let model = Folder::open("models/bert-base-uncased")?.into();
/// db.apply(Encoder { identifier: "words".into(), model }).await?;
///
/// let encoder: Encoder = db.load("words").await?;
/// let model = encoder.model.get().await?;
/// assert_eq!(model.name(), "bert-base-uncased");
/// let config = model.read("config.json").await?;
/// let path = model.local_path().await?; // ends in `bert-base-uncased`
/// # Ok(())
/// # }
/// ```
///
/// # Format
/// The blob is a tar file (POSIX ustar) that `tar xf` unpacks: first the folder, then its files by
/// name. It holds names and bytes, and no times, owners or permissions. So folders of equal name
/// with equal files give equal blobs. Folders without files are left out.
///
/// # Assumptions
/// The files stay as they are until the component is applied: a change between planning and storing
/// is refused. Whoever gets the path of a loaded folder does not write to it.
#[derive(Clone)]
pub struct Folder {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    files: BTreeMap<String, Place>,
    origin: Origin,
}

/// Where the files are.
pub(super) enum Origin {
    /// In a folder.
    Disk(PathBuf),
    /// In a tar file, and unpacked once that was asked for.
    Packed(File, OnceCell<TempDir>),
}

impl Folder {
    /// A folder that exists. The names of its files are read, and not yet their bytes.
    ///
    /// A symbolic link to a file inside of the folder is stored as that file.
    ///
    /// # Errors
    /// `InvalidInput` for a path at which there is no readable folder, and for a folder with
    /// something that cannot be stored: a link that leaves it or leads to a folder, a device, a
    /// name that is not UTF-8, has a backslash, or has no room in a tar file (about 255 bytes from
    /// the folder's own name on).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let describe = |error| {
            Error::invalid(format!("folder `{}` cannot be opened", path.display()))
                .with_source(error)
        };
        // Relative paths would move with the current directory.
        let full = std::path::absolute(&path).map_err(describe)?;
        if !fs::metadata(&full).map_err(describe)?.is_dir() {
            return Err(Error::invalid(format!("`{}` is no folder", path.display()))
                .with_hint("`File::open` takes a single file"));
        }
        let named = || Error::invalid(format!("folder `{}` has no name", path.display()));
        let name = full.file_name().ok_or_else(named)?.to_string_lossy().into_owned();
        let files = listing::list(&full)?;
        let files = files.into_iter().map(|file| (file.name, Place { offset: 0, size: file.size }));
        Ok(Folder::of(name, files.collect(), Origin::Disk(full)))
    }

    pub(super) fn of(name: String, files: BTreeMap<String, Place>, origin: Origin) -> Self {
        Folder { inner: Arc::new(Inner { name, files, origin }) }
    }

    /// The folder of a tar file; in case of an error, why it is none. Blocks.
    pub(super) fn packed(file: File) -> Result<Self, String> {
        let (name, files) = packed::index(file.path())?;
        Ok(Folder::of(name, files, Origin::Packed(file, OnceCell::new())))
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// The name of the folder, without what is above it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The names of the files, in order; a `/` is between the parts of a name.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.inner.files.keys().map(String::as_str)
    }

    /// Read a file into memory.
    ///
    /// # Errors
    /// `NotFound`, with a hint where another name was meant; those of reading it.
    pub async fn read(&self, name: &str) -> Result<Bytes> {
        let place = *self.inner.files.get(name).ok_or_else(|| self.unknown(name))?;
        let (inner, name) = (self.inner.clone(), name.to_owned());
        blocking(move || {
            let read = match &inner.origin {
                Origin::Disk(path) => fs::read(path.join(&name)),
                Origin::Packed(file, _) => read_at(file, place),
            };
            read.map(Bytes::from).map_err(|error| inner.unreadable(&name, error))
        })
        .await
    }

    fn unknown(&self, name: &str) -> Error {
        let text = format!("folder `{}` has no file `{}`", self.name(), name.escape_debug());
        let error = Error::not_found(text);
        match crate::near::hint(name, self.names()) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// A folder on this machine with these files, which ends in [`name`](Folder::name).
    ///
    /// It is the folder itself where it was not loaded. A loaded one is unpacked into the folder
    /// for temporary files when it is first asked for; that copy goes away with the last clone of
    /// this value.
    ///
    /// # Errors
    /// `Store` where there is no room for the copy.
    pub async fn local_path(&self) -> Result<PathBuf> {
        let place = match &self.inner.origin {
            Origin::Disk(path) => return Ok(path.clone()),
            Origin::Packed(_, place) => place,
        };
        let unpack = async || {
            let inner = self.inner.clone();
            blocking(move || {
                let place = TempDir::with_prefix("superduper-").map_err(not_written)?;
                inner.write(&place.path().join(&inner.name))?;
                Ok(place)
            })
            .await
        };
        Ok(place.get_or_try_init(unpack).await?.path().join(self.name()))
    }

    /// Write the folder into another one, where it has its [`name`](Folder::name). Gives its path.
    ///
    /// # Guarantees
    /// It appears there as a whole or not at all.
    ///
    /// # Errors
    /// `InvalidInput` if something has that name already; `Store`.
    pub async fn extract(&self, into: impl Into<PathBuf>) -> Result<PathBuf> {
        let (inner, into) = (self.inner.clone(), into.into());
        blocking(move || {
            let path = into.join(&inner.name);
            if fs::symlink_metadata(&path).is_ok() {
                return Err(Error::invalid(format!("`{}` exists already", path.display())));
            }
            fs::create_dir_all(&into).map_err(not_written)?;
            let place = TempDir::with_prefix_in(".superduper-", &into).map_err(not_written)?;
            let draft = place.path().join(&inner.name);
            inner.write(&draft)?;
            fs::rename(&draft, &path).map_err(not_written)?;
            Ok(path)
        })
        .await
    }
}

impl Inner {
    fn unreadable(&self, name: &str, error: std::io::Error) -> Error {
        let text = format!("file `{name}` of folder `{}` cannot be read", self.name);
        Error::new(ErrorKind::InvalidInput, text).with_source(error)
    }

    /// Write all files into a folder that does not exist yet. Blocks.
    fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(not_written)?;
        for (name, place) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(not_written)?;
            let mut target = fs::File::create_new(&path).map_err(not_written)?;
            let unreadable = |error| self.unreadable(name, error);
            let mut source = match &self.origin {
                Origin::Disk(root) => fs::File::open(root.join(name)).map_err(unreadable)?,
                Origin::Packed(tar, _) => fs::File::open(tar.path()).map_err(unreadable)?,
            };
            source.seek(SeekFrom::Start(place.offset)).map_err(unreadable)?;
            let copied = std::io::copy(&mut source.take(place.size), &mut target);
            target.flush().map_err(not_written)?;
            if copied.map_err(not_written)? != place.size {
                return Err(self.unreadable(name, std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }
}

fn read_at(file: &File, place: Place) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(place.size).unwrap_or(usize::MAX)];
    let mut file = fs::File::open(file.path())?;
    file.seek(SeekFrom::Start(place.offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn not_written(error: std::io::Error) -> Error {
    Error::store("the files of a folder cannot be written").with_source(error)
}

/// Whether a text can be one part of a name, everywhere.
pub(super) fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() || part == "." || part == ".." {
        return Err("it does not name a file below the folder");
    }
    if part.contains(['\\', '/', '\0']) {
        return Err("a name of it has a character that no file name may have everywhere");
    }
    let mut parts = Path::new(part).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(()),
        _ => Err("it does not name a file below the folder"),
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folder({}, {} files)", self.name(), self.inner.files.len())
    }
}
