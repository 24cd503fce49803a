//! What every artifact store must do.
//!
//! Each function takes a store that is empty; [`run_all`] makes one for each of them. They panic
//! where the store breaks the contract of [`ArtifactStore`], and say how.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use superduper_core::{
    Bytes, Digest, Error, ErrorKind, Hasher, Result,
    store::{ArtifactStore, Chunks, Put},
};

/// A store under test.
pub type Store = Arc<dyn ArtifactStore>;

/// Run all functions of this module, each on a new store.
///
/// # Panics
/// Where the store breaks the contract.
pub async fn run_all(new_store: impl Fn() -> Store) {
    round_trip(new_store()).await;
    empty_blob(new_store()).await;
    ranges(new_store()).await;
    missing_blob(new_store()).await;
    duplicate_put(new_store()).await;
    wrong_digest(new_store()).await;
    wrong_size(new_store()).await;
    failing_source(new_store()).await;
    panicking_source(new_store()).await;
    dropped_put(new_store()).await;
    large_blob(new_store()).await;
    failing_large_blob(new_store()).await;
    immutable_put(new_store()).await;
    concurrent_puts(new_store()).await;
    concurrent_blobs(new_store()).await;
    delete(new_store()).await;
    list(new_store()).await;
    shards(new_store()).await;
    quarantine(new_store()).await;
}

fn chunks(parts: &[&[u8]]) -> Chunks {
    let parts: Vec<Result<Bytes>> = parts.iter().map(|part| Ok(Bytes::from(*part))).collect();
    Box::new(parts.into_iter())
}

async fn put(store: &Store, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    store.put(digest, bytes.len() as u64, chunks(&[bytes])).await.expect("a put");
    digest
}

async fn read(store: &Store, digest: Digest) -> Bytes {
    let size = store.size(digest).await.expect("a size").expect("the blob exists");
    store.get_range(digest, 0..size).await.expect("a read")
}

fn must_fail<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, what: &str) -> Error {
    match result {
        Ok(value) => panic!("{what} must fail, but gave {value:?}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{what}: {error:?}");
            error
        }
    }
}

/// Nothing is stored: neither under the name nor in the list.
async fn must_be_empty(store: &Store, digest: Digest) {
    assert_eq!(
        store.size(digest).await.expect("a size"),
        None,
        "a refused put left something under its name"
    );
    assert_eq!(store.list(None, None).await.expect("a list"), [], "a refused put is listed");
    assert!(
        store.local_path(digest).is_none_or(|path| !path.exists()),
        "a refused put left a file"
    );
}

/// What was put is what is read.
pub async fn round_trip(store: Store) {
    let bytes = b"one blob in three chunks";
    let digest = Digest::of(bytes);
    let parts = [&bytes[..3], &bytes[3..3], &bytes[3..]];
    assert_eq!(
        store.put(digest, bytes.len() as u64, chunks(&parts)).await.expect("a put"),
        Put::Written
    );
    assert_eq!(store.size(digest).await.expect("a size"), Some(bytes.len() as u64));
    assert_eq!(&read(&store, digest).await[..], bytes);
    if store.capabilities().local_files {
        let path = store.local_path(digest).expect("a store with local files has the blob's file");
        assert_eq!(std::fs::read(path).expect("the blob's file"), bytes);
    }
}

/// A blob may have no bytes.
pub async fn empty_blob(store: Store) {
    let digest = Digest::of(b"");
    assert_eq!(store.put(digest, 0, chunks(&[])).await.expect("a put"), Put::Written);
    assert_eq!(store.size(digest).await.expect("a size"), Some(0));
    assert_eq!(read(&store, digest).await.len(), 0);
    assert_eq!(store.put(digest, 0, chunks(&[])).await.expect("a put"), Put::Exists);
}

