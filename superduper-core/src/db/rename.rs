//! Giving a component another name without making it anew.
//!
//! Documents name children by kind and identifier: those of the component itself and of all that
//! hold it are written again, with their hashes, in the commit that renames it. No version or
//! revision is made and no hook runs.

use super::{Db, DbInner, Retry};
use crate::{
    address::Address,
    digest::Digest,
    encode::{hashes, mark_of},
    error::{Error, Result},
    json::check_readable,
    locator::Locator,
    store::{Batch, Expect, Op, StoredVersion, Timestamp, being_removed},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

impl Db {
    /// Give a component another identifier: `db.rename("acme.Model/churn", "acme.Model/churn-eu")`;
    /// or another kind, where the type of the new kind has the old one as an `alias`.
    ///
    /// Versions, revisions, outputs, labels, jobs and runs stay with it, and what holds it names it
    /// anew; uuids and content hashes, which count the name, change. Gives the stored versions
    /// whose documents were written again.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where the new name is taken or a run of the component, or of one that
    /// holds it, is unfinished; `InvalidInput` for a kind of another type; `UnknownKind`; `Store`.
    pub async fn rename(
        &self,
        from: impl TryInto<Locator, Error = impl Into<Error>>,
        to: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Vec<Address>> {
        let (from, to) = (from.try_into().map_err(Into::into)?, to.try_into().map_err(Into::into)?);
        if let Some(labelled) = [&from, &to].into_iter().find(|locator| locator.label.is_some()) {
            return Err(Error::invalid(format!(
                "`{labelled}` names a version, but all of them are renamed"
            ))
            .with_hint(format!("write `{}`", labelled.address.path())));
        }
        let (from, to) = (self.resolve(from).await?, self.resolve(to).await?);
        if let Some(versioned) = [&from, &to].into_iter().find(|address| address.version.is_some())
        {
            return Err(Error::invalid(format!(
                "`{versioned}` names a version, but all of them are renamed"
            ))
            .with_hint(format!("write `{}`", versioned.path())));
        }
        let db = self.inner();
        db.check_writable("rename")?;
        let entry = db.registry.entry(&to.kind)?;
        if from.kind != to.kind
            && !(entry.kind == to.kind && entry.spec.aliases.contains(&from.kind.as_str()))
        {
            return Err(Error::invalid(format!(
                "`{}` cannot become a `{}`: they are different types",
                from.path(),
                to.kind
            ))
            .with_hint(format!(
                "the type of `{}` must say `#[component(alias = \"{}\")]`",
                to.kind, from.kind
            )));
        }
        let mut retry = Retry::new(format!("renaming `{}`", from.path()));
        loop {
            let (mut batch, written) = plan(db, &from, &to).await?;
            let seen = batch.expect.clone();
            batch.ops.extend(self.audit("rename", format_args!("{from} to {to}")));
            match db.commit_once(batch).await {
                Ok(_) => {
                    db.committed();
                    return Ok(written);
                }
                Err(refused) => retry.again(db, refused, seen, &[]).await?,
            }
        }
    }
}

/// The commit that renames the component and all references to it, and the revisions that the
/// commit writes.
async fn plan(db: &Arc<DbInner>, from: &Address, to: &Address) -> Result<(Batch, Vec<Address>)> {
    let own = db.metadata.versions(from.clone()).await?;
    let Some(newest) = own.last() else {
        return Err(Error::not_found(format!("no component `{from}`")));
    };
    if newest.removing {
        return Err(being_removed(&newest.address.at(newest.version())));
    }
    if !db.metadata.versions(to.clone()).await?.is_empty() {
        return Err(Error::conflict(format!("`{to}` exists already"))
            .with_hint("choose another name, or remove that one first"));
    }
    let affected = Affected::of(db, from, own).await?;
    let mut expect = vec![Expect::Newest { address: to.clone(), state: None }];
    for (path, newest) in &affected.newest {
        let address: Address = path.parse()?;
        expect.push(Expect::Newest { address: address.clone(), state: Some(*newest) });
        expect.push(Expect::NoRun { address, but: None });
    }
    let at = Timestamp::now();
    let renaming = Renaming { db, from, to };
    let written: Vec<Address> =
        affected.rewritten.iter().map(|(address, _)| renaming.name(address)).collect();
    for (address, stored) in &affected.rewritten {
        // Written again it would be lost for good.
        check_readable(
            &stored.document,
            format_args!("the document of `{address}`, which names `{from}`"),
        )?;
    }
    let rewrites = affected.hashed(&renaming);
    let mut ops: Vec<Op> = rewrites
        .into_iter()
        .map(|(address, document, (uuid, content_hash))| Op::Rewrite {
            address,
            document,
            uuid,
            content_hash,
        })
        .collect();
    ops.push(Op::Rename { from: from.clone(), to: to.clone(), at });
    Ok((Batch { expect, ops }, written))
}

/// One renaming, from one address to another.
struct Renaming<'a> {
    db: &'a Arc<DbInner>,
    from: &'a Address,
    to: &'a Address,
}

impl Renaming<'_> {
    /// The name that a component has afterwards.
    fn name(&self, address: &Address) -> Address {
        if address.path() == self.from.path() {
            Address { version: address.version, ..self.to.clone() }
        } else {
            address.clone()
        }
    }

    /// A stored document with the new name in it, and its uuid and content hash; `known` has those
    /// of its children, by reference.
    fn rewrite(
        &self,
        address: &Address,
        stored: StoredVersion,
        known: &HashMap<String, (Digest, Digest)>,
    ) -> (Value, (Digest, Digest)) {
        let mut document = stored.document;
        let entry = self.db.registry.entry(&address.kind);
        if address.path() == self.from.path()
            && let Ok(entry) = entry
            && let Some(identifier) = document.get_mut(entry.spec.identifier)
        {
            *identifier = Value::String(self.to.identifier.clone());
        }
        rename_references(&mut document, &self.from.path(), &self.to.path());
        let hashes = match entry {
            Ok(entry) => {
                let name = self.name(address);
                let child = |text: &str| known.get(text).copied();
                hashes(&name.kind, &name.identifier, entry.spec.fields, &document, &child)
            }
            // Without its type nobody knows which fields are breaking; the hashes of before stay.
            Err(_) => (stored.uuid, stored.content_hash),
        };
        (document, hashes)
    }
}

