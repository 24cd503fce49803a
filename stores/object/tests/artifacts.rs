//! Artifacts in a store: lazy, verified, named in errors, readable by the Python package.

use serde_json::Value;
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use superduper_core::{
    Artifact, BoxFuture, Bytes, Digest, Dtype, Error, ErrorKind, File, Result, Tensors,
    artifact::Blob,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put},
};
use superduper_object::ObjectStore;

/// A store that counts what is read and written, and can hide its files.
#[derive(Debug)]
struct Counting {
    inner: ObjectStore,
    read: AtomicU64,
    puts: AtomicU64,
    files: bool,
}

impl Counting {
    fn new(inner: ObjectStore, files: bool) -> Arc<Self> {
        Arc::new(Counting { inner, read: AtomicU64::new(0), puts: AtomicU64::new(0), files })
    }
    fn take_read(&self) -> u64 {
        self.read.swap(0, Ordering::SeqCst)
    }
}

impl ArtifactStore for Counting {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn capabilities(&self) -> ArtifactCapabilities {
        self.inner.capabilities()
    }
    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.inner.put(digest, size, chunks)
    }
    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.read.fetch_add(range.end - range.start, Ordering::SeqCst);
        self.inner.get_range(digest, range)
    }
    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        self.inner.size(digest)
    }
    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.inner.delete(digest)
    }
    fn list(
        &self,
        first: Option<u8>,
        leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        self.inner.list(first, leftovers_before)
    }
    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.inner.quarantine(digest)
    }
    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        if self.files { self.inner.local_path(digest) } else { None }
    }
}

const OWNER: &str = "demo.Model/m@0";

/// Save a value and give the artifact as a later process loads it.
async fn saved<T: Blob>(value: T, store: &Arc<dyn ArtifactStore>) -> Artifact<T> {
    let artifact = Artifact::new(value);
    artifact.save(store).await.expect("saves");
    assert!(artifact.is_saved());
    Artifact::stored(serde_json::to_value(&artifact).expect("a reference"), store, OWNER)
        .expect("a reference")
}

fn folder() -> (tempfile::TempDir, Arc<dyn ArtifactStore>) {
    let place = tempfile::tempdir().expect("a folder");
    let store = Arc::new(ObjectStore::folder(place.path()).expect("a store"));
    (place, store)
}

fn model() -> Tensors {
    let weight: Vec<f32> = (0..30_000).map(|index| index as f32).collect();
    Tensors::new()
        .with("layer.weight", &[100, 300], &weight)
        .and_then(|model| model.with("layer.bias", &[3], &[0.5_f32, -1.0, f32::MIN_POSITIVE]))
        .and_then(|model| model.with("steps", &[], &[7_i64]))
        .and_then(|model| model.with("mask", &[3], &[1_u8, 0, 1]))
        .and_then(|model| model.with::<f64>("none", &[0, 4], &[]))
        .expect("tensors")
        .with_metadata("format", "pt")
}

fn must_be_integrity<T: std::fmt::Debug>(result: Result<T>, digest: Option<Digest>, what: &str) {
    let error = result.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error:?}");
    let text = error.to_string();
    assert!(
        text.contains(OWNER) && text.contains(&digest.expect("a digest").to_string()),
        "{what}: {text}"
    );
}

