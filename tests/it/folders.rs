//! Folders as blobs of components.

use crate::support::{databases, in_folder, refused, says};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};
use superduper::{Folder, db::ArtifactFormat, prelude::*};
use tempfile::TempDir;

#[derive(Component, Clone)]
#[component(kind = "folders.Encoder")]
struct Encoder {
    identifier: String,
    model: Artifact<Folder>,
}

#[derive(Component, Clone)]
#[component(kind = "folders.Made")]
struct Made {
    identifier: String,
    model: Output<Artifact<Folder>>,
}

#[triggers]
impl Made {
    #[trigger("apply")]
    fn make(&self, ctx: &JobContext) -> Result<usize> {
        let place = tempfile::tempdir()?;
        let folder = write(place.path(), "made", &[("vocab.txt", b"a b".to_vec())]);
        let folder = Folder::open(folder)?;
        let names = folder.names().len();
        ctx.set(&self.model, folder.into())?;
        // The folder has to be there until the output is stored.
        let _kept = place.keep();
        Ok(names)
    }
}

fn encoder(folder: impl Into<PathBuf>) -> Encoder {
    let model = Folder::open(folder).expect("a folder").into();
    Encoder { identifier: "e".into(), model }
}

/// Make a folder of that name with these files.
fn write(place: &Path, name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let folder = place.join(name);
    fs::create_dir_all(&folder).expect("a folder");
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }
    folder
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    // Of more than a piece, of exactly a block, empty, in a folder below, with a long name.
    const LONG: &str = "onnx/a-name-of-many-letters-a-name-of-many-letters-a-name-of-many-letters/\
        another-name-of-many-letters-another-name-of-many-letters.json";
    vec![
        ("tokenizer.json", b"{\"words\": 3}".to_vec()),
        ("weights.bin", (0..2_500_000_u32).map(|at| at.to_le_bytes()[1]).collect()),
        ("block", vec![7; 512]),
        ("empty", Vec::new()),
        ("vocab/größe.txt", b"metre".to_vec()),
        (LONG, b"{}".to_vec()),
    ]
}

fn place() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn assert_has(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        assert!(fs::read(folder.join(name)).expect(name) == *bytes, "{name}");
    }
}

#[tokio::test]
async fn f01_a_folder_comes_back_with_its_name_and_those_of_its_files() {
    for on in databases().await {
        let place = place();
        let folder = write(place.path(), "bert-base", &files());
        fs::create_dir(folder.join("without files")).expect("a folder");
        let new = encoder(&folder);
        assert_eq!(new.model.get().await.expect("a folder").local_path().await.unwrap(), folder);
        on.db.apply(new).await.expect("applies");
        drop(place);
        let on = on.reopened().await;

        let back: Encoder = on.db.load("e").await.expect("loads");
        let model = back.model.get().await.expect("a folder");
        assert_eq!(model.name(), "bert-base");
        let mut names: Vec<&str> = files().iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(model.names().collect::<Vec<_>>(), names);
        for (name, bytes) in files() {
            assert!(model.read(name).await.expect(name)[..] == bytes, "{name}");
        }
        let error = refused(model.read("tokeniser.json").await);
        says(&error, ErrorKind::NotFound, &["`bert-base`", "`tokeniser.json`"]);
        assert_eq!(error.hint(), Some("did you mean `tokenizer.json`?"));
        assert_eq!(refused(model.read("../x").await).kind(), ErrorKind::NotFound);

        let path = model.local_path().await.expect("a folder");
        assert!(path.ends_with("bert-base"), "{}", path.display());
        assert_has(&path, &files());
        assert_eq!(model.local_path().await.expect("the same"), path);
        let into = tempfile::tempdir().expect("a temporary folder");
        let below = into.path().join("models");
        let written = model.extract(&below).await.expect("writes");
        assert_eq!(written, below.join("bert-base"));
        assert_has(&written, &files());
        assert_eq!(fs::read_dir(&below).expect("a folder").count(), 1, "no draft is left");
        says(&refused(model.extract(&below).await), ErrorKind::InvalidInput, &["exists already"]);

        drop((model, back, on));
        assert!(!path.exists(), "the copy goes away with the last clone");
        assert!(written.exists());
    }
}

#[tokio::test]
async fn f01_equal_folders_give_equal_blobs() {
    let (one, other) = (place(), place());
    let db = Db::open(one.path().join("my.db")).await.expect("opens");
    let folder = write(one.path(), "model", &files());
    db.apply(encoder(&folder)).await.expect("applies");
    // In another order, at another time, with other permissions.
    let mut files = files();
    files.reverse();
    let equal = write(other.path(), "model", &files);
    let config = equal.join("tokenizer.json");
    let file = fs::File::options().write(true).open(&config).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(5000)).expect("sets the time");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o700)).expect("sets the mode");
    }
    assert!(db.plan(encoder(&equal)).await.expect("plans").is_empty());
    let moved = other.path().join("renamed");
    fs::rename(&equal, &moved).expect("renames");
    assert!(!db.plan(encoder(&moved)).await.expect("plans").is_empty(), "its name is content");

    let artifacts = db.artifacts("folders.Encoder/e").await.expect("artifacts");
    assert_eq!(artifacts[0].format, ArtifactFormat::Folder);
    let stored = db.artifact_store().local_path(artifacts[0].digest).expect("a file");
    let unpacked = place();
    let status =
        Command::new("tar").arg("-xf").arg(&stored).arg("-C").arg(unpacked.path()).status();
    assert!(status.expect("tar runs").success(), "tar reads {}", stored.display());
    assert_has(&unpacked.path().join("model"), &files);
}

