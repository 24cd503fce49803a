//! Outputs set without a job, references written again, and what an audit tells of them.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    ErrorKind,
    store::{AuditedRevision, ComponentId, EdgeRow, MetadataStore, Op, OutputRow},
};

fn outputs(at: &str, version: u32, named: &[(&str, i64)]) -> Op {
    let output = |(name, value): &(&str, i64)| OutputRow {
        name: (*name).to_owned(),
        value: json!(value),
        blobs: vec![blob(name)],
    };
    Op::SetOutputs { address: address(at).at(version), outputs: named.iter().map(output).collect() }
}

async fn audit(store: &dyn MetadataStore) -> Vec<AuditedRevision> {
    done(store.audit(None, 1000).await)
}

/// Outputs can be set without a job; what is set replaces what was there, with its references.
pub async fn outputs_can_be_set(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), outputs("a", 0, &[("x", 1), ("y", 2)]), version("a", 1)]).await;
    let read = async |at: u32| {
        serde_json::Value::Object(done(store.tree(address("a").at(at)).await).remove(0).outputs)
    };
    assert_eq!(read(0).await, json!({"x": 1, "y": 2}));
    assert_eq!(read(1).await, json!({}), "other versions are left alone");
    let mut again = outputs("a", 0, &[("x", 3)]);
    if let Op::SetOutputs { outputs, .. } = &mut again {
        outputs[0].blobs = vec![blob("other")];
    }
    commit(store, vec![again]).await;
    assert_eq!(read(0).await, json!({"x": 3, "y": 2}));
    let mut blobs = done(store.blobs_of(address("a"), vec![0]).await);
    blobs.sort();
    let mut expected = vec![digest("other"), digest("y")];
    expected.sort();
    assert_eq!(blobs, expected, "references of a replaced value go");
    refused(
        try_commit(store, vec![], vec![outputs("a", 7, &[("x", 1)])]).await,
        ErrorKind::NotFound,
    );
    refused(
        try_commit(store, vec![], vec![outputs("absent", 0, &[("x", 1)])]).await,
        ErrorKind::NotFound,
    );
    mark(store, &["z"]).await;
    refused(
        try_commit(store, vec![], vec![outputs("a", 1, &[("z", 1)])]).await,
        ErrorKind::Conflict,
    );
    assert_eq!(read(1).await, json!({}));
}

/// An audit tells every stored revision with its rows, in pages of versions.
pub async fn audits_tell_every_revision(store: &dyn MetadataStore) {
    commit(store, vec![create("c"), with_blobs(with_children(create("p"), &[("c", 0)]), &["doc"])])
        .await;
    commit(store, vec![with_blobs(revision("p", 0, 1), &["newer"]), outputs("p", 0, &[("o", 1)])])
        .await;
    commit(store, vec![version("p", 1), create("gone")]).await;
    commit(store, vec![Op::Delete { address: address("gone"), versions: vec![0] }]).await;
    let all = audit(store).await;
    let addresses: Vec<_> = all.iter().map(|row| row.address.clone()).collect();
    assert_eq!(
        addresses,
        [exact("c", 0, 0), exact("p", 0, 0), exact("p", 0, 1), exact("p", 1, 0)],
        "ascending, each once"
    );
    let old = &all[1];
    assert_eq!(old.document, Ok(document("p", 0, 0)));
    assert_eq!(old.edges, [EdgeRow { path: "children[0]".to_owned(), child: address("c").at(0) }]);
    assert_eq!(
        (old.blobs.clone(), old.outputs.len()),
        (vec![blob("doc")], 0),
        "outputs come with the newest revision"
    );
    assert_eq!((old.uuid, old.content_hash, old.type_version), (digest("p 0"), digest("p 0 0"), 1));
    let newer = &all[2];
    assert_eq!((newer.edges.len(), newer.blobs.clone()), (0, vec![blob("newer")]));
    assert_eq!((newer.outputs.len(), newer.outputs[0].name.as_str()), (1, "o"));
    assert_eq!(
        (newer.outputs[0].value.clone(), newer.outputs[0].blobs.clone()),
        (Ok(json!(1)), vec![blob("o")])
    );
    let mut paged = Vec::new();
    let mut after: Option<(ComponentId, u32)> = None;
    loop {
        let page = done(store.audit(after, 1).await);
        let Some(last) = page.last() else { break };
        after = Some((last.component, last.address.version.map_or(0, |at| at.version)));
        assert!(
            page.iter().all(|row| Some(row.component) == after.map(|at| at.0)),
            "a page of one version has one version"
        );
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert!(
        done(store.check().await).is_empty(),
        "a healthy store finds nothing wrong with itself"
    );
}

/// The references of a revision can be written again.
pub async fn references_can_be_written_anew(store: &dyn MetadataStore) {
    let parent = with_blobs(with_children(create("p"), &[("x", 0)]), &["old"]);
    commit(
        store,
        vec![create("x"), create("y"), parent, revision("p", 0, 1), outputs("p", 0, &[("o", 1)])],
    )
    .await;
    let relink = |name: &str, version, revision, child: &str| Op::Relink {
        address: exact(name, version, revision),
        edges: vec![EdgeRow { path: "at".to_owned(), child: address(child).at(0) }],
        blobs: vec![blob("new")],
    };
    commit(store, vec![relink("p", 0, 0, "y")]).await;
    let all = audit(store).await;
    let rows: Vec<_> = all.iter().filter(|row| row.address.identifier == "p").collect();
    assert_eq!(rows[0].edges, [EdgeRow { path: "at".to_owned(), child: address("y").at(0) }]);
    assert_eq!(rows[0].blobs, [blob("new")]);
    assert_eq!(
        (rows[1].edges.len(), rows[1].blobs.len(), rows[1].outputs[0].blobs.len()),
        (0, 0, 1),
        "nothing else is touched"
    );
    commit(store, vec![relink("p", 0, 1, "y")]).await;
    assert_eq!(done(store.tree(address("p")).await).len(), 2, "trees follow the new references");
    for refused_op in
        [relink("p", 0, 1, "absent"), relink("p", 0, 9, "y"), relink("absent", 0, 0, "y")]
    {
        refused(try_commit(store, vec![], vec![refused_op]).await, ErrorKind::NotFound);
    }
    assert_eq!(done(store.tree(address("p")).await).len(), 2);
}

/// Referenced blobs can be read by the first byte of their digests.
pub async fn referenced_blobs_come_in_shards(store: &dyn MetadataStore) {
    let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    commit(store, vec![with_blobs(create("a"), &names)]).await;
    let mut gathered = Vec::new();
    for byte in 0..=255 {
        let shard = done(store.referenced_blobs(Some(byte)).await);
        assert!(
            shard.iter().all(|(digest, _)| digest.as_bytes()[0] == byte),
            "a shard has digests of its first byte"
        );
        gathered.extend(shard);
    }
    assert_eq!(gathered, done(store.referenced_blobs(None).await), "the shards make up the whole");
    assert_eq!(gathered.len(), 300);
}
