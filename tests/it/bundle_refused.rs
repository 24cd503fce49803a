//! Bundles that are damaged, edited or made to do harm: each is refused, and nothing is written.

use crate::support::{Database, databases, in_memory, refused, says};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use superduper::{Bytes, Digest, Error, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "refused.Leaf")]
struct Leaf {
    identifier: String,
    data: Artifact<Bytes>,
}

#[derive(Component, Clone)]
#[component(kind = "refused.Root")]
struct Root {
    identifier: String,
    leaf: Leaf,
    number: i64,
}

/// The bytes of a bundle of two components and one blob.
pub(crate) async fn sample(path: &Path) {
    let on = in_memory().await;
    let leaf = Leaf { identifier: "leaf".into(), data: Bytes::from("the bytes of a blob").into() };
    on.db.apply(Root { identifier: "root".into(), leaf, number: 42 }).await.expect("applies");
    on.db.export("refused.Root/root", path).await.expect("exports");
}

async fn untouched(on: &Database) -> bool {
    on.db.list().await.expect("lists").is_empty()
        && on.blob_count().await == 0
        && on.metadata.commits() == 0
}

/// The error of importing a bundle, which must leave no trace.
async fn import(path: &Path) -> Error {
    let mut last = None;
    for on in databases().await {
        let error = refused(on.db.import(path).await);
        assert_eq!(refused(on.db.plan_import(path).await).to_string(), error.to_string());
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "it names the bundle: {error}"
        );
        assert!(untouched(&on).await, "nothing is written: {error}");
        last = Some(error);
    }
    last.expect("there are databases")
}

/// A folder with a sample in each form, and a place to write others.
struct Samples(tempfile::TempDir);

impl Samples {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        sample(&folder.path().join("good.tar")).await;
        sample(&folder.path().join("good")).await;
        Samples(folder)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn tar(&self) -> Vec<u8> {
        std::fs::read(self.path("good.tar")).expect("readable")
    }
    async fn import_bytes(&self, bytes: &[u8]) -> Error {
        std::fs::write(self.path("bad.tar"), bytes).expect("written");
        import(&self.path("bad.tar")).await
    }
    /// Import the folder after a change to it, and make it good again.
    async fn import_changed(&self, change: impl FnOnce(&Path)) -> Error {
        let copy = self.path("copy");
        for (name, bytes) in files(&self.path("good")) {
            let path = copy.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, bytes).expect("written");
        }
        change(&copy);
        let error = import(&copy).await;
        std::fs::remove_dir_all(copy).expect("removed");
        error
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let blob = Digest::of(b"the bytes of a blob").to_hex();
    let names = [
        "bundle.json".to_owned(),
        "components/000000.json".into(),
        "components/000001.json".into(),
    ];
    let names = names.into_iter().chain([format!("blobs/blake3/{}/{blob}", &blob[..2])]);
    names.map(|name| (name.clone(), std::fs::read(folder.join(&name)).expect("readable"))).collect()
}

/// Write the documents of a bundle anew, with digests that fit.
pub(crate) fn forge(folder: &Path, edit: impl FnOnce(&mut Vec<Value>, &mut Value)) {
    let read = |name: &str| {
        std::fs::read(folder.join(name))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
    };
    let mut manifest = read("bundle.json").expect("a manifest");
    let mut documents: Vec<Value> =
        (0..).map_while(|index| read(&format!("components/{index:06}.json"))).collect();
    edit(&mut documents, &mut manifest);
    if !manifest.is_object() {
        manifest = json!({"_format": manifest});
    }
    let mut listed = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let (text, file) = (format!("{document}\n"), format!("components/{index:06}.json"));
        std::fs::write(folder.join(&file), &text).expect("written");
        listed.push(json!({"address": document["address"], "digest": Digest::of(text.as_bytes()), "file": file, "size": text.len()}));
    }
    manifest["components"] = Value::from(listed);
    if let Some(map) = manifest.as_object_mut() {
        map.remove("digest");
    }
    manifest["digest"] = json!(Digest::of(format!("{manifest}\n").as_bytes()));
    std::fs::write(folder.join("bundle.json"), format!("{manifest}\n")).expect("written");
}

#[tokio::test]
async fn what_is_no_bundle_is_refused() {
    let samples = Samples::new().await;
    says(&import(&samples.path("absent")).await, ErrorKind::NotFound, &["there is nothing"]);
    std::fs::create_dir(samples.path("empty")).expect("a folder");
    says(&import(&samples.path("empty")).await, ErrorKind::Format, &["not a bundle", "hint"]);
    says(&samples.import_bytes(b"").await, ErrorKind::Integrity, &["incomplete"]);
    says(
        &samples.import_bytes(&[7; 4096]).await,
        ErrorKind::Format,
        &["neither a folder nor a plain tar"],
    );
    says(&samples.import_bytes(&[0; 4096]).await, ErrorKind::Format, &["not a bundle"]);
    says(
        &samples.import_bytes(&[&[0x1f, 0x8b][..], &[0; 4096]].concat()).await,
        ErrorKind::Format,
        &["compressed with gzip", "unpack it first"],
    );
    // A database is a folder, too.
    let on = crate::support::in_folder().await;
    let folder = on.artifact_folder().expect("a folder").parent().expect("a parent").to_owned();
    says(&import(&folder).await, ErrorKind::Format, &["is refused"]);
}

