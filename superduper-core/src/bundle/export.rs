//! Exporting: a component with all it holds becomes a folder or a tar file.

use super::{
    FORMAT, LONGEST, MANIFEST, blob_name, component_name,
    manifest::{ComponentDocument, ListedBlob, ListedComponent, Manifest},
    marks::{references, rename_children},
    order::order,
    target::Target,
};
use crate::{
    address::Address,
    artifact::{CHUNK, blocking},
    db::Db,
    digest::{Digest, Hasher},
    encode::hash_body,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    json::check_readable,
    locator::Locator,
    store::{ArtifactStore, StoredVersion},
};
use std::{
    collections::{BTreeMap, HashMap},
    future::IntoFuture,
    path::PathBuf,
    sync::Arc,
};

/// An export under construction; await it.
#[must_use = "an export does nothing until it is awaited"]
pub struct Export {
    db: Db,
    target: Result<Locator>,
    path: PathBuf,
    replace: bool,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Kind, identifier, version and revision of what was exported.
    pub address: Address,
    /// How many components, the children counted once each.
    pub components: usize,
    /// How many blobs.
    pub blobs: usize,
    /// The bytes of documents and blobs together.
    pub bytes: u64,
    /// The digest of the whole bundle: equal digests are equal bundles.
    pub digest: Digest,
}

impl Db {
    /// Write a component, with all it holds, its outputs and their blobs, into a bundle: a tar file
    /// where the path ends in `.tar`, else a folder. [`Db::import`] reads it in another database.
    ///
    /// The target may name a version or a revision, or a label, `Kind/id@prod`; the newest where it
    /// names none.
    ///
    /// # Guarantees
    /// - Equal content gives equal bytes, whichever database it comes from and whenever. Versions
    ///   are therefore counted inside of the bundle: a single one is `@0`, whatever its number
    ///   here.
    /// - The bundle appears under its name when it is complete and on disk, or not at all.
    /// - Blobs are verified on the way, and memory does not grow with them.
    ///
    /// Jobs, logs and older versions stay here; of secrets the reference is exported, as it is
    /// stored.
    ///
    /// # Errors
    /// `NotFound`; `Integrity` for a blob that is missing or damaged, naming its field;
    /// `InvalidInput` where the path is taken; `Store`.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::prelude::*;
    ///
    /// # async fn example(db: &Db, other: &Db) -> Result<()> {
    /// let exported = db.export("my_crate.Model/m", "model.tar").await?;
    /// println!("{} components, {} blobs, {}", exported.components, exported.blobs, exported.digest);
    ///
    /// println!("{}", other.plan_import("model.tar").await?);
    /// other.import("model.tar").await?;
    /// # Ok(()) }
    /// ```
    pub fn export(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        path: impl Into<PathBuf>,
    ) -> Export {
        Export {
            db: self.clone(),
            target: target.try_into().map_err(Into::into),
            path: path.into(),
            replace: false,
        }
    }
}

impl Export {
    /// Replace the bundle that is there, of the same form. A tar file is replaced in one step. So is a
    /// folder, on a file system that can exchange two names (most of those of Linux). Elsewhere a
    /// crash between two renames leaves the old folder in a hidden one beside. A file or folder that
    /// is not a bundle is never replaced.
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    async fn run(self) -> Result<Exported> {
        let Export { db, target, path, replace } = self;
        let address = db.resolve(target?).await?;
        let tree = db.inner().metadata.tree(address.clone()).await?;
        if tree.is_empty() {
            return Err(db.not_found(&address.kind, &address.to_string()).await);
        }
        let place = format!("export to `{}`", path.display());
        let exporting = async {
            let (packed, mut target) = blocking(move || {
                let packed = pack(tree)?;
                let mut target = Target::begin(&path, replace)?;
                target.file(MANIFEST, &packed.manifest)?;
                packed
                    .documents
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, text)| target.file(&component_name(index), text))?;
                Ok((packed, target))
            })
            .await?;
            let store = db.inner().artifacts.clone();
            for (digest, blob) in &packed.blobs {
                target = copy(&store, target, *digest, blob).await?;
            }
            blocking(move || target.publish()).await?;
            let sum: u64 = packed
                .documents
                .iter()
                .map(|text| text.len() as u64)
                .chain(packed.blobs.values().map(|blob| blob.size))
                .sum();
            Ok(Exported {
                address: packed.address,
                components: packed.documents.len(),
                blobs: packed.blobs.len(),
                bytes: sum,
                digest: packed.digest,
            })
        };
        exporting.await.map_err(|error: Error| error.context(place))
    }
}

