//! What only a folder can show: damaged files, what interrupted puts leave, missing rights.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use superduper_core::{
    Bytes, Digest, Error, ErrorKind,
    store::{ArtifactStore, Put},
};
use superduper_object::ObjectStore;

fn store(place: &Path) -> Arc<dyn ArtifactStore> {
    Arc::new(ObjectStore::folder(place).expect("a store"))
}

async fn put(store: &Arc<dyn ArtifactStore>, bytes: &'static str) -> (Digest, Put) {
    let digest = Digest::of(bytes.as_bytes());
    let put = store
        .put(digest, bytes.len() as u64, Box::new(std::iter::once(Ok(bytes.into()))))
        .await
        .expect("a put");
    (digest, put)
}

/// All files below a folder, with their bytes.
fn files(place: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(place).expect("inside").to_string_lossy().into_owned();
                found.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_layout_is_the_documented_one() {
    let place = tempfile::tempdir().expect("a folder");
    let (digest, _) = put(&store(place.path()), "weights").await;
    let hex = digest.to_hex();
    assert_eq!(files(place.path()), [(format!("blake3/{}/{hex}", &hex[..2]), b"weights".to_vec())]);
}

#[tokio::test]
async fn a_second_store_on_the_folder_sees_the_blobs() {
    let place = tempfile::tempdir().expect("a folder");
    let (digest, _) = put(&store(place.path()), "shared").await;
    assert_eq!(put(&store(place.path()), "shared").await, (digest, Put::Exists));
}

#[tokio::test]
async fn putting_an_existing_blob_refreshes_its_time_alone() {
    let place = tempfile::tempdir().expect("a folder");
    let store = store(place.path());
    let (digest, _) = put(&store, "in use").await;
    let path = store.local_path(digest).expect("a file");
    let old = SystemTime::now() - Duration::from_secs(86_400);
    fs::File::open(&path).and_then(|file| file.set_modified(old)).expect("a time");
    put(&store, "in use").await;
    let age =
        store.list(None, None).await.expect("a list")[0].modified.elapsed().unwrap_or_default();
    assert!(age < Duration::from_secs(600), "{age:?}");
}

#[tokio::test]
async fn a_truncated_blob_is_found_and_replaced() {
    let place = tempfile::tempdir().expect("a folder");
    let store = store(place.path());
    let (digest, _) = put(&store, "all of the weights").await;
    let path = store.local_path(digest).expect("a file");
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(7))
        .expect("a truncated file");
    assert_eq!(store.size(digest).await.expect("a size"), Some(7));
    let error = store.get_range(digest, 0..18).await.expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    assert_eq!(put(&store, "all of the weights").await, (digest, Put::Written));
    assert_eq!(&store.get_range(digest, 0..18).await.expect("a read")[..], b"all of the weights");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_and_dropped_puts_leave_no_file_at_all() {
    let place = tempfile::tempdir().expect("a folder");
    let store = store(place.path());
    let digest = Digest::of(b"never");
    let failing = vec![Ok(Bytes::from("nev")), Err(Error::msg("gone"))];
    store.put(digest, 5, Box::new(failing.into_iter())).await.expect_err("the source fails");
    store
        .put(digest, 5, Box::new(std::iter::once(Ok("other".into()))))
        .await
        .expect_err("other bytes");
    let endless = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(1));
        Ok(Bytes::from("x"))
    });
    let dropped = tokio::time::timeout(
        Duration::from_millis(50),
        store.put(digest, 1 << 40, Box::new(endless)),
    );
    dropped.await.expect_err("it never ends");
    for _ in 0..100 {
        if files(place.path()).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("left: {:?}", files(place.path()));
}

#[tokio::test]
async fn leftovers_of_a_killed_process_are_cleared_by_age() {
    let place = tempfile::tempdir().expect("a folder");
    let store = store(place.path());
    let (digest, _) = put(&store, "kept").await;
    let leftover = place.path().join("incoming").join("half-written");
    fs::write(&leftover, "half").expect("a file");
    let blobs = store
        .list(None, Some(SystemTime::now() - Duration::from_secs(3600)))
        .await
        .expect("a list");
    assert_eq!(blobs.len(), 1);
    assert!(leftover.exists(), "a put may still be writing it");
    let blobs = store
        .list(None, Some(SystemTime::now() + Duration::from_secs(3600)))
        .await
        .expect("a list");
    assert_eq!(blobs.iter().map(|blob| blob.digest).collect::<Vec<_>>(), [digest]);
    assert!(!leftover.exists());
}