/// F01, F02: loading and opening read as little as they can, and what was read is shared.
#[tokio::test]
async fn nothing_is_read_before_it_is_asked_for() {
    let counting = Counting::new(ObjectStore::memory(), true);
    let store: Arc<dyn ArtifactStore> = counting.clone();
    let weights = saved(model(), &store).await;
    assert_eq!(counting.take_read(), 0, "saving and loading read nothing");
    assert!(weights.size().is_some_and(|size| size > 120_000));
    let tensors = weights.get().await.expect("opens");
    let header = counting.take_read();
    assert!(header < 1024, "opening read {header} bytes");
    assert_eq!(
        tensors.to_vec::<f32>("layer.bias").await.expect("a tensor"),
        [0.5, -1.0, f32::MIN_POSITIVE]
    );
    assert_eq!(counting.take_read(), 12, "one tensor was read alone");
    assert_eq!(tensors.info("layer.weight").expect("it is there").shape, [100, 300]);
    assert_eq!(tensors.metadata()["format"], "pt");
    assert_eq!(tensors.to_vec::<i64>("steps").await.expect("a tensor"), [7]);
    assert!(tensors.to_vec::<f64>("none").await.expect("a tensor").is_empty());
    assert_eq!(tensors.to_vec::<f32>("layer.weight").await.expect("a tensor")[29_999], 29_999.0);
    counting.take_read();
    let again = weights.clone().get().await.expect("opens");
    assert!(Arc::ptr_eq(&tensors, &again), "clones share the value");
    assert_eq!(counting.take_read(), 0);
}

#[tokio::test]
async fn equal_bytes_are_stored_once() {
    let counting = Counting::new(ObjectStore::memory(), true);
    let store: Arc<dyn ArtifactStore> = counting.clone();
    let (first, second) = (Artifact::new(Bytes::from("same")), Artifact::new(Bytes::from("same")));
    assert_eq!(first.save(&store).await.expect("saves"), Put::Written);
    assert_eq!(second.save(&store).await.expect("saves"), Put::Exists);
    assert_eq!(first, second);
    assert_eq!(store.list(None, None).await.expect("a list").len(), 1);
}

/// F04: one element makes a difference.
#[tokio::test]
async fn one_element_changes_the_digest() {
    let store: Arc<dyn ArtifactStore> = Arc::new(ObjectStore::memory());
    let mut values = vec![0.25_f32; 100_000];
    let one = saved(Tensors::new().with("w", &[100_000], &values).expect("a tensor"), &store).await;
    values[50_000] += f32::EPSILON;
    let other =
        saved(Tensors::new().with("w", &[100_000], &values).expect("a tensor"), &store).await;
    assert_ne!(one.digest(), other.digest());
    assert_ne!(one, other);
}

/// F05: a changed byte is found, whatever reads it, and only there.
#[tokio::test]
async fn a_changed_file_is_never_wrong_data() {
    let (_place, store) = folder();
    let tensors = saved(model(), &store).await;
    let digest = tensors.digest();
    let path = store.local_path(digest.expect("a digest")).expect("a file");
    let good = fs::read(&path).expect("a file");
    let reference = serde_json::to_value(&tensors).expect("a reference");
    let again =
        || Artifact::<Tensors>::stored(reference.clone(), &store, OWNER).expect("a reference");

    let mut bad = good.clone();
    *bad.last_mut().expect("not empty") ^= 1; // the mask lies last
    fs::write(&path, &bad).expect("a changed file");
    let opened = again().get().await.expect("the header is intact");
    assert_eq!(opened.to_vec::<i64>("steps").await.expect("an intact tensor"), [7]);
    let error = opened.get("mask").await.expect_err("a changed tensor");
    assert!(error.to_string().contains("`mask`"), "{error}");
    must_be_integrity(opened.get("mask").await, digest, "a changed tensor");
    let bytes = Artifact::<Bytes>::stored(reference.clone(), &store, OWNER).expect("a reference");
    must_be_integrity(bytes.get().await, digest, "bytes");
    let file = Artifact::<File>::stored(reference.clone(), &store, OWNER).expect("a reference");
    must_be_integrity(file.get().await, digest, "a file");

    for at in [0, 7, 8, 20, 100] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(&path, &bad).expect("a changed file");
        must_be_integrity(again().get().await, digest, "a changed header");
    }
    for length in [0, 4, 100, good.len() - 1] {
        fs::write(&path, &good[..length]).expect("a truncated file");
        must_be_integrity(again().get().await, digest, "a truncated file");
        must_be_integrity(bytes.get().await, digest, "a truncated file as bytes");
        must_be_integrity(file.get().await, digest, "a truncated file as a file");
    }
    fs::write(&path, [&good[..], b"more"].concat()).expect("a longer file");
    must_be_integrity(again().get().await, digest, "a longer file");
    fs::remove_file(&path).expect("a missing file");
    must_be_integrity(again().get().await, digest, "a missing file");
    must_be_integrity(bytes.get().await, digest, "a missing file as bytes");
    must_be_integrity(file.get().await, digest, "a missing file as a file");
    must_be_integrity(opened.get("steps").await, digest, "a tensor of a missing file");
    fs::write(&path, &good).expect("the file is back");
    assert_eq!(bytes.get().await.expect("a failure is not kept").len(), good.len());
}