#[tokio::test]
async fn a_newer_format_is_refused_by_name() {
    let samples = Samples::new().await;
    // What a newer format has inside is unknown here: all but the number may differ.
    let newer = json!({"_format": 2, "anything": ["else"]}).to_string();
    let error = samples
        .import_changed(|folder| {
            std::fs::write(folder.join("bundle.json"), newer).expect("written")
        })
        .await;
    says(
        &error,
        ErrorKind::Format,
        &["format 2", "formats up to 1", "newer version of superduper"],
    );
    let error = samples
        .import_changed(|folder| forge(folder, |documents, _| documents[0]["_format"] = json!(2)))
        .await;
    says(&error, ErrorKind::Format, &["format 2"]);
    let error = samples
        .import_changed(|folder| std::fs::write(folder.join("bundle.json"), "{}").expect("written"))
        .await;
    says(&error, ErrorKind::Format, &["tells no format"]);
}

#[tokio::test]
async fn a_truncated_bundle_is_refused_wherever_it_ends() {
    let samples = Samples::new().await;
    let whole = samples.tar();
    let on = in_memory().await;
    let cuts =
        (0..whole.len() - 512).step_by(512).flat_map(|block| [block, block + 1, block + 300]);
    for cut in cuts.filter(|cut| *cut < whole.len() - 1024) {
        std::fs::write(samples.path("bad.tar"), &whole[..cut]).expect("written");
        let error = refused(on.db.import(samples.path("bad.tar")).await);
        assert!(
            matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Format),
            "cut at {cut}: {error}"
        );
        assert!(untouched(&on).await, "cut at {cut}");
    }
    for name in files(&samples.path("good")).keys().filter(|name| *name != "bundle.json") {
        let error = samples
            .import_changed(|folder| std::fs::remove_file(folder.join(name)).expect("removed"))
            .await;
        says(&error, ErrorKind::Integrity, &["incomplete", name, "missing"]);
    }
}

#[tokio::test]
async fn a_changed_byte_is_found_wherever_it_is() {
    let samples = Samples::new().await;
    for (name, bytes) in files(&samples.path("good")) {
        for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let error = samples
                .import_changed(|folder| {
                    std::fs::write(folder.join(&name), changed).expect("written")
                })
                .await;
            assert!(matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Format), "{error}");
            assert!(error.to_string().contains(&name), "{error}");
        }
        let longer = [&bytes[..], b" "].concat();
        let error = samples
            .import_changed(|folder| std::fs::write(folder.join(&name), longer).expect("written"))
            .await;
        says(&error, ErrorKind::Integrity, &[&name]);
    }
}