/// F06: SIGKILL in the middle of a put. The page cache survives it: this shows the order of the
/// writes, not the fsync.
#[cfg(unix)]
#[tokio::test]
async fn a_killed_put_leaves_nothing_under_the_name() {
    let place = tempfile::tempdir().expect("a folder");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_process_that_is_killed"])
        .env(KILLED, place.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("a child");
    let incoming = place.path().join("incoming");
    let written =
        || fs::read_dir(&incoming).ok()?.next()?.ok()?.metadata().ok().map(|found| found.len());
    let started = std::time::Instant::now();
    while written().unwrap_or(0) < 64 * 1024 {
        assert!(started.elapsed() < Duration::from_secs(30), "the child writes nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let store = store(place.path());
    assert_eq!(store.size(Digest::of(b"never")).await.expect("a size"), None);
    assert_eq!(
        store
            .list(None, Some(SystemTime::now() + Duration::from_secs(3600)))
            .await
            .expect("a list"),
        []
    );
    assert_eq!(files(place.path()), []);
}

#[cfg(unix)]
const KILLED: &str = "SUPERDUPER_TEST_KILLED_PUT";

/// Not a test of its own: puts without end where the variable is set.
#[cfg(unix)]
#[tokio::test]
async fn the_process_that_is_killed() {
    let Ok(place) = std::env::var(KILLED) else { return };
    let endless = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(1));
        Ok(Bytes::from(vec![1; 16 * 1024]))
    });
    store(Path::new(&place))
        .put(Digest::of(b"never"), 1 << 40, Box::new(endless))
        .await
        .expect("it never ends");
}

#[tokio::test]
async fn foreign_files_are_left_alone() {
    let place = tempfile::tempdir().expect("a folder");
    let store = store(place.path());
    let (digest, _) = put(&store, "ours").await;
    let folder = place.path().join("blake3").join(&digest.to_hex()[..2]);
    fs::write(folder.join("notes.txt"), "mine").expect("a file");
    fs::write(place.path().join("blake3").join(Digest::of(b"misplaced").to_hex()), "mine")
        .expect("a file");
    assert_eq!(
        store
            .list(None, Some(SystemTime::now() + Duration::from_secs(3600)))
            .await
            .expect("a list")
            .len(),
        1
    );
    assert_eq!(files(place.path()).len(), 3);
}

/// Something that no user may write through, not even root: a file where a folder is needed.
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let place = tempfile::tempdir().expect("a folder");
    let store = store(place.path());
    fs::write(place.path().join("incoming"), "in the way").expect("a file");
    let digest = Digest::of(b"weights");
    let error = store
        .put(digest, 7, Box::new(std::iter::once(Ok("weights".into()))))
        .await
        .expect_err("nowhere to write");
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = error.to_string();
    assert!(
        text.contains(&digest.to_string()) && text.contains(&place.path().display().to_string()),
        "{text}"
    );
    assert_eq!(store.size(digest).await.expect("a size"), None);
    let error =
        ObjectStore::folder(place.path().join("incoming")).expect_err("a file is no folder");
    assert_eq!(error.kind(), ErrorKind::Store);
}

#[cfg(unix)]
#[tokio::test]
async fn a_read_only_folder_is_named_with_a_hint() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().expect("a folder");
    let store = store(place.path());
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o555)).expect("rights");
    if fs::write(place.path().join("probe"), "").is_ok() {
        eprintln!("skipped: a read-only folder (this user may write everywhere)");
        return;
    }
    let digest = Digest::of(b"weights");
    let error = store
        .put(digest, 7, Box::new(std::iter::once(Ok("weights".into()))))
        .await
        .expect_err("no right to write");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("rights");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("hint: give this user the right to write"), "{error}");
    assert_eq!(files(place.path()), []);
}