#[tokio::test]
async fn f03_a_folder_moves_from_database_to_database() {
    let on = in_folder().await;
    let place = place();
    let folder = write(place.path(), "model", &files());
    on.db.apply(encoder(&folder)).await.expect("applies");
    let bundle = place.path().join("e.tar");
    on.db.export("folders.Encoder/e", &bundle).await.expect("exports");
    fs::remove_dir_all(&folder).expect("removes");
    let on = on.reopened().await;
    let loaded: Encoder = on.db.load("e").await.expect("loads");
    let digest = loaded.model.digest();

    let other = in_folder().await;
    other.db.import(&bundle).await.expect("imports");
    let back: Encoder = other.db.load("e").await.expect("loads");
    assert_eq!(back.model.digest(), digest);
    assert_eq!(back.model.get().await.expect("a folder").name(), "model");

    // One that was loaded, as a value of its own.
    let folder = loaded.model.get().await.expect("a folder");
    let third = in_folder().await;
    let again = Encoder { identifier: "e".into(), model: Folder::clone(&folder).into() };
    third.db.apply(again).await.expect("applies");
    let third = third.reopened().await;
    let back: Encoder = third.db.load("e").await.expect("loads");
    assert_eq!(back.model.digest(), digest, "the same blob, and the same reference");
    let folder = back.model.get().await.expect("a folder");
    assert!(folder.read("tokenizer.json").await.expect("reads").starts_with(b"{"));
    let artifacts = third.db.artifacts("folders.Encoder/e").await.expect("artifacts");
    assert_eq!(artifacts[0].format, ArtifactFormat::Folder);
}

#[tokio::test]
async fn f01_an_output_can_be_a_folder() {
    for on in databases().await {
        let made = Made { identifier: "m".into(), model: Output::empty() };
        assert_eq!(on.db.apply(made).await.expect("applies").result::<usize>("make").unwrap(), 1);
        let back: Made = on.db.load("m").await.expect("loads");
        let folder = back.model.get().expect("set").get().await.expect("a folder");
        assert_eq!(&folder.read("vocab.txt").await.expect("reads")[..], b"a b");
    }
}

fn cannot(path: &Path, texts: &[&str]) {
    let error = refused(Folder::open(path));
    says(&error, ErrorKind::InvalidInput, texts);
}

#[test]
fn f01_what_no_folder_can_hold_is_refused_by_name() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), b"x").expect("written");
    cannot(&at("file"), &["is no folder"]);
    cannot(&at("missing"), &["missing", "cannot be opened"]);
    cannot(Path::new("/"), &["has no name"]);
    let deep = write(place.path(), "deep", &[]);
    let name = |letter: &str| letter.repeat(120);
    fs::create_dir_all(deep.join(name("a"))).expect("a folder");
    fs::write(deep.join(name("a")).join(name("b")), b"x").expect("written");
    cannot(&deep, &["too long"]);
}

#[cfg(unix)]
#[test]
fn f01_links_and_names_that_cannot_be_kept_are_refused() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};
    let place = place();
    let folder = |name: &str| write(place.path(), name, &[("config.json", b"{}".to_vec())]);
    fs::write(place.path().join("secret"), b"x").expect("written");
    for (name, target, why) in [
        ("absolute", "/etc/hostname", "leaves the folder"),
        ("relative", "../secret", "leaves the folder"),
        ("above", "..", "leaves the folder"),
        ("lost", "nothing", "leads nowhere"),
        ("self", ".", "a link to a folder"),
    ] {
        let folder = folder(name);
        symlink(target, folder.join("link")).expect("links");
        cannot(&folder, &["link", why]);
    }
    let inside = folder("inside");
    symlink("config.json", inside.join("default.json")).expect("links");
    let open = Folder::open(&inside).expect("a link to a file inside is that file");
    assert_eq!(open.names().collect::<Vec<_>>(), ["config.json", "default.json"]);
    // The folder itself may be named by a link.
    symlink(&inside, place.path().join("latest")).expect("links");
    assert_eq!(Folder::open(place.path().join("latest")).expect("opens").name(), "latest");

    let bytes = folder("bytes");
    fs::write(bytes.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), b"x").expect("written");
    cannot(&bytes, &["not UTF-8"]);
    let slash = folder("slash");
    fs::write(slash.join("a\\b"), b"x").expect("written");
    cannot(&slash, &["no file name may have"]);
    let socket = folder("socket");
    let _socket = std::os::unix::net::UnixListener::bind(socket.join("s")).expect("binds");
    cannot(&socket, &["a device or a socket"]);
}

#[tokio::test]
async fn f06_a_folder_that_changes_between_plan_and_apply_is_refused() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("another file", |folder| fs::write(folder.join("more"), b"x").expect("written")),
        ("fewer files", |folder| fs::remove_file(folder.join("block")).expect("removed")),
        ("another length", |folder| fs::write(folder.join("empty"), b"x").expect("written")),
    ];
    for (what, change) in changes {
        let on = in_folder().await;
        let place = place();
        let folder = write(place.path(), "model", &files());
        let encoder = encoder(&folder);
        let plan = on.db.plan(&encoder).await.expect("plans");
        change(&folder);
        let error = refused(on.db.apply_plan(plan).await);
        assert!(error.to_string().contains("`model`"), "{what}: {error}");
        assert_eq!(on.blob_count().await, 0, "{what}");
        assert!(on.db.list().await.expect("lists").is_empty(), "{what}");
    }
}