/// Intact bytes that are no safetensors file are a decode error, not a claim of damage.
#[tokio::test]
async fn malformed_files_are_decode_errors() {
    let store: Arc<dyn ArtifactStore> = Arc::new(ObjectStore::memory());
    let overlap = br#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    let framed = |header: &[u8], data: &[u8]| {
        [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
    };
    for (bytes, expected) in [
        (framed(overlap, b"123"), "`b` overlaps"),
        (
            framed(br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, b"12"),
            "`a` lies at",
        ),
        (framed(b"no json", b""), "no JSON"),
        (u64::MAX.to_le_bytes().to_vec(), "its header has"),
        (b"tiny".to_vec(), "too short"),
        (Vec::new(), "too short"),
    ] {
        let artifact = saved(Bytes::from(bytes), &store).await;
        let reference = serde_json::to_value(&artifact).expect("a reference");
        let tensors = Artifact::<Tensors>::stored(reference, &store, OWNER).expect("a reference");
        let error = tensors.get().await.expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::Decode, "{error:?}");
        assert!(
            error.to_string().contains(expected) && error.to_string().contains(OWNER),
            "{error}"
        );
    }
}

/// A reference whose digests of tensors were tampered with fails; one without them verifies the
/// whole file.
#[tokio::test]
async fn digests_of_tensors_are_optional_but_binding() {
    let store: Arc<dyn ArtifactStore> = Arc::new(ObjectStore::memory());
    let artifact = saved(model(), &store).await;
    let mut reference = serde_json::to_value(&artifact).expect("a reference");
    assert_eq!(
        reference["tensors"].as_array().map(Vec::len),
        Some(6),
        "the header and five tensors"
    );
    reference["tensors"][2] = reference["tensors"][1].clone();
    let tampered = Artifact::<Tensors>::stored(reference.clone(), &store, OWNER)
        .expect("a reference")
        .get()
        .await
        .expect("opens");
    let mut failed = 0;
    for name in tampered.names() {
        failed += u32::from(tampered.get(name).await.is_err());
    }
    assert_eq!(failed, 1);
    reference.as_object_mut().expect("an object").remove("tensors");
    let plain = Artifact::<Tensors>::stored(reference, &store, OWNER)
        .expect("a reference")
        .get()
        .await
        .expect("opens");
    assert_eq!(plain.to_vec::<i64>("steps").await.expect("a tensor"), [7]);
}

#[tokio::test]
async fn the_file_is_the_one_that_the_safetensors_crate_writes() {
    let (_place, store) = folder();
    let tensors = saved(model(), &store).await;
    let written = fs::read(store.local_path(tensors.digest().expect("a digest")).expect("a file"))
        .expect("a file");
    let read = safetensors::SafeTensors::deserialize(&written).expect("a safetensors file");
    assert_eq!(read.tensor("layer.weight").expect("a tensor").shape(), [100, 300]);
    let views = read.iter().map(|(name, view)| (name.to_owned(), view));
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    assert!(
        safetensors::serialize(views, Some(metadata)).expect("a file") == written,
        "the files differ"
    );
    let again = Tensors::from_bytes(written).expect("a safetensors file");
    assert_eq!(
        again.get("mask").await.expect("a tensor"),
        model().get("mask").await.expect("a tensor")
    );
}

