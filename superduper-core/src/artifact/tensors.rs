//! A map of named tensors: a safetensors file, read tensor by tensor.
//!
//! Invariant: the bytes of a loaded tensor are given out only after they were verified, alone, by
//! the digest that the reference has of them.

use super::{
    Blob, BlobSource, Bytes, Hashed, StoredBlob,
    blob::pieces,
    dtype::{Dtype, Element, TensorData, TensorInfo},
    handle::{CHUNK, blocking},
    layout::{Layout, PREFIX},
    ranges::{self, RangeHasher, TreeHasher},
};
use crate::{
    artifact::contract::Chunks,
    digest::Digest,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, iter, ops::Range, sync::Arc};

/// Named tensors, stored as one safetensors file.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::Tensors;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let weights = Tensors::new().with("weight", &[2, 3], &[0.5_f32; 6])?.with("bias", &[2], &[0.0_f32, 1.0])?;
/// assert_eq!(weights.to_vec::<f32>("bias").await?, [0.0, 1.0]);
/// # Ok::<(), superduper::Error>(()) }).unwrap();
/// ```
///
/// # Guarantees
/// The file is the one that the safetensors packages write for the same tensors. Loading reads its
/// header; a tensor is read when asked for, alone, with one copy, and verified. Equal tensors give
/// an equal file.
#[derive(Clone, Default)]
pub struct Tensors {
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Entry {
    info: TensorInfo,
    data: Data,
}

#[derive(Clone)]
enum Data {
    Memory(Bytes),
    Stored { blob: Arc<StoredBlob>, range: Range<u64>, digest: Digest },
}

impl Tensors {
    /// No tensors.
    pub fn new() -> Self {
        Tensors::default()
    }

    /// Add a tensor of numbers, row by row; one of the same name is replaced.
    ///
    /// # Errors
    /// `InvalidInput` where the shape asks for another number of elements.
    pub fn with<E: Element>(
        self,
        name: impl Into<String>,
        shape: &[usize],
        values: &[E],
    ) -> Result<Self> {
        self.with_bytes(name, E::DTYPE, shape, E::write(values))
    }

    /// Add a tensor of bytes: the elements row by row, little-endian.
    ///
    /// # Errors
    /// As [`insert`](Tensors::insert).
    pub fn with_bytes(
        mut self,
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        bytes: impl Into<Bytes>,
    ) -> Result<Self> {
        let info = TensorInfo { dtype, shape: shape.to_vec() };
        self.insert(name, TensorData { info, bytes: bytes.into() })?;
        Ok(self)
    }

    /// Add a text to the header.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Add or replace a tensor.
    ///
    /// # Errors
    /// `InvalidInput` where type and shape ask for another number of bytes, and for the name
    /// `__metadata__`.
    pub fn insert(&mut self, name: impl Into<String>, tensor: TensorData) -> Result<()> {
        let name = name.into();
        if name == "__metadata__" {
            return Err(Error::invalid("no tensor can be named `__metadata__`")
                .with_hint("add texts by `with_metadata`"));
        }
        match tensor.info.size() {
            Some(size) if size == tensor.bytes.len() => {}
            Some(size) => {
                let found = tensor.bytes.len();
                return Err(Error::invalid(format!(
                    "tensor `{name}`, {}, needs {size} bytes, not {found}",
                    tensor.info
                )));
            }
            None => {
                return Err(Error::invalid(format!(
                    "the size of tensor `{name}`, {}, is no number of bytes",
                    tensor.info
                )));
            }
        }
        self.entries.insert(name, Entry { info: tensor.info, data: Data::Memory(tensor.bytes) });
        Ok(())
    }

    /// Take a tensor out; says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.entries.remove(name).is_some()
    }

