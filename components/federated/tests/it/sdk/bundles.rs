//! Exported bundles.

use super::{exported, folder, types::*};
use crate::support::*;
use serde_json::Value;
use std::collections::HashMap;
use std::{fs, path::Path, process::Command, time::Duration};
use superduper::prelude::*;
use superduper_federated::{FederatedTraining, State};

/// The hash of a bundle, from the digests of its files.
fn hash_of(files: &Value) -> String {
    let mut text = "superduper federated preview 1\n".to_owned();
    for (path, digest) in files.as_object().unwrap() {
        text += &format!("{path}\0{}\n", digest.as_str().unwrap());
    }
    superduper::Digest::of(text.as_bytes()).to_hex()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for below in ["", "scripts"] {
        for entry in fs::read_dir(folder.join(below)).unwrap().flatten() {
            if entry.path().is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                all.push((format!("{below}/{name}"), fs::read(entry.path()).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn c06_a_bundle_has_equal_bytes_each_time_and_is_read_back_with_the_same_hash() {
    let place = Place::new();
    let db = place.open().await;
    let preview = exported("c06").preview(&db).await.unwrap();
    let (one, two) = (folder(&place, "one"), folder(&place, "deep/two"));
    let done = preview.export(&one).await.unwrap();
    assert_eq!((done.files, done.hash.as_str()), (preview.files.len(), preview.hash()));
    let elsewhere = Place::new();
    let other = elsewhere.open().await;
    exported("c06").preview(&other).await.unwrap().export(&two).await.unwrap();
    assert_eq!(files(&one), files(&two));
    let names: Vec<String> = files(&one).into_iter().map(|(name, _)| name).collect();
    let wanted = [
        "/config_fed_client.json",
        "/config_fed_server.json",
        "/meta.json",
        "/training.json",
        "scripts/custom_client_executor.rs",
        "scripts/custom_persistor.rs",
        "scripts/net.rs",
    ];
    assert_eq!(names, wanted);
    let read = FederatedTraining::from_bundle(&other, &two).await.unwrap();
    assert_eq!(read.preview(&other).await.unwrap().hash(), preview.hash());
    let meta: Value = serde_json::from_slice(&fs::read(one.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["hash"], preview.hash());
    assert_eq!(meta["byoc"], true);

    // It trains as the one that was exported.
    fs::create_dir(folder(&elsewhere, "heads")).unwrap();
    let mut read = FederatedTraining::from_bundle(&other, &two).await.unwrap();
    read.persistor = Box::new(Int8Head { folder: folder(&elsewhere, "heads") });
    let trainer = trained(&other, read, None).await;
    assert_eq!(trainer.state().await.unwrap(), State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn c18_the_configurations_are_read_by_another_program() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    exported("c18").preview(&db).await.unwrap().export(&out).await.unwrap();
    let program = r#"
import json, sys
client = json.load(open(sys.argv[1] + '/config_fed_client.json'))
server = json.load(open(sys.argv[1] + '/config_fed_server.json'))
meta = json.load(open(sys.argv[1] + '/meta.json'))
executor = client['executors'][0]['executor']
assert client['executors'][0]['tasks'] == ['train', 'test'], client
assert executor['path'] == 'it::sdk::types::Custom', executor
assert executor['args'] == {'num_classes': 2, 'img_size': 224, 'local_epochs': 2, 'batch_size': 32,
                            'learning_rate': 0.001, 'mixup': 0.2}, executor
assert executor['settings']['metric'] == 1.5, executor
assert client['task_result_filters'] == [{'sites': ['a'], 'tasks': ['train'],
    'filters': [{'path': 'federated.ClipNorm', 'args': {'max': 1.0}}]}], client
parts = {part['id']: part for part in server['components']}
assert parts['persistor'] == {'id': 'persistor', 'path': 'it::sdk::types::Int8Head', 'args': {'folder': 'heads'}}, parts
assert parts['model']['path'] == 'it::sdk::types::Net', parts
assert parts['model']['args']['num_classes'] == 2, parts
assert server['workflows'][0]['args']['num_rounds'] == 1, server
assert meta['deploy_map'] == {'app': ['a', 'b']}, meta
print('read')
"#;
    let output = Command::new("python3").arg("-c").arg(program).arg(&out).output();
    let Ok(output) = output else {
        eprintln!("skipped: Python is needed");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "read", "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c05_a_bundle_without_an_executor_is_refused_before_anything_is_submitted() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    for missing in [true, false] {
        exported("c05").preview(&db).await.unwrap().export(&out).await.unwrap();
        let mut document: Value =
            serde_json::from_slice(&fs::read(out.join("training.json")).unwrap()).unwrap();
        if missing {
            document.as_object_mut().unwrap().remove("executor");
        } else {
            document["executor"] = Value::Null;
        }
        let text = serde_json::to_vec(&document).unwrap();
        let mut meta: Value =
            serde_json::from_slice(&fs::read(out.join("meta.json")).unwrap()).unwrap();
        meta["files"]["training.json"] = json!(superduper::Digest::of(&text).to_hex());
        let error = {
            fs::write(out.join("training.json"), &text).unwrap();
            fs::write(out.join("meta.json"), meta.to_string()).unwrap();
            FederatedTraining::from_bundle(&db, &out).await.unwrap_err().to_string()
        };
        assert!(error.contains("the hash in `meta.json`"), "{error}");
        meta["hash"] = json!(hash_of(&meta["files"]));
        fs::write(out.join("training.json"), &text).unwrap();
        fs::write(out.join("meta.json"), meta.to_string()).unwrap();
        let error = FederatedTraining::from_bundle(&db, &out).await.unwrap_err().to_string();
        assert!(error.contains("executors are not specified"), "{error}");
        if !missing {
            let error = db.decode_documents(&[document]).await.unwrap_err().to_string();
            assert!(error.contains("/executor"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_an_executor_that_is_not_linked_is_refused_naming_crate_and_use() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    exported("c13u").preview(&db).await.unwrap().export(&out).await.unwrap();
    let mut document: Value =
        serde_json::from_slice(&fs::read(out.join("training.json")).unwrap()).unwrap();
    document["executor"] = json!({"type": "my_scans.Augmented", "strength": 2});
    let error = db.decode_documents(&[document]).await.unwrap_err().to_string();
    assert!(error.contains("`my_scans.Augmented`"), "{error}");
    assert!(error.contains("use my_scans as _;"), "{error}");
    assert!(error.contains("it.Custom"), "the known ones are named: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_never_touches_what_is_something_else() {
    let place = Place::new();
    let db = place.open().await;
    let preview = exported("else").preview(&db).await.unwrap();
    let out = folder(&place, "out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "mine").unwrap();
    let error = preview.export(&out).await.unwrap_err().to_string();
    assert!(error.contains("is not an exported training, and is not replaced"), "{error}");
    fs::write(out.join("meta.json"), "{\"name\": \"another tool's\"}").unwrap();
    let error = preview.export(&out).await.unwrap_err().to_string();
    assert!(error.contains("is not an exported training, and is not replaced"), "{error}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    let error = preview.export(out.join("thesis.txt")).await.unwrap_err().to_string();
    assert!(error.contains("cannot look into"), "{error}");
    let error = preview.export("s3://bucket/prefix").await.unwrap_err().to_string();
    assert!(error.contains("is a URL, not a folder"), "{error}");
    let fresh = folder(&place, "fresh");
    fs::create_dir(&fresh).unwrap();
    preview.export(&fresh).await.unwrap();
    preview.export(&fresh).await.unwrap();
    // Files beside those of the bundle are somebody's.
    fs::create_dir(fresh.join("model_out")).unwrap();
    fs::write(fresh.join("model_out/model.safetensors"), "weights").unwrap();
    let error = preview.export(&fresh).await.unwrap_err().to_string();
    assert!(
        error.contains("`model_out/model.safetensors`") && error.contains("is not replaced"),
        "{error}"
    );
    assert!(fresh.join("model_out/model.safetensors").exists());
    let hidden = fs::read_dir(place.folder.path()).unwrap().flatten();
    let drafts = hidden.filter(|entry| entry.file_name().to_string_lossy().contains("draft"));
    assert_eq!(drafts.count(), 0, "nothing is left beside");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_was_changed_is_refused() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    let error = FederatedTraining::from_bundle(&db, &out).await.unwrap_err().to_string();
    assert!(error.contains("has no `meta.json`"), "{error}");
    exported("changed").preview(&db).await.unwrap().export(&out).await.unwrap();
    let script = out.join("scripts/net.rs");
    let before = fs::read_to_string(&script).unwrap();
    fs::write(&script, before.replace("0.25", "0.75")).unwrap();
    let error = FederatedTraining::from_bundle(&db, &out).await.unwrap_err().to_string();
    assert!(
        error.contains("`scripts/net.rs`") && error.contains("is not what was exported"),
        "{error}"
    );
    fs::remove_file(&script).unwrap();
    let error = FederatedTraining::from_bundle(&db, &out).await.unwrap_err().to_string();
    assert!(error.contains("`scripts/net.rs` is missing"), "{error}");
    let mut meta: Value =
        serde_json::from_slice(&fs::read(out.join("meta.json")).unwrap()).unwrap();
    meta["files"] = json!({"../../etc/passwd": "00"});
    fs::write(out.join("meta.json"), meta.to_string()).unwrap();
    let error = FederatedTraining::from_bundle(&db, &out).await.unwrap_err().to_string();
    assert!(error.contains("is no name of a file in a bundle"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c15_a_killed_export_leaves_the_old_bundle_or_the_new_one() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    let meta = out.join("meta.json");
    let identity = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map(|meta| meta.ino()).ok()
    };
    let mut hashes: HashMap<u64, Value> = HashMap::new();
    for kill in 0..24 {
        let before = identity(&meta);
        let mut child = Command::new(program())
            .args(["export".as_ref(), place.path().as_os_str(), out.as_os_str()])
            .spawn()
            .expect("the worker program starts");
        // It exports without a pause; the kills fall at other points of its loop each time.
        while identity(&meta).is_none() || identity(&meta) == before {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(700 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        let read =
            FederatedTraining::from_bundle(&db, &out).await.expect("a whole bundle is there");
        let meta: Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
        let rounds = read.federation.num_rounds;
        assert_eq!(hashes.entry(rounds).or_insert_with(|| meta["hash"].clone()), &meta["hash"]);
    }
    assert_eq!(hashes.len(), 2, "the kills met both bundles");
    let drafts = fs::read_dir(place.folder.path()).unwrap().flatten();
    let drafts = drafts.filter(|entry| entry.file_name().to_string_lossy().ends_with(".draft"));
    assert!(drafts.count() > 0, "some kills fell into an export");
}