/// A tar header with any name and kind, and a right checksum.
fn entry(name: &str, kind: u8, size: &[u8], content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = kind;
    if matches!(kind, b'1' | b'2') {
        block[157..168].copy_from_slice(b"/etc/passwd");
    }
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

#[tokio::test]
async fn entries_that_lead_elsewhere_are_refused() {
    let samples = Samples::new().await;
    let good = samples.tar();
    let octal = |size: usize| format!("{size:011o}").into_bytes();
    let none = octal(0);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (entry("../evil", b'0', &octal(4), b"evil"), "leads out"),
        (entry("components/../../evil", b'0', &octal(4), b"evil"), "leads out"),
        (entry("/etc/evil", b'0', &octal(4), b"evil"), "absolute"),
        (entry("..\\evil", b'0', &none, b""), "absolute"),
        (entry("components/000002.json", b'2', &none, b""), "link"),
        (entry("components/000002.json", b'1', &none, b""), "link"),
        (entry("components/000002.json", b'3', &none, b""), "device"),
        (entry("components/000002.json", b'6', &none, b""), "device"),
        (entry("components/000002.json", b'x', &octal(4), b"evil"), "--format=ustar"),
        (entry("components/000002.json", b'S', &none, b""), "no plain file"),
        (entry("blobs/blake3/..", b'5', &none, b""), "leads out"),
        (entry("elsewhere/", b'5', &none, b""), "no folder of that name"),
        (entry("extra.json", b'0', &none, b""), "no file of that name"),
        (entry("components/000002.json", b'0', &none, b""), "does not list it"),
        (entry("bundle.json", b'0', &none, b""), "twice"),
        (entry("components/000002.json", b'0', b"77777777777", b""), "claims"),
        (
            entry(
                "components/000002.json",
                b'0',
                &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                b"",
            ),
            "claims",
        ),
        (entry("components/000002.json", b'0', b"-1", b""), "not a number"),
        (entry("components/000002.json", b'0', b"99", b""), "not a number"),
    ];
    for (bad, what) in cases {
        let error = samples.import_bytes(&[&bad[..], &good].concat()).await;
        assert!(error.to_string().contains(what), "{what:?} is not in {error}");
        assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Integrity), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn links_and_devices_in_a_folder_are_refused() {
    let samples = Samples::new().await;
    let secret = samples.path("secret");
    std::fs::create_dir(&secret).expect("a folder");
    std::fs::write(secret.join("000000.json"), "secret").expect("written");
    for name in ["bundle.json", "components/000000.json"] {
        let target = samples.path("good").join(name);
        let error = samples
            .import_changed(|folder| {
                std::fs::remove_file(folder.join(name)).expect("removed");
                std::os::unix::fs::symlink(target, folder.join(name)).expect("a link");
            })
            .await;
        says(&error, ErrorKind::Format, &[name, "link"]);
    }
    let error = samples
        .import_changed(|folder| {
            std::fs::remove_dir_all(folder.join("components")).expect("removed");
            std::os::unix::fs::symlink(&secret, folder.join("components")).expect("a link");
        })
        .await;
    says(&error, ErrorKind::Format, &["components", "link"]);
    let error = samples
        .import_changed(|folder| {
            std::fs::remove_file(folder.join("components/000000.json")).expect("removed");
            std::os::unix::net::UnixListener::bind(folder.join("components/000000.json"))
                .expect("a socket");
        })
        .await;
    says(&error, ErrorKind::Format, &["components/000000.json", "device or a socket"]);
}

#[tokio::test]
async fn inconsistent_bundles_are_refused_even_with_right_digests() {
    type Edit = fn(&mut Vec<Value>, &mut Value);
    let cases: Vec<(Edit, &str)> = vec![
        (
            |documents, _| documents[1]["fields"]["leaf"]["$ref"] = json!("refused.Leaf/other@0"),
            "not inside",
        ),
        (
            |documents, _| documents[1]["fields"]["leaf"]["$ref"] = json!("refused.Root/root@0"),
            "circle",
        ),
        (
            |documents, _| documents[0]["fields"]["data"] = json!({"$ref": "refused.Root/root@0"}),
            "circle",
        ),
        (
            |documents, _| documents[1]["fields"]["leaf"]["$ref"] = json!("nonsense"),
            "not the address",
        ),
        (|documents, _| documents[1]["fields"]["leaf"] = Value::Null, "does not have the hash"),
        (|documents, _| documents[1]["fields"]["number"] = json!(43), "does not have the hash"),
        (|documents, _| documents[0]["fields"]["data"]["size"] = json!(3), "says 3"),
        (
            |documents, _| documents[0]["fields"]["data"]["$blob"] = json!(Digest::of(b"x")),
            "not inside",
        ),
        (
            |documents, _| documents[0]["fields"]["data"]["$blob"] = json!("x"),
            "not a reference to a blob",
        ),
        (
            |documents, _| documents[0]["outputs"]["o"] = json!({"$ref": "refused.Leaf/leaf@0"}),
            "output `o`",
        ),
        (
            |documents, _| documents[1]["outputs"]["o"] = json!({"$ref": "refused.Leaf/leaf@0"}),
            "output `o`",
        ),
        (|documents, _| documents[0]["fields"] = json!([]), "no object"),
        (|documents, _| documents[0]["address"] = json!("refused.Leaf/leaf@7"), "is listed"),
        (|documents, _| documents[0]["address"] = json!("refused.Leaf/../x@0"), "address"),
        (|documents, _| documents[0]["kind"] = json!("refused.Root"), "is listed"),
        (|documents, _| documents[0]["more"] = json!(1), "unknown field"),
        (|documents, _| documents.swap(0, 1), "circle"),
        (|documents, _| documents.truncate(1), "components/000001.json"),
        (|_, manifest| manifest["root"] = json!("refused.Leaf/leaf@0"), "not the root"),
        (|_, manifest| manifest["blobs"] = json!([]), "does not list it"),
        (|_, manifest| manifest["blobs"][0]["size"] = json!(1), "19 bytes instead of 1"),
        (
            |_, manifest| manifest["blobs"] = json!([manifest["blobs"][0], manifest["blobs"][0]]),
            "listed twice",
        ),
        (
            |_, manifest| {
                manifest["blobs"] =
                    json!([manifest["blobs"][0], {"digest": Digest::of(b"y"), "size": u64::MAX}])
            },
            "missing",
        ),
        (|documents, _| documents[0]["version"] = json!(9), "version 9 of its type"),
        (
            |documents, _| {
                documents.iter_mut().for_each(|document| document["outputs"] = Value::Null)
            },
            "not a file of a bundle",
        ),
    ];
    let samples = Samples::new().await;
    for (edit, what) in cases {
        let error = samples.import_changed(|folder| forge(folder, edit)).await;
        assert!(error.to_string().contains(what), "{what:?} is not in {error}");
    }
    // A component that nothing holds.
    let stray = |documents: &mut Vec<Value>, _: &mut Value| {
        let mut stray = documents[0].clone();
        stray["address"] = json!("refused.Leaf/leaf@1");
        documents.insert(1, stray);
    };
    says(
        &samples.import_changed(|folder| forge(folder, stray)).await,
        ErrorKind::Integrity,
        &["nothing refers to `refused.Leaf/leaf@1`"],
    );
    // And without an edit, forging gives what was there: the cases above fail for what they change.
    forge(&samples.path("good"), |_, _| ());
    in_memory().await.db.import(samples.path("good")).await.expect("imports");
}

#[tokio::test]
async fn deep_json_is_refused_without_a_crash() {
    let samples = Samples::new().await;
    let deep = format!("{{\"_format\":{}1{}}}", "[".repeat(500_000), "]".repeat(500_000));
    let error = samples
        .import_changed(|folder| std::fs::write(folder.join("bundle.json"), deep).expect("written"))
        .await;
    says(
        &error,
        ErrorKind::Format,
        &["`bundle.json`", "500001 levels deep, and at most 1024 levels are read"],
    );
}

#[tokio::test]
async fn a_huge_document_is_not_read() {
    let samples = Samples::new().await;
    let error = samples
        .import_changed(|folder| {
            let file = std::fs::File::options()
                .write(true)
                .open(folder.join("bundle.json"))
                .expect("opens");
            file.set_len(1 << 40).expect("a sparse file");
        })
        .await;
    says(&error, ErrorKind::Format, &["bundle.json", "1099511627776 bytes"]);
}

/// The child of the test below: exports a large blob over and over until it is killed.
#[tokio::test]
async fn the_export_that_is_killed() {
    let Some(folder) = std::env::var_os("SUPERDUPER_TEST_EXPORT").map(PathBuf::from) else {
        return;
    };
    let db = superduper::Db::open(folder.join("db")).await.expect("opens");
    db.export(
        "refused.Leaf/large",
        folder.join(std::env::var("SUPERDUPER_TEST_NAME").expect("a name")),
    )
    .await
    .expect("exports");
}

#[tokio::test]
async fn f06_a_killed_export_leaves_nothing_under_the_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = superduper::Db::open(folder.path().join("db")).await.expect("opens");
    let data: Vec<u8> = (0..96 * 1024 * 1024_u32).map(|at| (at / 7) as u8).collect();
    db.apply(Leaf { identifier: "large".into(), data: Bytes::from(data).into() })
        .await
        .expect("applies");
    for name in ["m.tar", "m"] {
        let killed_midway = (0..20).any(|_| {
            let mut child =
                std::process::Command::new(std::env::current_exe().expect("this program"))
                    .args([
                        "bundle_refused::the_export_that_is_killed",
                        "--exact",
                        "--test-threads=1",
                    ])
                    .env("SUPERDUPER_TEST_EXPORT", folder.path())
                    .env("SUPERDUPER_TEST_NAME", name)
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .expect("starts");
            let begun = || {
                let names = std::fs::read_dir(folder.path())
                    .expect("a folder")
                    .flatten()
                    .map(|entry| entry.file_name());
                names
                    .into_iter()
                    .any(|found| found.to_string_lossy().starts_with(&format!(".{name}.")))
            };
            while !begun() && child.try_wait().expect("a child").is_none() {
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            child.kill().expect("killed");
            child.wait().expect("gone");
            let left: Vec<_> = std::fs::read_dir(folder.path())
                .expect("a folder")
                .flatten()
                .map(|entry| entry.path())
                .collect();
            let hidden = left.iter().filter(|path| {
                path.file_name().is_some_and(|found| found.to_string_lossy().starts_with('.'))
            });
            for path in hidden {
                let _ = std::fs::remove_dir_all(path).or_else(|_| std::fs::remove_file(path));
            }
            let published = folder.path().join(name);
            if !published.exists() {
                return true;
            }
            // It was faster than we were: then it is whole. Another round.
            let _ =
                std::fs::remove_dir_all(&published).or_else(|_| std::fs::remove_file(&published));
            false
        });
        assert!(killed_midway, "no export of {name} was met half-way");
        db.export("refused.Leaf/large", folder.path().join(name))
            .await
            .expect("the next one is not in the way of the last");
    }
}