impl IntoFuture for Export {
    type Output = Result<Exported>;
    type IntoFuture = BoxFuture<'static, Result<Exported>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A blob with the place that names it first.
struct Named {
    size: u64,
    owner: String,
}

struct Packed {
    address: Address,
    manifest: Vec<u8>,
    digest: Digest,
    documents: Vec<Vec<u8>>,
    blobs: BTreeMap<Digest, Named>,
}

/// The JSON files of a bundle, from a tree whose root comes first.
fn pack(tree: Vec<StoredVersion>) -> Result<Packed> {
    let address = tree
        .first()
        .map(|root| root.address.clone())
        .ok_or_else(|| Error::internal("an empty tree is exported"))?;
    let order = order(&tree)?;
    let mut packer = Packer::default();
    let mut rows: Vec<Option<StoredVersion>> = tree.into_iter().map(Some).collect();
    for place in order {
        let Some(stored) = rows.get_mut(place).and_then(Option::take) else { continue };
        packer.add(stored)?;
    }
    packer.finish(address)
}

/// The documents of a bundle so far.
#[derive(Default)]
struct Packer {
    /// How many versions of each component are in it.
    counts: HashMap<String, u32>,
    /// The reference to each version, as it is stored here, and its address and content hash in the
    /// bundle.
    names: HashMap<String, (Address, Digest)>,
    blobs: BTreeMap<Digest, Named>,
    documents: Vec<Vec<u8>>,
    listed: Vec<ListedComponent>,
}

impl Packer {
    /// Add a component; those that it holds come before it.
    fn add(&mut self, stored: StoredVersion) -> Result<()> {
        gather_blobs(&stored, &mut self.blobs)?;
        let (stored_at, version) = (stored.address.clone(), stored.version());
        let document = self.document(stored);
        let (address, content_hash) = (document.address.clone(), document.content_hash);
        let text = document.write()?;
        if text.len() as u64 > LONGEST {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the document of `{stored_at}` has {} bytes, more than the {LONGEST} of a bundle",
                    text.len()
                ),
            )
            .with_hint("hold large data as an `Artifact`, outside of the document"));
        }
        self.listed.push(ListedComponent {
            address: address.clone(),
            digest: Digest::of(&text),
            file: component_name(self.documents.len()),
            size: text.len() as u64,
        });
        self.documents.push(text);
        self.names.insert(stored_at.at(version).to_string(), (address, content_hash));
        Ok(())
    }

    /// The document of a component, with the versions that the bundle counts.
    fn document(&mut self, stored: StoredVersion) -> ComponentDocument {
        let count = self.counts.entry(stored.address.path()).or_default();
        let address = stored.address.at(*count);
        *count += 1;
        let mut fields = stored.document;
        // What is on record is from when the version was applied; children may have got revisions
        // since.
        let child = |text: &str| self.names.get(text).map(|(_, hash)| *hash);
        let content_hash =
            hash_body((&address.kind, &address.identifier), &fields, |_| true, child, true);
        rename_children(&mut fields, &|text| {
            self.names.get(text).map(|(address, _)| address.to_string())
        });
        ComponentDocument {
            format: FORMAT,
            kind: address.kind.clone(),
            version: stored.type_version,
            address,
            uuid: stored.uuid,
            content_hash,
            fields,
            outputs: stored.outputs,
        }
    }

    /// Write the manifest; `address` is the root as it is stored here.
    fn finish(self, address: Address) -> Result<Packed> {
        let Packer { blobs, documents, listed, .. } = self;
        let root = listed
            .last()
            .map(|root| root.address.clone())
            .ok_or_else(|| Error::internal("an empty tree is exported"))?;
        let listed_blobs = blobs
            .iter()
            .map(|(digest, blob)| ListedBlob { digest: *digest, size: blob.size })
            .collect();
        let (manifest, digest) = Manifest {
            format: FORMAT,
            root,
            components: listed,
            blobs: listed_blobs,
            digest: None,
        }
        .write()?;
        Ok(Packed { address, manifest, digest, documents, blobs })
    }
}

fn gather_blobs(stored: &StoredVersion, blobs: &mut BTreeMap<Digest, Named>) -> Result<()> {
    let mut add = |field: Option<&str>, value: &serde_json::Value| -> Result<()> {
        let found = references(value)
            .map_err(|error| error.context(format_args!("`{}`", stored.address)))?;
        for blob in found.blobs {
            let place = match field {
                Some(output) => format!("output `{output}`"),
                None => format!("field `{}`", blob.path),
            };
            let owner = format!("`{}` ({place})", stored.address);
            let known = blobs.entry(blob.digest).or_insert(Named { size: blob.size, owner });
            if known.size != blob.size {
                return Err(Error::integrity(format!(
                    "blob {} has {} bytes in {} and {} in `{}`",
                    blob.digest, known.size, known.owner, blob.size, stored.address
                )));
            }
        }
        Ok(())
    };
    add(
        None,
        check_readable(&stored.document, format_args!("the document of `{}`", stored.address))?,
    )?;
    stored.outputs.iter().try_for_each(|(name, value)| {
        add(
            Some(name),
            check_readable(value, format_args!("output `{name}` of `{}`", stored.address))?,
        )
    })
}

/// Stream a blob from its store into the bundle, and verify it.
async fn copy(
    store: &Arc<dyn ArtifactStore>,
    mut target: Target,
    digest: Digest,
    blob: &Named,
) -> Result<Target> {
    let damaged = |what: String| {
        Error::integrity(format!("blob {digest} of {} {what}", blob.owner))
            .with_hint("`db.verify()` finds all such blobs; restore them first")
    };
    match store.size(digest).await? {
        None => return Err(damaged("is missing".to_owned())),
        Some(size) if size != blob.size => {
            return Err(damaged(format!("has {size} bytes instead of {}", blob.size)));
        }
        Some(_) => {}
    }
    let size = blob.size;
    target = blocking(move || target.start(&blob_name(digest), size).map(|()| target)).await?;
    let mut hasher = Hasher::new();
    let mut at = 0;
    while at < size {
        let end = size.min(at + CHUNK);
        let chunk = store.get_range(digest, at..end).await?;
        (target, hasher) = blocking(move || {
            hasher.update(&chunk);
            target.write(&chunk)?;
            Ok((target, hasher))
        })
        .await?;
        at = end;
    }
    if hasher.finish() != digest {
        return Err(damaged(format!("is damaged: its bytes have the digest {}", hasher.finish())));
    }
    blocking(move || target.end().map(|()| target)).await
}