/// The stored revisions that name the component, or hold one that does.
struct Affected {
    /// All of them, children before what holds them at their newest revisions.
    rewritten: Vec<(Address, StoredVersion)>,
    /// The newest version and revision of each of their components, by path.
    newest: BTreeMap<String, (u32, u32, bool)>,
    /// Uuid and content hash of children that stay as they are, by reference.
    others: HashMap<String, (Digest, Digest)>,
}

impl Affected {
    async fn of(db: &Arc<DbInner>, from: &Address, own: Vec<StoredVersion>) -> Result<Self> {
        let mut affected =
            Affected { rewritten: Vec::new(), newest: BTreeMap::new(), others: HashMap::new() };
        let mut seen = BTreeSet::new();
        for stored in &own {
            for revision in 0..=stored.revision() {
                let address =
                    Address { version: Some((stored.version(), revision).into()), ..from.clone() };
                seen.insert(address.to_string());
                affected.add(db, address).await?;
            }
        }
        affected.note_newest(from, &own);
        // Who refers to them, and who refers to those, until there is nobody left.
        let mut level = vec![from.clone()];
        while !level.is_empty() {
            let mut next = Vec::new();
            for reference in db.metadata.referrers(level).await? {
                if seen.insert(reference.parent.to_string()) {
                    affected.add(db, reference.parent.clone()).await?;
                    let parent = reference.parent.unversioned();
                    if !affected.newest.contains_key(&parent.path()) {
                        let versions = db.metadata.versions(parent.clone()).await?;
                        affected.note_newest(&parent, &versions);
                        next.push(parent);
                    }
                }
            }
            level = next;
        }
        Ok(affected)
    }

    async fn add(&mut self, db: &Arc<DbInner>, address: Address) -> Result<()> {
        // A superseded revision may be gone; what it referred to went.
        let mut tree = db.metadata.tree(address.clone()).await?.into_iter();
        let Some(stored) = tree.next() else { return Ok(()) };
        for child in tree {
            self.others.insert(
                child.address.at(child.version()).to_string(),
                (child.uuid, child.content_hash),
            );
        }
        self.rewritten.push((address, stored));
        Ok(())
    }

    fn note_newest(&mut self, address: &Address, versions: &[StoredVersion]) {
        if let Some(newest) = versions.last() {
            self.newest
                .insert(address.path(), (newest.version(), newest.revision(), newest.removing));
        }
    }

    /// The documents with the new name in them, and their hashes.
    fn hashed(self, renaming: &Renaming<'_>) -> Vec<(Address, Value, (Digest, Digest))> {
        let Affected { rewritten, others, .. } = self;
        let mut known = others;
        let mut done = Vec::with_capacity(rewritten.len());
        // Children come first: a document waits while one that it refers to is still in the list.
        let mut waiting = rewritten;
        while !waiting.is_empty() {
            let open: BTreeSet<String> = waiting
                .iter()
                .map(|(address, _)| {
                    address.at(address.version.map_or(0, |at| at.version)).to_string()
                })
                .collect();
            let ready = |(address, stored): &(Address, StoredVersion)| {
                let own = address.at(stored.version()).to_string();
                !crate::job::references(&stored.document)
                    .iter()
                    .any(|text| *text != own && open.contains(text))
            };
            let (mut now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(ready);
            waiting = later;
            if now.is_empty() {
                // Stored trees have no cycles; one all the same must not keep this from ending.
                now = std::mem::take(&mut waiting);
            }
            let mut fresh = Vec::with_capacity(now.len());
            for (address, stored) in now {
                let name = renaming.name(&address);
                let (document, hashes) = renaming.rewrite(&address, stored, &known);
                fresh.push((
                    name.at(name.version.map_or(0, |at| at.version)).to_string(),
                    name.version.and_then(|at| at.revision),
                    hashes,
                ));
                done.push((address, document, hashes));
            }
            // The newest revision of a version is what its parents count.
            fresh.sort_by_key(|(_, revision, _)| *revision);
            known.extend(fresh.into_iter().map(|(reference, _, hashes)| (reference, hashes)));
        }
        done
    }
}

fn rename_references(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, from, to)),
        Value::Object(map) => {
            if let Some((mark, text)) = mark_of(map) {
                if mark == "$ref"
                    && let Some(rest) = text.strip_prefix(from)
                    && (rest.is_empty() || rest.starts_with('@'))
                {
                    let reference = format!("{to}{rest}");
                    map.insert("$ref".to_owned(), Value::String(reference));
                }
            } else {
                map.values_mut().for_each(|item| rename_references(item, from, to));
            }
        }
        _ => {}
    }
}