    /// Read a safetensors file that is in memory; the tensors share its bytes.
    ///
    /// # Errors
    /// `Decode` for bytes that are no safetensors file.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        let bad = |what: String| {
            Error::new(ErrorKind::Decode, format!("the bytes are no safetensors file: {what}"))
        };
        let prefix = &bytes[..bytes.len().min(PREFIX as usize)];
        let header = Layout::header_length(prefix, size).map_err(bad)? as usize;
        let layout = Layout::parse(&bytes[PREFIX as usize..header], size).map_err(bad)?;
        let entries = layout.places.into_iter().map(|place| {
            let part = bytes.slice(place.range.start as usize..place.range.end as usize);
            (place.name, Entry { info: place.info, data: Data::Memory(part) })
        });
        Ok(Tensors { entries: entries.collect(), metadata: layout.metadata })
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Type and shape of a tensor, known without reading it.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.entries.get(name).map(|entry| &entry.info)
    }

    /// The texts of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Read one tensor.
    ///
    /// # Errors
    /// `NotFound` for a name that is not there; `Integrity` for bytes that are missing or not those
    /// that were saved.
    pub async fn get(&self, name: &str) -> Result<TensorData> {
        let Some(entry) = self.entries.get(name) else {
            let some: Vec<_> = self.names().take(8).collect();
            let more = if self.len() > some.len() { ", …" } else { "" };
            return Err(Error::not_found(format!("there is no tensor `{name}`"))
                .with_hint(format!("there are {}{more}", some.join(", "))));
        };
        let bytes = match &entry.data {
            Data::Memory(bytes) => bytes.clone(),
            Data::Stored { blob, range, digest } => {
                let bytes = blob
                    .read_range(range.clone())
                    .await
                    .map_err(|error| error.context(format_args!("tensor `{name}`")))?;
                verified(blob, range.clone(), *digest, bytes, &format!("tensor `{name}`")).await?
            }
        };
        Ok(TensorData { info: entry.info.clone(), bytes })
    }

    /// Read one tensor as numbers.
    ///
    /// # Errors
    /// As [`get`](Tensors::get); `InvalidInput` where the elements are of another type.
    pub async fn to_vec<E: Element>(&self, name: &str) -> Result<Vec<E>> {
        self.get(name)
            .await?
            .to_vec()
            .map_err(|error| error.context(format_args!("tensor `{name}`")))
    }

    fn layout(&self) -> Result<(Layout, Vec<u8>)> {
        let tensors = self.entries.iter().map(|(name, entry)| (name, &entry.info));
        Layout::of(tensors, &self.metadata).map_err(|what| Error::new(ErrorKind::Encode, what))
    }
}

impl fmt::Debug for Tensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.entries
                    .iter()
                    .map(|(name, entry)| (name, format_args!("{}", entry.info).to_string())),
            )
            .finish()
    }
}

/// Check a part of a blob; large ones on a thread that may block.
async fn verified(
    blob: &StoredBlob,
    range: Range<u64>,
    digest: Digest,
    bytes: Bytes,
    what: &str,
) -> Result<Bytes> {
    const INLINE: usize = 64 * 1024;
    let total = blob.size();
    let (found, bytes) = if bytes.len() <= INLINE {
        (RangeHasher::digest(range, total, &bytes), bytes)
    } else {
        blocking(move || Ok((RangeHasher::digest(range, total, &bytes), bytes))).await?
    };
    if found == digest {
        Ok(bytes)
    } else {
        Err(blob.corrupted(format_args!("{what} has other bytes than were saved")))
    }
}

/// The extra member of a reference: the digests of the header and of each tensor, in file order.
pub(crate) const TENSORS: &str = "tensors";

/// Hash a safetensors file and each of its tensors in one pass.
pub(super) fn hash_tensors(layout: &Layout, chunks: Chunks) -> Result<Hashed> {
    let mut hasher = TreeHasher::new(layout.ranges());
    for chunk in chunks {
        hasher.update(&chunk?);
    }
    let (digest, ranges) = hasher.finish().ok_or_else(|| {
        Error::new(
            ErrorKind::Encode,
            "the tensors have other lengths than their types and shapes say",
        )
    })?;
    Ok(ranges::hashed(TENSORS, layout.size, digest, &ranges))
}

