//! Blobs of components.

use crate::support::{alone::alone, databases, in_folder, refused, says};
use std::{path::PathBuf, process::Command};
use superduper::{Digest, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "artifacts.Model")]
struct Model {
    identifier: String,
    note: String,
    weights: Artifact<Bytes>,
    parts: Vec<Artifact<Bytes>>,
}

#[derive(Component, Clone)]
#[component(kind = "artifacts.Network")]
struct Network {
    identifier: String,
    layers: Artifact<Tensors>,
}

#[derive(Component, Clone)]
#[component(kind = "artifacts.Document")]
struct Document {
    identifier: String,
    file: Artifact<File>,
}

fn model(name: &str, weights: &str, parts: &[&str]) -> Model {
    let parts = parts.iter().map(|part| Bytes::from(*part).into()).collect();
    Model {
        identifier: name.into(),
        note: String::new(),
        weights: Bytes::from(weights).into(),
        parts,
    }
}

/// The file of the blob with these bytes.
fn file_of(folder: &std::path::Path, bytes: &[u8]) -> PathBuf {
    let hex = Digest::of(bytes).to_hex();
    folder.join("blake3").join(&hex[..2]).join(&hex)
}

#[tokio::test]
async fn f01_a_blob_is_stored_once_as_a_reference() {
    for on in databases().await {
        on.db.apply(model("a", "same bytes", &["same bytes", "other"])).await.expect("applies");
        on.db.apply(model("b", "same bytes", &[])).await.expect("applies");
        assert_eq!(on.blob_count().await, 2);
        let fields = &on.db.show("artifacts.Model/a").await.expect("shows")["fields"];
        let digest = Digest::of(b"same bytes");
        assert_eq!(fields["weights"], json!({"$blob": digest.to_string(), "size": 10}));
        assert_eq!(fields["parts"][0], fields["weights"]);
        let on = on.reopened().await;
        let back: Model = on.db.load("b").await.expect("loads");
        assert_eq!((back.weights.digest(), back.weights.size()), (Some(digest), Some(10)));
        assert_eq!(&back.weights.get().await.expect("bytes")[..], b"same bytes");
    }
}

#[tokio::test]
async fn f02_loading_reads_no_byte_of_a_blob() {
    for on in databases().await {
        on.db.apply(model("a", "weights", &["one", "two"])).await.expect("applies");
        let on = on.reopened().await;
        let reads = on.artifacts.reads();
        let back: Model = on.db.load("a").await.expect("loads");
        on.db.load_dyn("artifacts.Model/a").await.expect("loads");
        on.db.plan(&back).await.expect("plans");
        on.db.apply(Model { note: "changed".into(), ..back.clone() }).await.expect("applies");
        assert_eq!(on.artifacts.reads(), reads, "nothing was asked for yet");
        assert_eq!(&back.parts[1].get().await.expect("bytes")[..], b"two");
        let after_one = on.artifacts.reads();
        assert!(after_one > reads);
        back.parts[1].clone().get().await.expect("bytes");
        assert_eq!(on.artifacts.reads(), after_one, "clones share what was read");
    }
}

#[tokio::test]
async fn f02_tensors_are_read_one_by_one() {
    for on in databases().await {
        let large: Vec<f32> = (0..50_000_u16).map(f32::from).collect();
        let tensors = Tensors::new()
            .with("large", &[50, 1000], &large)
            .expect("a tensor")
            .with("small", &[2], &[1_i64, 2])
            .expect("a tensor");
        on.db
            .apply(Network { identifier: "n".into(), layers: tensors.into() })
            .await
            .expect("applies");
        let on = on.reopened().await;
        let back: Network = on.db.load("n").await.expect("loads");
        let layers = back.layers.get().await.expect("tensors");
        assert_eq!(layers.names().collect::<Vec<_>>(), ["large", "small"]);
        assert_eq!(layers.to_vec::<i64>("small").await.expect("a tensor"), [1, 2]);
        assert_eq!(layers.to_vec::<f32>("large").await.expect("a tensor"), large);
    }
}