/// Part of a blob can be read; a range beyond its end is refused, never cut.
pub async fn ranges(store: Store) {
    let bytes: Vec<u8> = (0..=255).collect();
    let digest = put(&store, &bytes).await;
    for range in [0..256, 0..1, 255..256, 17..200, 0..0, 100..100, 256..256] {
        let part = store.get_range(digest, range.clone()).await.expect("a range");
        assert_eq!(&part[..], &bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    for range in [0..257, 256..257, 1000..1001] {
        must_fail(
            store.get_range(digest, range.clone()).await,
            ErrorKind::Integrity,
            &format!("reading {range:?} of 256 bytes"),
        );
    }
}

/// A blob that does not exist has no size and cannot be read.
pub async fn missing_blob(store: Store) {
    let digest = Digest::of(b"never put");
    assert_eq!(store.size(digest).await.expect("a size"), None);
    let error = must_fail(
        store.get_range(digest, 0..1).await,
        ErrorKind::Integrity,
        "reading a missing blob",
    );
    assert!(error.to_string().contains(&digest.to_string()), "the error names the digest: {error}");
    must_fail(
        store.get_range(digest, 0..0).await,
        ErrorKind::Integrity,
        "reading nothing of a missing blob",
    );
}

/// Putting a blob that exists pulls no chunk and keeps the bytes.
pub async fn duplicate_put(store: Store) {
    let digest = put(&store, b"twice").await;
    let pulled = Arc::new(AtomicUsize::new(0));
    for immutable in [false, true] {
        let counter = pulled.clone();
        let source: Chunks = Box::new(std::iter::from_fn(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Some(Err(Error::msg("pulled")))
        }));
        let put = if immutable {
            store.put_immutable(digest, 5, source)
        } else {
            store.put(digest, 5, source)
        };
        assert_eq!(put.await.expect("a second put"), Put::Exists);
    }
    assert_eq!(pulled.load(Ordering::SeqCst), 0, "a put of an existing blob pulled its source");
    assert_eq!(&read(&store, digest).await[..], b"twice");
    assert_eq!(store.list(None, None).await.expect("a list").len(), 1);
}

/// Bytes that do not have the announced digest are refused.
pub async fn wrong_digest(store: Store) {
    let digest = Digest::of(b"right");
    let error = must_fail(
        store.put(digest, 5, chunks(&[b"wrong"])).await,
        ErrorKind::Integrity,
        "other bytes than announced",
    );
    assert!(error.to_string().contains(&digest.to_string()), "the error names the digest: {error}");
    must_be_empty(&store, digest).await;
    // And the refused put is no obstacle for a right one.
    assert_eq!(put(&store, b"right").await, digest);
    assert_eq!(&read(&store, digest).await[..], b"right");
}

/// More or fewer bytes than announced are refused.
pub async fn wrong_size(store: Store) {
    let digest = Digest::of(b"right");
    for size in [0, 4, 6] {
        must_fail(
            store.put(digest, size, chunks(&[b"rig", b"ht"])).await,
            ErrorKind::Integrity,
            "another size than announced",
        );
        must_be_empty(&store, digest).await;
        must_fail(
            store.put_immutable(digest, size, chunks(&[b"rig", b"ht"])).await,
            ErrorKind::Integrity,
            "another size than announced",
        );
        must_be_empty(&store, digest).await;
    }
}

/// A source that fails half-way leaves nothing, and its error comes through.
pub async fn failing_source(store: Store) {
    let digest = Digest::of(b"first half, second half");
    let parts = vec![Ok(Bytes::from("first half")), Err(Error::msg("the disk is on fire"))];
    let error = must_fail(
        store.put(digest, 23, Box::new(parts.into_iter())).await,
        ErrorKind::User,
        "a failing source",
    );
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
    must_be_empty(&store, digest).await;
}

/// A source that panics half-way leaves nothing.
pub async fn panicking_source(store: Store) {
    let digest = Digest::of(b"first");
    let mut pulled = 0;
    let source: Chunks = Box::new(std::iter::from_fn(move || {
        pulled += 1;
        if pulled == 2 {
            std::panic::panic_any("a panic of the source, on purpose")
        } else {
            Some(Ok(Bytes::from("first")))
        }
    }));
    let other = store.clone();
    let outcome = tokio::spawn(async move { other.put(digest, 5, source).await }).await;
    assert!(!matches!(outcome, Ok(Ok(_))), "the put of a panicking source succeeded");
    must_be_empty(&store, digest).await;
}

/// A put whose future is dropped half-way leaves nothing under the name.
pub async fn dropped_put(store: Store) {
    let pieces: Vec<Bytes> = (0..4_u8).map(|piece| vec![piece; 1024 * 1024].into()).collect();
    let mut hasher = Hasher::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    let digest = hasher.finish();
    let (first, begun) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let mut first = Some(first);
    let source: Chunks = Box::new(pieces.into_iter().enumerate().map(move |(index, piece)| {
        if index == 1 {
            let _ = first.take().map(|first| first.send(()));
            let _ = released.recv();
        }
        Ok(piece)
    }));
    let other = store.clone();
    let put = tokio::spawn(async move { other.put(digest, 4 * 1024 * 1024, source).await });
    begun.await.expect("the source is pulled");
    put.abort();
    assert!(
        put.await.is_err_and(|error| error.is_cancelled()),
        "the put was still waiting for its source"
    );
    release.send(()).expect("the source waits");
    tokio::time::sleep(Duration::from_millis(100)).await;
    must_be_empty(&store, digest).await;
}

const PIECE: usize = 1024 * 1024;

/// 64 MiB, without holding them, that no two pieces of are alike.
fn large() -> impl Iterator<Item = Bytes> + Send {
    (0..64_u64).map(|piece| {
        let mut bytes = vec![0; PIECE];
        for (index, word) in bytes.chunks_mut(8).enumerate() {
            word.copy_from_slice(
                &((piece << 32) + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes(),
            );
        }
        bytes.into()
    })
}

/// A blob of many parts is put and read in a stream.
pub async fn large_blob(store: Store) {
    let mut hasher = Hasher::new();
    large().for_each(|piece| hasher.update(&piece));
    let digest = hasher.finish();
    let size = 64 * PIECE as u64;
    assert_eq!(
        store.put(digest, size, Box::new(large().map(Ok))).await.expect("a put"),
        Put::Written
    );
    assert_eq!(store.size(digest).await.expect("a size"), Some(size));
    for (index, piece) in large().enumerate() {
        let start = (index * PIECE) as u64;
        let found = store.get_range(digest, start..start + PIECE as u64).await.expect("a range");
        assert!(found[..] == piece[..], "piece {index} differs");
    }
}

/// A blob of many parts whose source fails, or gives other bytes at the very end, leaves nothing.
pub async fn failing_large_blob(store: Store) {
    let digest = Digest::of(b"another digest");
    let size = 64 * PIECE as u64;
    must_fail(
        store.put(digest, size, Box::new(large().map(Ok))).await,
        ErrorKind::Integrity,
        "other bytes than announced",
    );
    must_be_empty(&store, digest).await;
    let failing = large()
        .enumerate()
        .map(|(index, piece)| if index == 40 { Err(Error::msg("gone")) } else { Ok(piece) });
    must_fail(
        store.put(digest, size, Box::new(failing)).await,
        ErrorKind::User,
        "a failing source",
    );
    must_be_empty(&store, digest).await;
}

/// Memory whose digest is known need not be hashed, but is stored as any other.
pub async fn immutable_put(store: Store) {
    let digest = Digest::of(b"from memory");
    assert_eq!(
        store.put_immutable(digest, 11, chunks(&[b"from ", b"memory"])).await.expect("a put"),
        Put::Written
    );
    assert_eq!(&read(&store, digest).await[..], b"from memory");
}

/// Many puts of one blob at once: all succeed, there is one blob.
pub async fn concurrent_puts(store: Store) {
    let bytes: Bytes = vec![7; 3 * PIECE + 5].into();
    let digest = Digest::of(&bytes);
    let puts: Vec<_> = (0..8)
        .map(|_| {
            let (store, bytes) = (store.clone(), bytes.clone());
            let pieces = (0..4).map(move |index| {
                Ok(bytes.slice(index * PIECE..bytes.len().min((index + 1) * PIECE)))
            });
            tokio::spawn(async move {
                store.put(digest, (3 * PIECE + 5) as u64, Box::new(pieces)).await
            })
        })
        .collect();
    for put in puts {
        put.await.expect("no panic").expect("a put");
    }
    assert!(read(&store, digest).await[..] == bytes[..], "the bytes differ");
    assert_eq!(store.list(None, None).await.expect("a list").len(), 1);
}

/// Many blobs at once do not get mixed up.
pub async fn concurrent_blobs(store: Store) {
    let puts: Vec<_> = (0..32)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(
                async move { put(&store, format!("blob number {number}").as_bytes()).await },
            )
        })
        .collect();
    for (number, put) in puts.into_iter().enumerate() {
        let digest = put.await.expect("no panic");
        assert_eq!(&read(&store, digest).await[..], format!("blob number {number}").as_bytes());
    }
}