impl BlobSource for Tensors {
    fn chunks(&self) -> Result<Chunks> {
        let (layout, header) = self.layout()?;
        let entries: Vec<(String, u64, Entry)> = layout
            .places
            .into_iter()
            .filter_map(|place| {
                self.entries
                    .get(&place.name)
                    .map(|entry| (place.name, place.range.start, entry.clone()))
            })
            .collect();
        let runtime = tokio::runtime::Handle::try_current().ok();
        let tensors = entries.into_iter().flat_map(
            move |(name, at, entry)| -> Box<dyn Iterator<Item = Result<Bytes>> + Send> {
                match (entry.data.clone(), &runtime) {
                    (Data::Memory(bytes), _) => Box::new(pieces(bytes, at).map(Ok)),
                    // A loaded tensor that is saved again, in another map: it is read and verified on
                    // the way.
                    (Data::Stored { .. }, Some(runtime)) => {
                        let one = Tensors {
                            entries: BTreeMap::from([(name.clone(), entry)]),
                            metadata: BTreeMap::new(),
                        };
                        match runtime.block_on(one.get(&name)) {
                            Ok(tensor) => Box::new(pieces(tensor.bytes, at).map(Ok)),
                            Err(error) => Box::new(iter::once(Err(error))),
                        }
                    }
                    (Data::Stored { .. }, None) => Box::new(iter::once(Err(Error::internal(
                        format!("loaded tensor `{name}` is saved outside of the runtime"),
                    )))),
                }
            },
        );
        Ok(Box::new(iter::once(Ok(header.into())).chain(tensors)))
    }

    fn hash(&self) -> Result<Hashed> {
        hash_tensors(&self.layout()?.0, self.chunks()?)
    }

    /// In memory they are, and loaded ones are verified when they are read.
    fn is_immutable(&self) -> bool {
        true
    }
}

impl Blob for Tensors {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        value
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(open(blob))
    }
}

async fn open(blob: StoredBlob) -> Result<Tensors> {
    blob.check_size().await?;
    let size = blob.size();
    let known = digests(&blob);
    let prefix = blob.read_range(0..PREFIX.min(size)).await?;
    let length = match Layout::header_length(&prefix, size) {
        Ok(length) => length,
        // Its digest can be checked only where its length is known: ask the whole blob.
        Err(what) => return Err(blame(&blob, what).await),
    };
    let header = blob.read_range(0..length).await?;
    let header = match known.as_ref().and_then(|known| known.first()) {
        Some(digest) => verified(&blob, 0..length, *digest, header, "the header").await?,
        None => header,
    };
    let layout = match Layout::parse(&header[PREFIX as usize..], size) {
        Ok(layout) => layout,
        Err(what) => return Err(blame(&blob, what).await),
    };
    let digests = match known.filter(|known| known.len() == layout.places.len() + 1) {
        Some(known) => known,
        None => hash_stored(&blob, layout.ranges()).await?,
    };
    let blob = Arc::new(blob);
    let entries =
        layout.places.into_iter().zip(digests.into_iter().skip(1)).map(|(place, digest)| {
            let data = Data::Stored { blob: blob.clone(), range: place.range, digest };
            (place.name, Entry { info: place.info, data })
        });
    Ok(Tensors { entries: entries.collect(), metadata: layout.metadata })
}

/// The digests of header and tensors, if the blob was saved as tensors.
fn digests(blob: &StoredBlob) -> Option<Vec<Digest>> {
    let Some(Value::Array(list)) = blob.extra(TENSORS) else { return None };
    list.iter().map(|digest| Digest::from_hex(digest.as_str()?).ok()).collect()
}

/// Verify a blob that was saved as bytes or as a file, and take the digests of its tensors on the
/// way.
async fn hash_stored(blob: &StoredBlob, ranges: Vec<Range<u64>>) -> Result<Vec<Digest>> {
    let mut hasher = TreeHasher::new(ranges);
    let mut at = 0;
    while at < blob.size() {
        let end = blob.size().min(at + CHUNK);
        let chunk = blob.read_range(at..end).await?;
        hasher = blocking(move || {
            hasher.update(&chunk);
            Ok(hasher)
        })
        .await?;
        at = end;
    }
    let (digest, digests) =
        hasher.finish().ok_or_else(|| Error::internal("a layout of another size than its blob"))?;
    blob.check_digest(digest)?;
    Ok(digests)
}

/// Find out whether a header that makes no sense was damaged, or saved like this.
async fn blame(blob: &StoredBlob, what: String) -> Error {
    match blob.copy_to(std::io::sink()).await {
        Ok(_) => blob.malformed(what),
        Err(error) => error,
    }
}