#[tokio::test]
async fn f04_one_element_makes_another_digest() {
    for on in databases().await {
        let mut values = vec![0.5_f32; 1000];
        let network = |values: &[f32]| {
            let tensors = Tensors::new().with("w", &[10, 100], values).expect("a tensor");
            Network { identifier: "n".into(), layers: tensors.into() }
        };
        on.db.apply(network(&values)).await.expect("applies");
        let first: Network = on.db.load("n").await.expect("loads");
        values[999] = 0.500_000_06;
        let plan = on.db.plan(network(&values)).await.expect("plans");
        assert!(plan.changes().iter().any(|change| change.path.starts_with("layers")), "{plan}");
        on.db.apply(network(&values)).await.expect("applies");
        let second: Network = on.db.load("n").await.expect("loads");
        assert_ne!(first.layers.digest(), second.layers.digest());
        assert_eq!(on.blob_count().await, 2);
        let old: Network = on.db.load("n@0.0").await.expect("loads");
        assert_eq!(
            old.layers.get().await.expect("tensors").to_vec::<f32>("w").await.expect("a tensor")
                [999],
            0.5
        );
    }
}

#[tokio::test]
async fn f05_a_damaged_blob_is_an_error_that_names_component_field_and_digest() {
    let on = in_folder().await;
    let folder = on.artifact_folder().expect("a folder");
    on.db.apply(model("m", "some weights", &["a part", "another part"])).await.expect("applies");
    let damage = |bytes: &[u8], with: Option<&[u8]>| {
        let path = file_of(&folder, bytes);
        let mut permissions = std::fs::metadata(&path).expect("a file").permissions();
        #[expect(
            clippy::permissions_set_readonly_false,
            reason = "the file is about to be damaged"
        )]
        permissions.set_readonly(false);
        std::fs::set_permissions(&path, permissions).expect("writable");
        match with {
            Some(other) => std::fs::write(&path, other).expect("damaged"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
    };
    // Other bytes, fewer bytes, no file.
    damage(b"some weights", Some(b"some weighty"));
    damage(b"a part", Some(b"a"));
    damage(b"another part", None);
    let back: Model = on.db.load("m").await.expect("loading reads no blob");
    for (artifact, bytes, field) in [
        (&back.weights, &b"some weights"[..], "weights"),
        (&back.parts[0], b"a part", "parts[0]"),
        (&back.parts[1], b"another part", "parts[1]"),
    ] {
        let error = refused(artifact.get().await);
        let digest = Digest::of(bytes).to_string();
        says(&error, ErrorKind::Integrity, &["artifacts.Model/m", &format!("`{field}`"), &digest]);
    }
}