/// Deleting removes one blob; deleting again succeeds.
pub async fn delete(store: Store) {
    let digest = put(&store, b"short-lived").await;
    let other = put(&store, b"stays").await;
    store.delete(digest).await.expect("a delete");
    assert_eq!(store.size(digest).await.expect("a size"), None);
    must_fail(store.get_range(digest, 0..1).await, ErrorKind::Integrity, "reading a deleted blob");
    store.delete(digest).await.expect("a delete of a missing blob");
    assert_eq!(&read(&store, other).await[..], b"stays");
    assert_eq!(put(&store, b"short-lived").await, digest);
    assert_eq!(&read(&store, digest).await[..], b"short-lived");
}

/// The list has each blob once, with its size and a plausible time; clearing leftovers removes no
/// blob.
pub async fn list(store: Store) {
    assert_eq!(store.list(None, None).await.expect("a list of nothing"), []);
    let mut expected = Vec::new();
    for length in [0, 1, 1000] {
        let bytes = vec![42; length];
        expected.push((put(&store, &bytes).await, length as u64));
    }
    expected.sort_unstable();
    let now = SystemTime::now();
    for leftovers_before in [None, Some(now + Duration::from_secs(3600))] {
        let blobs = store.list(None, leftovers_before).await.expect("a list");
        let mut found: Vec<(Digest, u64)> =
            blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        for blob in blobs {
            let age = now.duration_since(blob.modified).unwrap_or_else(|error| error.duration());
            assert!(age < Duration::from_secs(600), "the time of a new blob is {age:?} away");
        }
    }
}