/// A loaded map with one tensor replaced is saved again, from the store and from memory.
#[tokio::test]
async fn a_loaded_map_can_be_changed_and_saved() {
    let store: Arc<dyn ArtifactStore> = Arc::new(ObjectStore::memory());
    let loaded = saved(model(), &store).await.get().await.expect("opens");
    let changed = Tensors::clone(&loaded).with("steps", &[], &[8_i64]).expect("a tensor");
    let direct = saved(model().with("steps", &[], &[8_i64]).expect("a tensor"), &store).await;
    let changed = saved(changed, &store).await;
    assert_eq!(changed, direct);
    let back = changed.get().await.expect("opens");
    assert_eq!(back.to_vec::<i64>("steps").await.expect("a tensor"), [8]);
    assert_eq!(back.to_vec::<f32>("layer.weight").await.expect("a tensor")[3], 3.0);
}

#[tokio::test]
async fn files_stream_in_and_out() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("weights.bin");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    fs::write(&path, &bytes).expect("a file");
    let (_folder, local) = folder();
    let remote: Arc<dyn ArtifactStore> = Counting::new(ObjectStore::memory(), false);
    for store in [local, remote] {
        let file = saved(File::open(&path).expect("a file"), &store).await;
        let opened = file.get().await.expect("opens");
        assert!(
            fs::read(opened.path()).expect("a file") == bytes
                && opened.read().await.expect("a read")[..] == bytes[..]
        );
        assert_ne!(opened.path(), path);
        let (at, own) =
            (opened.path().to_owned(), store.local_path(file.digest().expect("a digest")));
        assert_eq!(
            own.as_ref().is_some_and(|own| *own == at),
            own.is_some(),
            "the store's own file where there is one"
        );
        drop((opened, file));
        assert_eq!(at.exists(), own.is_some(), "a temporary copy goes away");
    }
    let error = File::open(place.path()).expect_err("a folder is no file");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(File::open(place.path().join("missing")).is_err());
}

/// A file that changes between planning and storing is refused, and nothing is stored.
#[tokio::test]
async fn a_file_that_changes_meanwhile_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("weights.bin");
    fs::write(&path, "before").expect("a file");
    let broken: Arc<dyn ArtifactStore> =
        Arc::new(ObjectStore::from_url("memory://").expect("a store"));
    let artifact = Artifact::new(File::open(&path).expect("a file"));
    artifact.save(&broken).await.expect("saves");
    fs::write(&path, "after, and longer").expect("a file");
    let (_place, other) = folder();
    let error: Error = artifact.save(&other).await.expect_err("the file is another one");
    assert!(
        error.to_string().contains("weights.bin") && error.to_string().contains("changed"),
        "{error}"
    );
    assert_eq!(other.list(None, None).await.expect("a list"), []);
}

#[tokio::test]
async fn artifacts_move_between_stores() {
    let (_place, first) = folder();
    let second: Arc<dyn ArtifactStore> = Arc::new(ObjectStore::memory());
    let bytes: Bytes = vec![9; 9_000_001].into();
    let artifact = saved(bytes.clone(), &first).await;
    assert_eq!(artifact.save(&second).await.expect("copies"), Put::Written);
    let there: Value = serde_json::to_value(&artifact).expect("a reference");
    let there = Artifact::<Bytes>::stored(there, &second, OWNER).expect("a reference");
    assert_eq!(*there.get().await.expect("a read"), bytes);
}