#[tokio::test]
async fn f05_a_damaged_tensor_is_never_given_out() {
    let on = in_folder().await;
    let values: Vec<f32> = (0..4096_u16).map(f32::from).collect();
    let tensors = Tensors::new()
        .with("a", &[4096], &values)
        .expect("a tensor")
        .with("b", &[4096], &values)
        .expect("a tensor");
    on.db.apply(Network { identifier: "n".into(), layers: tensors.into() }).await.expect("applies");
    let back: Network = on.db.load("n").await.expect("loads");
    let folder = on.artifact_folder().expect("a folder");
    let hex = back.layers.digest().expect("a digest").to_hex();
    let path = folder.join("blake3").join(&hex[..2]).join(&hex);
    let mut bytes = std::fs::read(&path).expect("a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, bytes).expect("damaged");
    let back: Network = on.db.load("n").await.expect("loads");
    let error = match back.layers.get().await {
        Ok(tensors) => {
            assert_eq!(tensors.to_vec::<f32>("a").await.expect("this one is whole"), values);
            refused(tensors.to_vec::<f32>("b").await)
        }
        Err(error) => error,
    };
    says(&error, ErrorKind::Integrity, &["artifacts.Network/n", "`layers`", &hex]);
}

#[tokio::test]
async fn f07_a_blob_that_is_there_is_not_written_again() {
    for on in databases().await {
        on.db.apply(model("a", "weights", &["part"])).await.expect("applies");
        let written = on.artifacts.written();
        assert_eq!(written, 2);
        on.db.apply(model("b", "weights", &["part", "part"])).await.expect("applies");
        on.db
            .apply(Model { note: "x".into(), ..model("a", "weights", &["part"]) })
            .await
            .expect("applies");
        assert_eq!(on.artifacts.written(), written);
    }
}

#[tokio::test]
async fn f06_a_failing_put_leaves_nothing_behind() {
    let on = in_folder().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data.bin");
    std::fs::write(&path, vec![7; 100_000]).expect("written");
    let document =
        Document { identifier: "d".into(), file: File::open(&path).expect("a file").into() };
    let plan = on.db.plan(&document).await.expect("plans");
    // The file changes between plan and apply: what was hashed is not what would be stored.
    std::fs::write(&path, vec![8; 100_000]).expect("written");
    let error = refused(on.db.apply_plan(plan).await);
    assert!(
        error.to_string().contains("artifacts.Document/d") && error.to_string().contains("`file`"),
        "{error}"
    );
    assert_eq!(on.blob_count().await, 0);
    assert!(on.db.list().await.expect("lists").is_empty());
    on.db
        .apply(Document { identifier: "d".into(), file: File::open(&path).expect("a file").into() })
        .await
        .expect("applies");
    assert_eq!(on.blob_count().await, 1);
}

#[tokio::test]
async fn f01_a_file_comes_back_as_a_file() {
    for on in databases().await {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("data.bin");
        std::fs::write(&path, b"on disk").expect("written");
        on.db
            .apply(Document {
                identifier: "d".into(),
                file: File::open(&path).expect("a file").into(),
            })
            .await
            .expect("applies");
        drop(folder);
        let on = on.reopened().await;
        let back: Document = on.db.load("d").await.expect("loads");
        let file = back.file.get().await.expect("a file");
        assert_eq!(std::fs::read(file.path()).expect("readable"), b"on disk");
    }
}

#[tokio::test]
async fn f09_python_reads_a_safetensors_blob_and_we_read_what_it_wrote() {
    let python = |script: &str, arguments: &[&std::path::Path]| {
        Command::new("python3").arg("-c").arg(script).args(arguments).output()
    };
    let has = python("import safetensors.numpy", &[]).is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("skipped: python package safetensors");
        return;
    }
    let on = in_folder().await;
    let tensors =
        Tensors::new().with("w", &[2, 3], &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("a tensor");
    on.db.apply(Network { identifier: "n".into(), layers: tensors.into() }).await.expect("applies");
    let back: Network = on.db.load("n").await.expect("loads");
    let hex = back.layers.digest().expect("a digest").to_hex();
    let path = on.artifact_folder().expect("a folder").join("blake3").join(&hex[..2]).join(&hex);
    let out = path.with_extension("out");
    let script = "
import sys
from safetensors.numpy import load, save
w = load(open(sys.argv[1], 'rb').read())['w']
assert w.tolist() == [[1, 2, 3], [4, 5, 6]], w
open(sys.argv[2], 'wb').write(save({'w': w * 2}))
";
    let output = python(script, &[&path, &out]).expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let doubled = Tensors::from_bytes(std::fs::read(&out).expect("readable")).expect("tensors");
    on.db.apply(Network { identifier: "n".into(), layers: doubled.into() }).await.expect("applies");
    let back: Network = on.db.load("n").await.expect("loads");
    let values =
        back.layers.get().await.expect("tensors").to_vec::<f32>("w").await.expect("a tensor");
    assert_eq!(values, [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
}

#[tokio::test]
async fn fault_29_a_header_whose_texts_are_null_has_none() {
    let file = |header: &str| {
        let text = header.as_bytes();
        [&(text.len() as u64).to_le_bytes()[..], text, &1.5_f32.to_le_bytes()].concat()
    };
    // As the Python package safetensors 0.8.0: `null` is read, a second entry is not.
    let entry = r#""w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let without = file(&format!(r#"{{"__metadata__":null,{entry}}}"#));
    let tensors = Tensors::from_bytes(without.clone()).expect("a safetensors file");
    assert!(tensors.metadata().is_empty() && tensors.len() == 1);
    assert_eq!(tensors.to_vec::<f32>("w").await.expect("a tensor"), [1.5]);
    let twice = file(&format!(r#"{{"__metadata__":null,"__metadata__":{{"a":"b"}},{entry}}}"#));
    let error = Tensors::from_bytes(twice).expect_err("texts twice");
    assert!(error.to_string().contains("`__metadata__` is there twice"), "{error}");
    for on in databases().await {
        on.db
            .apply(Network { identifier: "n".into(), layers: tensors.clone().into() })
            .await
            .expect("applies");
        let back: Network = on.db.load("n").await.expect("loads");
        assert_eq!(
            back.layers.get().await.expect("tensors").to_vec::<f32>("w").await.expect("a tensor"),
            [1.5]
        );
    }
    // Bytes as they came are read as tensors later, too.
    let on = in_folder().await;
    let blob = model("bytes", "", &[]);
    on.db.apply(Model { weights: Bytes::from(without).into(), ..blob }).await.expect("applies");
    let back: Model = on.db.load("bytes").await.expect("loads");
    let again = Tensors::from_bytes(back.weights.get().await.expect("bytes").to_vec())
        .expect("a safetensors file");
    assert!(again.metadata().is_empty());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_blob_does_not_pass_through_memory_as_a_whole() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };
    fn anonymous_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("readable");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }
    if !alone("artifacts::f10_a_blob_does_not_pass_through_memory_as_a_whole") {
        return;
    }
    const SIZE: usize = 256 * 1024 * 1024;
    let on = in_folder().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("large.bin");
    {
        use std::io::Write;
        let mut file = std::fs::File::create(&path).expect("created");
        for number in 0..(SIZE / (1024 * 1024)) {
            file.write_all(&vec![number as u8; 1024 * 1024]).expect("written");
        }
    }
    let before = anonymous_kib();
    let over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(anonymous_kib());
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            most
        }
    });
    on.db
        .apply(Document { identifier: "d".into(), file: File::open(&path).expect("a file").into() })
        .await
        .expect("applies");
    over.store(true, Ordering::Relaxed);
    let extra = watcher.join().expect("watched").saturating_sub(before);
    assert!(
        extra <= 64 * 1024,
        "{extra} KiB of anonymous memory for a blob of {} KiB",
        SIZE / 1024
    );
    let back: Document = on.db.load("d").await.expect("loads");
    assert_eq!(back.file.size(), Some(SIZE as u64));
}

#[tokio::test]
async fn f01_one_artifact_in_two_applies_at_once() {
    for on in databases().await {
        let shared: Artifact<Bytes> = Bytes::from("shared").into();
        let with = |name: &str| Model {
            identifier: name.into(),
            note: String::new(),
            weights: shared.clone(),
            parts: vec![shared.clone()],
        };
        // Both are encoded before the bytes are hashed.
        let (first, second) = (on.db.apply(with("a")), on.db.apply(with("b")));
        first.await.expect("applies");
        second.await.expect("applies");
        for name in ["a", "b"] {
            let back: Model = on.db.load(name).await.expect("loads");
            assert_eq!(&back.parts[0].get().await.expect("bytes")[..], b"shared", "{name}");
        }
        assert_eq!(on.db.metadata().referenced_blobs(None).await.expect("reads").len(), 1);
    }
}
