//! Documents: each can be read, is the one that was stored, can be loaded, and the rows derived
//! from it agree with it.
//!
//! They are read in pages, so that memory does not grow with their number.

use super::{Finding, Severity, Verify, VerifyReport};
use crate::{
    address::Address,
    bundle::references,
    db::read::decode_stored,
    digest::Digest,
    encode::hash_body,
    error::Result,
    store::{
        AuditedOutput, AuditedRevision, Batch, BlobRow, ComponentId, Durability, EdgeRow, Op,
        OutputRow,
    },
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// So many versions are read at a time: few, since each may refer to thousands of blobs.
const PAGE: usize = 8;

/// Check all documents; places of damaged blobs are noted in their findings.
pub(super) async fn check(
    verify: &Verify,
    damaged: BTreeMap<Digest, usize>,
    report: &mut VerifyReport,
) -> Result<()> {
    let metadata = &verify.db.inner().metadata;
    let mut after: Option<(ComponentId, u32)> = None;
    loop {
        let page = metadata.audit(after, PAGE).await?;
        let Some(last) = page.last().map(key) else { return Ok(()) };
        for (index, row) in page.iter().enumerate() {
            let before = if index == 0 { after } else { page.get(index - 1).map(key) };
            report.components += usize::from(before.is_none_or(|before| before.0 != row.component));
            report.versions += usize::from(before != Some(key(row)));
            note_damaged(row, &damaged, report);
            look(verify, row, report).await?;
            // The last revision of a version is the one that is loaded.
            if page.get(index + 1).map(key) != Some(key(row)) && verify.load {
                load(verify, row, report).await?;
            }
        }
        after = Some(last);
    }
}

fn key(row: &AuditedRevision) -> (ComponentId, u32) {
    (row.component, row.address.version.map_or(0, |at| at.version))
}

/// Say of damaged blobs which component has them, and in which field.
fn note_damaged(
    row: &AuditedRevision,
    damaged: &BTreeMap<Digest, usize>,
    report: &mut VerifyReport,
) {
    if damaged.is_empty() {
        return;
    }
    let outputs = row
        .outputs
        .iter()
        .flat_map(|output| output.blobs.iter().map(|blob| (output.name.clone(), blob)));
    for (field, blob) in row.blobs.iter().map(|blob| (blob.path.clone(), blob)).chain(outputs) {
        let finding = damaged.get(&blob.digest).and_then(|place| report.findings.get_mut(*place));
        if let Some(finding) = finding.filter(|finding| finding.address.is_none()) {
            finding.address = Some(row.address.clone());
            finding.field = Some(field);
        }
    }
}

async fn look(verify: &Verify, row: &AuditedRevision, report: &mut VerifyReport) -> Result<()> {
    let at = &row.address;
    let mut add = |finding: Finding| report.findings.push(finding.at(at));
    match verify.db.inner().registry.entry(&at.kind) {
        Err(_) => add(Finding::new(
            Severity::Info,
            "this program has no type of this kind; it is listed, not loaded",
        )),
        Ok(entry) if row.type_version > entry.spec.version => {
            let (theirs, ours) = (row.type_version, entry.spec.version);
            add(Finding::new(
                Severity::Info,
                format!("version {theirs} of its type wrote it; this program has version {ours}"),
            ));
        }
        Ok(_) => {}
    }
    let document = match &row.document {
        Ok(document) => document,
        Err(error) => {
            add(Finding::new(
                Severity::Error,
                format!("the document is damaged: {error}; restore the database from a backup"),
            ));
            return Ok(());
        }
    };
    match references(document) {
        Err(error) => {
            add(Finding::new(Severity::Error, format!("the document is damaged: {error}")))
        }
        Ok(found) => {
            if found.children.is_empty() {
                check_hashes(verify, row, document, &mut add);
            }
            if let Some(what) = disagreement(row, &found.children, &found.blobs) {
                let op =
                    Op::Relink { address: at.clone(), edges: found.children, blobs: found.blobs };
                add(repaired(verify, Finding::new(Severity::Error, what), op).await);
            }
        }
    }
    for output in &row.outputs {
        if let Some(finding) = look_at_output(verify, at, output).await {
            add(finding.field(&output.name));
        }
    }
    Ok(())
}

/// Compare the hashes on record with those of the document. Only of components without children: a
/// child may have got a revision since, which leaves the hash of its parents on record as it was.
fn check_hashes(
    verify: &Verify,
    row: &AuditedRevision,
    document: &Value,
    add: &mut impl FnMut(Finding),
) {
    let name = (row.address.kind.as_str(), row.address.identifier.as_str());
    if hash_body(name, document, |_| true, |_| None, true) != row.content_hash {
        add(Finding::new(
            Severity::Warning,
            "the document does not have the hash on record: it was changed by something else",
        ));
        return;
    }
    let Ok(entry) = verify.db.inner().registry.entry(&row.address.kind) else { return };
    let breaking =
        |key: &str| entry.spec.fields.iter().any(|field| field.breaking && field.key == key);
    if row.type_version == entry.spec.version
        && hash_body(name, document, breaking, |_| None, false) != row.uuid
    {
        add(Finding::new(
            Severity::Info,
            "its uuid is another one today: other fields of its type are breaking now",
        ));
    }
}

/// How the references on record differ from those of the document.
fn disagreement(row: &AuditedRevision, edges: &[EdgeRow], blobs: &[BlobRow]) -> Option<String> {
    let edge = |edge: &EdgeRow| (edge.path.clone(), edge.child.to_string());
    let blob = |blob: &BlobRow| (blob.path.clone(), blob.digest.to_string());
    let compare =
        |what: &str, recorded: BTreeSet<(String, String)>, wanted: BTreeSet<(String, String)>| {
            let missing = wanted.difference(&recorded).next().map(|(path, to)| {
                format!("the reference of `{path}` to {what} {to} is not on record")
            });
            missing.or_else(|| {
                let extra = recorded.difference(&wanted).next();
                extra.map(|(path, to)| {
                format!(
                    "a reference of `{path}` to {what} {to} is on record, but not in the document"
                )
            })
            })
        };
    compare("component", row.edges.iter().map(edge).collect(), edges.iter().map(edge).collect())
        .or_else(|| {
            compare("blob", row.blobs.iter().map(blob).collect(), blobs.iter().map(blob).collect())
        })
}

async fn look_at_output(verify: &Verify, at: &Address, output: &AuditedOutput) -> Option<Finding> {
    let value = match &output.value {
        Ok(value) => value,
        Err(error) => {
            return Some(Finding::new(Severity::Error, format!("the output is damaged: {error}")));
        }
    };
    let found = match references(value) {
        Ok(found) => found.blobs,
        Err(error) => {
            return Some(Finding::new(Severity::Error, format!("the output is damaged: {error}")));
        }
    };
    let digests =
        |blobs: &[BlobRow]| -> BTreeSet<Digest> { blobs.iter().map(|blob| blob.digest).collect() };
    if digests(&found) == digests(&output.blobs) {
        return None;
    }
    let finding = Finding::new(Severity::Error, "the blobs of the output are not those on record");
    let row = OutputRow { name: output.name.clone(), value: value.clone(), blobs: found };
    Some(
        repaired(verify, finding, Op::SetOutputs { address: at.clone(), outputs: vec![row] }).await,
    )
}

/// Try the repair of a finding, where repairs are asked for; what cannot be repaired says why.
async fn repaired(verify: &Verify, mut finding: Finding, op: Op) -> Finding {
    if verify.repair {
        match verify
            .db
            .inner()
            .metadata
            .commit(Batch { expect: Vec::new(), ops: vec![op] }, Durability::Full)
            .await
        {
            Ok(_) => finding.repaired = true,
            Err(error) => finding.what.push_str(&format!("; it cannot be repaired: {error}")),
        }
    }
    finding
}

/// Load what nothing else holds, with all below it.
async fn load(verify: &Verify, row: &AuditedRevision, report: &mut VerifyReport) -> Result<()> {
    let db = verify.db.inner();
    let Ok(entry) = db.registry.entry(&row.address.kind) else { return Ok(()) };
    if row.document.is_err() || row.type_version > entry.spec.version {
        return Ok(());
    }
    let version = row.address.at(key(row).1);
    if db.metadata.referrers(vec![version.clone()]).await?.iter().any(|reference| reference.current)
    {
        return Ok(());
    }
    let loaded = match db.metadata.tree(version).await {
        // It was removed beside us.
        Ok(tree) if tree.is_empty() => return Ok(()),
        Ok(tree) => decode_stored(db, tree, |document| (entry.decode)(document)).map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = loaded {
        report.findings.push(
            Finding::new(Severity::Warning, format!("it cannot be loaded: {error}"))
                .at(&row.address),
        );
    }
    Ok(())
}