/// F10: a file of 256 MiB needs no memory of its size, on the way in and out.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat() {
    // In a process of its own, where no other test takes memory.
    if std::env::var_os("SUPERDUPER_ALONE").is_none() {
        let program = std::env::current_exe().expect("the program of the tests");
        let again = Command::new(program)
            .args(["--exact", "memory_stays_flat", "--nocapture"])
            .env("SUPERDUPER_ALONE", "1")
            .output();
        let again = again.expect("it starts");
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        return;
    }
    fn anonymous() -> u64 {
        let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("weights.bin");
    fs::File::create(&path).and_then(|file| file.set_len(256 << 20)).expect("a file");
    let before = anonymous();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = done.clone();
    let peak = std::thread::spawn(move || {
        let mut peak = 0;
        while !stop.load(Ordering::SeqCst) {
            peak = peak.max(anonymous());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        peak
    });
    let inner = ObjectStore::folder(place.path().join("store")).expect("a store");
    // Without the store's files, loading makes a copy.
    let store: Arc<dyn ArtifactStore> = Counting::new(inner, false);
    let file = saved(File::open(&path).expect("a file"), &store).await;
    assert_eq!(
        fs::metadata(file.get().await.expect("opens").path()).expect("a copy").len(),
        256 << 20
    );
    done.store(true, Ordering::SeqCst);
    let extra = peak.join().expect("the sampler").saturating_sub(before);
    assert!(extra <= 64 * 1024, "{extra} KiB of anonymous memory");
}

/// F09: the Python package reads what we write, and we read what it writes.
#[tokio::test]
async fn the_python_package_reads_and_writes_the_same_files() {
    let place = tempfile::tempdir().expect("a folder");
    let Some(python) = python() else {
        eprintln!("skipped: python package safetensors");
        return;
    };
    let (_folder, store) = folder();
    let ours = saved(model(), &store).await;
    let ours = store.local_path(ours.digest().expect("a digest")).expect("a file");
    let theirs = place.path().join("theirs.safetensors");
    let script = r#"
import sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
read = load_file(sys.argv[1])
assert sorted(read) == ["layer.bias", "layer.weight", "mask", "none", "steps"], sorted(read)
assert read["layer.weight"].shape == (100, 300) and read["layer.weight"].dtype == np.float32
assert (read["layer.weight"] == np.arange(30000, dtype=np.float32).reshape(100, 300)).all()
assert read["steps"].shape == () and read["steps"] == 7 and read["none"].shape == (0, 4)
assert (read["mask"] == np.array([1, 0, 1], dtype=np.uint8)).all()
with safe_open(sys.argv[1], framework="np") as file:
    assert file.metadata() == {"format": "pt"}
save_file({"w": read["layer.weight"] + 1, "half": np.array([[1.5], [2.5]], dtype=np.float16), "flag": np.array([True])}, sys.argv[2])
"#;
    let output = Command::new(python)
        .arg("-c")
        .arg(script)
        .arg(&ours)
        .arg(&theirs)
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = saved(File::open(&theirs).expect("a file"), &store).await;
    let tensors = Artifact::<Tensors>::stored(
        serde_json::to_value(&file).expect("a reference"),
        &store,
        OWNER,
    )
    .expect("a reference");
    let tensors = tensors.get().await.expect("a safetensors file");
    assert_eq!(tensors.to_vec::<f32>("w").await.expect("a tensor")[29_999], 30_000.0);
    let half = tensors.get("half").await.expect("a tensor");
    assert_eq!((half.info.dtype, &half.info.shape[..]), (Dtype::F16, &[2, 1][..]));
    assert_eq!(half.bytes[..], [0x00, 0x3e, 0x00, 0x41]);
    assert_eq!(tensors.info("flag").expect("it is there").dtype, Dtype::Bool);
}

/// A Python with the packages: the one of the system, or one of a virtual environment that is made
/// once.
fn python() -> Option<PathBuf> {
    let has = |python: &Path| {
        let output = Command::new(python).args(["-c", "import safetensors.numpy"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let system = PathBuf::from("python3");
    if has(&system) {
        return Some(system);
    }
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = environment.join("bin").join("python");
    if has(&python) {
        return Some(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return None;
    }
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--timeout",
        "10",
        "--retries",
        "1",
        "safetensors",
        "numpy",
    ];
    let _ = Command::new(&python).args(install).output();
    has(&python).then_some(python)
}
