//! Opening a bundle: everything in it is read and checked before anything is done with it.
//!
//! Invariant: a [`Bundle`] is complete and consistent: each file has the digest that the manifest
//! tells, each reference leads to an earlier component or a listed blob, all of it belongs to the
//! root. Blobs alone are checked later, by [`Bundle::check_blobs`], since they are not held in
//! memory.

use super::{
    LONGEST, MANIFEST, blob_name, component_name,
    manifest::{ComponentDocument, Manifest, edited},
    marks::references,
    source::Source,
    tar::{refused, truncated},
};
use crate::{
    address::Address,
    digest::{Digest, Hasher},
    encode::{Singles, hash_body},
    error::{Error, ErrorKind, Result},
    store::{BlobRow, EdgeRow, OutputRow},
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

/// A bundle whose documents are verified.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) source: Source,
    /// Children before parents, the root last.
    pub(super) nodes: Vec<Node>,
    /// Sizes by digest.
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// Where components hold an `f32`, by `Kind/identifier`; known once their types have read them.
    pub(super) singles: HashMap<String, Singles>,
}

/// A component of a bundle.
#[derive(Debug)]
pub(super) struct Node {
    /// Kind, identifier, and the version as the bundle counts it.
    pub(super) address: Address,
    pub(super) type_version: u32,
    pub(super) uuid: Digest,
    pub(super) content_hash: Digest,
    pub(super) fields: Value,
    /// Places in the document, and the components there by index.
    pub(super) children: Vec<(String, usize)>,
    pub(super) blobs: Vec<BlobRow>,
    pub(super) outputs: Vec<OutputRow>,
}

impl Bundle {
    /// Read and check all but the blobs. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let (nodes, blobs) = Self::read(&source).map_err(|error| source.explain(error))?;
        let bundle = Bundle { source, nodes, blobs, singles: HashMap::new() };
        bundle.check_belonging()?;
        Ok(bundle)
    }

    fn read(source: &Source) -> Result<(Vec<Node>, BTreeMap<Digest, u64>)> {
        if source.size(MANIFEST).is_none() {
            return Err(Error::new(
                ErrorKind::Format,
                format!("it is not a bundle: there is no `{MANIFEST}`"),
            )
            .with_hint("give the folder or tar file that `db.export` wrote"));
        }
        let manifest = Manifest::read(&source.read(MANIFEST, LONGEST)?)?;
        let blobs = check_contents(source, &manifest)?;
        let mut nodes: Vec<Node> = Vec::with_capacity(manifest.components.len());
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut counts: HashMap<String, u32> = HashMap::new();
        let addresses: BTreeSet<String> =
            manifest.components.iter().map(|listed| listed.address.to_string()).collect();
        for listed in &manifest.components {
            let bytes = source.read(&listed.file, LONGEST)?;
            if Digest::of(&bytes) != listed.digest {
                return Err(edited(
                    &listed.file,
                    format_args!("its bytes do not have the digest {}", listed.digest),
                ));
            }
            let document = ComponentDocument::read(&bytes, &listed.file)?;
            let count = counts.entry(listed.address.path()).or_default();
            if document.address != listed.address
                || document.kind != listed.address.kind
                || listed.address != listed.address.at(*count)
            {
                return Err(inconsistent(format!(
                    "`{}` holds `{}` where `{}` is listed",
                    listed.file, document.address, listed.address
                )));
            }
            *count += 1;
            let inside =
                Inside { nodes: &nodes, places: &places, addresses: &addresses, blobs: &blobs };
            let node = inside
                .node(document)
                .map_err(|error| error.context(format_args!("`{}`", listed.file)))?;
            places.insert(listed.address.to_string(), nodes.len());
            nodes.push(node);
        }
        match nodes.last() {
            Some(root) if root.address == manifest.root => Ok((nodes, blobs)),
            _ => {
                Err(inconsistent(format!("the last component is not the root `{}`", manifest.root)))
            }
        }
    }

    /// All components and blobs belong to the root.
    fn check_belonging(&self) -> Result<()> {
        let mut used = vec![false; self.nodes.len()];
        if let Some(root) = used.last_mut() {
            *root = true;
        }
        let mut blobs: BTreeSet<Digest> = BTreeSet::new();
        // Parents come after children: one pass from the end meets each component after all that
        // hold it.
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if !used[index] {
                return Err(inconsistent(format!("nothing refers to `{}`", node.address)));
            }
            node.children.iter().for_each(|(_, child)| used[*child] = true);
            blobs.extend(
                node.blobs
                    .iter()
                    .chain(node.outputs.iter().flat_map(|output| &output.blobs))
                    .map(|blob| blob.digest),
            );
        }
        match self.blobs.keys().find(|digest| !blobs.contains(digest)) {
            Some(digest) => Err(inconsistent(format!("nothing refers to blob {digest}"))),
            None => Ok(()),
        }
    }

    /// Read all blobs and compare them with their digests. Blocks.
    pub(super) fn check_blobs(&self) -> Result<()> {
        self.compare_blobs().map_err(|error| self.source.explain(error))
    }

    fn compare_blobs(&self) -> Result<()> {
        for digest in self.blobs.keys() {
            let name = blob_name(*digest);
            let mut hasher = Hasher::new();
            for piece in self.source.chunks(&name)? {
                hasher.update(&piece?);
            }
            if hasher.finish() != *digest {
                return Err(edited(
                    &name,
                    format_args!("its bytes have the digest {}", hasher.finish()),
                ));
            }
        }
        Ok(())
    }

    /// The components that a component holds, directly or not, itself included.
    pub(super) fn below(&self, index: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut stack = vec![index];
        while let Some(index) = stack.pop() {
            if found.insert(index) {
                stack.extend(self.nodes[index].children.iter().map(|(_, child)| *child));
            }
        }
        found
    }
}