/// Blobs can be listed by the first byte of their digests; together the shards are the whole.
pub async fn shards(store: Store) {
    for number in 0..40 {
        put(&store, format!("blob {number}").as_bytes()).await;
    }
    let mut gathered = Vec::new();
    for byte in 0..=255 {
        let shard = store.list(Some(byte), None).await.expect("a list");
        assert!(
            shard.iter().all(|blob| blob.digest.as_bytes()[0] == byte),
            "a shard has digests of its first byte"
        );
        gathered.extend(shard);
    }
    assert_eq!(gathered, store.list(None, None).await.expect("a list"));
    assert_eq!(gathered.len(), 40);
}

/// A blob that was moved aside is gone until it is put again.
pub async fn quarantine(store: Store) {
    let digest = put(&store, b"damaged").await;
    let other = put(&store, b"intact").await;
    for _ in 0..2 {
        store.quarantine(digest).await.expect("a move");
        assert_eq!(store.size(digest).await.expect("a size"), None);
        must_fail(
            store.get_range(digest, 0..1).await,
            ErrorKind::Integrity,
            "reading a blob that was moved aside",
        );
        assert_eq!(store.list(None, None).await.expect("a list").len(), 1, "it is not listed");
    }
    assert_eq!(store.put(digest, 7, chunks(&[b"damaged"])).await.expect("a put"), Put::Written);
    assert_eq!(&read(&store, digest).await[..], b"damaged");
    store.quarantine(digest).await.expect("an earlier one of the same name is replaced");
    assert_eq!(&read(&store, other).await[..], b"intact");
}
