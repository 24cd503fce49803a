//! Arbitrary bytes as a bundle: an import refuses them without a panic and without a trace, or
//! takes them whole.

use crate::bundle_refused::{forge, sample};
use std::{cell::RefCell, path::Path};
use superduper::{Db, prelude::*};

/// The body of a fuzzer: import some bytes as a tar file into an empty database.
pub(crate) fn bundle(data: &[u8]) {
    thread_local! {
        static RUNTIME: RefCell<(tokio::runtime::Runtime, tempfile::TempDir)> = RefCell::new((
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            tempfile::tempdir().expect("a temporary folder"),
        ));
    }
    RUNTIME.with_borrow(|(runtime, folder)| {
        let path = folder.path().join("fuzzed.tar");
        std::fs::write(&path, data).expect("written");
        runtime.block_on(import(&path));
    });
}

async fn import(path: &Path) {
    let db = Db::in_memory().await.expect("opens");
    let imported = db.import(path).await;
    let listed = db.list().await.expect("lists");
    match imported {
        Ok(applied) => {
            // What was taken is whole: it can be loaded and exported, and nothing is missing.
            db.load_dyn(applied.address.clone()).await.expect("loads");
            let report = db.verify().await.expect("verifies");
            assert!(report.is_sound(), "{report}");
            db.export(applied.address, path.with_extension("again.tar"))
                .replace()
                .await
                .expect("exports");
        }
        Err(error) => {
            assert!(listed.is_empty(), "a refused bundle left something: {error}");
            assert!(
                db.artifact_store().list(None, None).await.expect("blobs").is_empty(),
                "a refused bundle left blobs: {error}"
            );
            assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
        }
    }
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Change some bytes of a tar file; headers get right checksums most of the time, so that more than
/// those is tried.
fn mutate(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(3) {
        let blocks = bytes.len() / 512;
        let (from, to) = (random.below(blocks) * 512, random.below(blocks) * 512);
        match random.below(7) {
            0 => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            1 => bytes.truncate(random.below(bytes.len())),
            2 => bytes.copy_within(from..from + 512, to),
            3 => drop(bytes.drain(from..from + 512)),
            4 => {
                let block = bytes[from..from + 512].to_vec();
                bytes.splice(to..to, block);
            }
            5 => {
                // Somewhere in the name, size, kind or magic of a header.
                let at = from
                    + [random.below(100), 124 + random.below(12), 156, 257 + random.below(8), 345]
                        [random.below(5)];
                bytes[at] = [b'0', b'7', b'/', b'.', 0, 0x80, 0xff, b'5', b'2'][random.below(9)];
            }
            _ => {
                let at = random.below(bytes.len());
                let end = bytes.len().min(at + 1 + random.below(40));
                bytes[at..end].fill([0, b'9', b'"', b'}', 0xff][random.below(5)]);
            }
        }
        if bytes.len() < 1024 {
            break;
        }
        if random.below(4) > 0 {
            let header = random.below(bytes.len() / 512) * 512;
            let block = &mut bytes[header..header + 512];
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
    bytes
}

#[test]
fn fuzzed_bytes_are_refused_or_taken_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("good.tar");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(sample(&path));
    let good = std::fs::read(path).expect("readable");
    bundle(&good);
    let mut random = Random(0x5eed_b0bd_1e00_0001);
    for _ in 0..3000 {
        bundle(&mutate(&good, &mut random));
    }
}

/// Replace a random value of a document by another.
fn mutate_json(value: &mut Value, random: &mut Random) {
    let inside = match value {
        Value::Array(items) => items.iter_mut().collect::<Vec<_>>(),
        Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    };
    let place = random.below(inside.len() + 1);
    match inside.into_iter().nth(place) {
        Some(inner) => mutate_json(inner, random),
        None => {
            *value = match random.below(10) {
                0 => Value::Null,
                1 => json!(random.below(3)),
                2 => json!({}),
                3 => json!([[]]),
                4 => json!("refused.Leaf/leaf@0"),
                5 => json!({"$ref": "refused.Root/root@0"}),
                6 => json!({"$blob": "blake3:00", "size": -1}),
                7 => json!("\u{0}/../\u{10ffff}@"),
                8 => {
                    json!({"$secret": "x", "$callable": "y", "$kind": "refused.Leaf", "$body": {}})
                }
                _ => json!(f64::MAX),
            }
        }
    }
}

#[tokio::test]
async fn forged_documents_are_refused_or_taken_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut random = Random(0x5eed_b0bd_1e00_0002);
    let good = folder.path().join("good");
    sample(&good).await;
    let names = ["bundle.json", "components/000000.json", "components/000001.json"];
    let originals = names.map(|name| std::fs::read(good.join(name)).expect("readable"));
    for _ in 0..600 {
        forge(&good, |documents, manifest| match random.below(4) {
            0 => mutate_json(manifest, &mut random),
            place => {
                let place = place % documents.len();
                mutate_json(&mut documents[place], &mut random);
            }
        });
        import(&good).await;
        for (name, bytes) in names.iter().zip(&originals) {
            std::fs::write(good.join(name), bytes).expect("written");
        }
    }
}