/// The files there are those of the manifest, with the sizes that it tells; the answer is the
/// blobs.
fn check_contents(source: &Source, manifest: &Manifest) -> Result<BTreeMap<Digest, u64>> {
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut addresses = BTreeSet::new();
    for (index, listed) in manifest.components.iter().enumerate() {
        if listed.file != component_name(index) {
            return Err(inconsistent(format!(
                "component {index} is listed in `{}`",
                listed.file.escape_debug()
            )));
        }
        if !addresses.insert(&listed.address) {
            return Err(inconsistent(format!("`{}` is listed twice", listed.address)));
        }
        expected.insert(listed.file.clone(), listed.size);
    }
    let mut blobs = BTreeMap::new();
    for blob in &manifest.blobs {
        if blobs.insert(blob.digest, blob.size).is_some() {
            return Err(inconsistent(format!("blob {} is listed twice", blob.digest)));
        }
        expected.insert(blob_name(blob.digest), blob.size);
    }
    for (name, size) in source.files().filter(|(name, _)| *name != MANIFEST) {
        match expected.remove(name) {
            Some(listed) if listed == size => {}
            Some(listed) => {
                return Err(edited(name, format_args!("it has {size} bytes instead of {listed}")));
            }
            None => return Err(refused(name, "the bundle does not list it")),
        }
    }
    match expected.keys().next() {
        Some(missing) => Err(truncated(format!("`{missing}` is missing"))),
        None => Ok(blobs),
    }
}

/// What a component of a bundle may refer to.
struct Inside<'a> {
    /// The components that come before it.
    nodes: &'a [Node],
    /// Their places, by address.
    places: &'a HashMap<String, usize>,
    /// The addresses of all components, also of those that come later.
    addresses: &'a BTreeSet<String>,
    /// Sizes by digest.
    blobs: &'a BTreeMap<Digest, u64>,
}

impl Inside<'_> {
    /// Check a component: all that it refers to is inside, and its content has the hash that it
    /// tells.
    fn node(&self, document: ComponentDocument) -> Result<Node> {
        let ComponentDocument { address, version, uuid, content_hash, fields, outputs, .. } =
            document;
        if !fields.is_object() {
            return Err(inconsistent(format!("the fields of `{address}` are no object")));
        }
        let found = references(&fields)?;
        let children = self.children(&address, found.children)?;
        let outputs = output_rows(&address, outputs)?;
        for blob in found.blobs.iter().chain(outputs.iter().flat_map(|output| &output.blobs)) {
            self.check_blob(&address, blob)?;
        }
        let child = |text: &str| self.places.get(text).map(|place| self.nodes[*place].content_hash);
        if hash_body((&address.kind, &address.identifier), &fields, |_| true, child, true)
            != content_hash
        {
            return Err(inconsistent(format!(
                "the content of `{address}` does not have the hash that it tells"
            )));
        }
        Ok(Node {
            address,
            type_version: version,
            uuid,
            content_hash,
            fields,
            children,
            blobs: found.blobs,
            outputs,
        })
    }

    /// The places in a document that refer to components, with those components by index.
    fn children(&self, address: &Address, edges: Vec<EdgeRow>) -> Result<Vec<(String, usize)>> {
        let mut children = Vec::with_capacity(edges.len());
        for edge in edges {
            let text = edge.child.to_string();
            match self.places.get(&text) {
                Some(place) => children.push((edge.path, *place)),
                None if self.addresses.contains(&text) => {
                    return Err(inconsistent(format!(
                        "`{address}` refers to `{text}` at `{}`, which does not come before it: components cannot hold each other in a circle",
                        edge.path
                    )));
                }
                None => {
                    return Err(inconsistent(format!(
                        "`{address}` refers to `{text}` at `{}`, which is not inside",
                        edge.path
                    )));
                }
            }
        }
        Ok(children)
    }

    /// A blob is listed, with the size that the component says.
    fn check_blob(&self, address: &Address, blob: &BlobRow) -> Result<()> {
        match self.blobs.get(&blob.digest) {
            Some(size) if *size == blob.size => Ok(()),
            Some(size) => Err(inconsistent(format!(
                "blob {} has {size} bytes, `{address}` says {}",
                blob.digest, blob.size
            ))),
            None => Err(inconsistent(format!(
                "`{address}` refers to blob {}, which is not inside",
                blob.digest
            ))),
        }
    }
}

/// The rows of a component's outputs, as a job writes them.
fn output_rows(address: &Address, outputs: Map<String, Value>) -> Result<Vec<OutputRow>> {
    let mut rows = Vec::with_capacity(outputs.len());
    for (name, value) in outputs {
        let found =
            references(&value).map_err(|error| error.context(format_args!("output `{name}`")))?;
        if let Some(edge) = found.children.first() {
            return Err(inconsistent(format!(
                "output `{name}` of `{address}` refers to the component `{}`",
                edge.child
            )));
        }
        let mut blobs = found.blobs;
        blobs.iter_mut().enumerate().for_each(|(index, row)| row.path = format!("{name}[{index}]"));
        rows.push(OutputRow { name, value, blobs });
    }
    Ok(rows)
}

fn inconsistent(what: String) -> Error {
    Error::integrity(what).with_hint("this is not as superduper wrote it; export it again")
}
