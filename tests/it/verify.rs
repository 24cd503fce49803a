//! Databases that were broken by hand: each break is found, and what is safe is repaired.

use crate::support::{Database, at, databases, in_folder};
use superduper::{
    Bytes, Db, Digest, Output, Registry,
    prelude::*,
    store::{Batch, Durability, NewRun, Op, RunPurpose, Timestamp},
    verify::{Finding, Severity, VerifyReport},
};

#[derive(Component, Clone)]
#[component(kind = "verify.Part")]
struct Part {
    identifier: String,
    #[component(breaking)]
    size: i64,
}

#[derive(Component)]
#[component(kind = "verify.Model")]
struct Model {
    identifier: String,
    note: String,
    part: Part,
    data: Artifact<Bytes>,
    weights: Output<Artifact<Bytes>>,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn train(&self, ctx: &JobContext) -> Result<()> {
        ctx.set(&self.weights, Bytes::from("weights").into())
    }
}

fn model(note: &str) -> Model {
    let part = Part { identifier: "p".into(), size: 1 };
    Model {
        identifier: "m".into(),
        note: note.into(),
        part,
        data: Bytes::from("data").into(),
        weights: Output::empty(),
    }
}

const MODEL: &str = "verify.Model/m";

async fn verify(db: &Db) -> VerifyReport {
    db.verify().await.expect("verifies")
}

async fn repair(db: &Db) -> VerifyReport {
    db.verify().repair(true).await.expect("verifies")
}

/// The one finding of a report.
#[track_caller]
fn only(report: &VerifyReport) -> &Finding {
    assert_eq!(report.findings.len(), 1, "{report}");
    &report.findings[0]
}

/// A database in a folder with a model in it, and a connection to its file.
async fn broken(sql: &str) -> Database {
    let on = in_folder().await;
    on.db.apply(model("a")).await.expect("applies");
    let folder = on.artifact_folder().expect("a folder");
    let file = folder.parent().expect("a parent").join("metadata.sqlite");
    let connection = rusqlite::Connection::open(file).expect("opens");
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).expect("executes");
    assert!(connection.changes() > 0, "nothing was broken by {sql}");
    on
}

fn blob_file(on: &Database, bytes: &[u8]) -> std::path::PathBuf {
    let hex = Digest::of(bytes).to_hex();
    on.artifact_folder().expect("a folder").join("blake3").join(&hex[..2]).join(&hex)
}

#[tokio::test]
async fn a_sound_database_has_no_findings() {
    for on in databases().await {
        assert_eq!(verify(&on.db).await, VerifyReport::default());
        on.db.apply(model("a")).await.expect("applies");
        on.db.apply(model("b")).await.expect("an update");
        on.db.apply(Part { identifier: "p".into(), size: 2 }).await.expect("applies");
        let before = on.dump().await;
        let report = verify(&on.db).await;
        assert_eq!((report.components, report.versions, report.blobs, report.bytes), (2, 3, 2, 11));
        assert!(report.findings.is_empty() && report.is_sound(), "{report}");
        assert_eq!(report.to_string(), "2 components, 3 versions, 2 blobs of 11 bytes\nsound\n");
        assert_eq!(repair(&on.db).await, report);
        assert_eq!(on.db.verify().quick().await.expect("verifies"), report);
        assert_eq!(on.dump().await, before, "nothing was written");
    }
}

#[tokio::test]
async fn f05_a_missing_blob_is_found_with_its_field() {
    for on in databases().await {
        on.db.apply(model("a")).await.expect("applies");
        on.db.artifact_store().delete(Digest::of(b"data")).await.expect("deletes");
        on.db.artifact_store().delete(Digest::of(b"weights")).await.expect("deletes");
        for report in [
            verify(&on.db).await,
            on.db.verify().quick().await.expect("verifies"),
            repair(&on.db).await,
        ] {
            assert!(!report.is_sound());
            let mut found: Vec<_> = report
                .findings
                .iter()
                .map(|finding| (finding.field.clone(), finding.digest))
                .collect();
            found.sort();
            let field = |name: &str| Some(name.to_owned());
            assert_eq!(
                found,
                [
                    (field("data"), Some(Digest::of(b"data"))),
                    (field("weights"), Some(Digest::of(b"weights")))
                ]
            );
            for finding in &report.findings {
                assert_eq!(
                    (finding.severity, &finding.address, finding.repaired),
                    (Severity::Error, &Some(at("verify.Model/m@0.0")), false)
                );
                assert!(finding.what.contains("missing"), "{finding}");
            }
        }
    }
}

#[tokio::test]
async fn f05_a_damaged_blob_is_found_moved_aside_and_comes_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bundle = folder.path().join("m.tar");
    for damage in [&b"atad"[..], b"dat", b""] {
        let on = in_folder().await;
        on.db.apply(model("a")).await.expect("applies");
        on.db.export(MODEL, &bundle).replace().await.expect("exports");
        let file = blob_file(&on, b"data");
        std::fs::write(&file, damage).expect("written");
        let report = verify(&on.db).await;
        let finding = only(&report);
        assert_eq!(
            (finding.severity, finding.digest, finding.field.as_deref()),
            (Severity::Error, Some(Digest::of(b"data")), Some("data"))
        );
        let quick = on.db.verify().quick().await.expect("verifies");
        assert_eq!(quick.is_sound(), damage.len() == 4, "without reading, only the length tells");
        assert!(file.exists(), "nothing is moved unasked");
        assert!(only(&repair(&on.db).await).what.contains("moved aside"));
        assert!(!file.exists());
        assert_eq!(
            std::fs::read(file.with_extension("corrupt")).expect("kept"),
            damage,
            "no data is deleted"
        );
        assert!(only(&verify(&on.db).await).what.contains("missing"));
        on.db.import(&bundle).await.expect("imports");
        assert!(verify(&on.db).await.findings.is_empty());
        let back: Model = on.db.load("m").await.expect("loads");
        assert_eq!(&back.data.get().await.expect("bytes")[..], b"data");
    }
}

#[tokio::test]
async fn a_damaged_document_is_found() {
    let on = broken("UPDATE version SET document = '{' WHERE document LIKE '%note%'").await;
    let report = verify(&on.db).await;
    assert!(!report.is_sound());
    let finding = only(&report);
    assert_eq!(
        (finding.severity, &finding.address),
        (Severity::Error, &Some(at("verify.Model/m@0.0")))
    );
    assert!(finding.what.contains("damaged"), "{finding}");
    assert!(!repair(&on.db).await.is_sound(), "it cannot be repaired");
    let on =
        broken("UPDATE version SET document = replace(document, '\"size\":4', '\"size\":\"x\"')")
            .await;
    assert!(
        verify(&on.db)
            .await
            .findings
            .iter()
            .any(|finding| finding.what.contains("not a reference to a blob"))
    );
    let on = broken("UPDATE output SET value = '{'").await;
    let report = verify(&on.db).await;
    assert_eq!(
        (only(&report).field.as_deref(), only(&report).severity),
        (Some("weights"), Severity::Error)
    );
}

#[tokio::test]
async fn a_document_that_was_changed_behind_our_back_is_found() {
    let on = broken("UPDATE version SET document = replace(document, '\"size\":1', '\"size\":2') WHERE document NOT LIKE '%note%'").await;
    let report = verify(&on.db).await;
    assert_eq!(
        (only(&report).severity, &only(&report).address),
        (Severity::Warning, &Some(at("verify.Part/p@0.0")))
    );
    assert!(only(&report).what.contains("hash on record"), "{report}");
}

#[derive(Component)]
#[component(kind = "verify.Part", register = no)]
struct Demanding {
    identifier: String,
    must: String,
}

#[derive(Component)]
#[component(kind = "verify.Part", register = no)]
struct Calm {
    identifier: String,
    size: i64,
}

#[tokio::test]
async fn what_this_program_cannot_use_is_told() {
    for on in databases().await {
        on.db.apply(Part { identifier: "p".into(), size: 1 }).await.expect("applies");
        let stranger = on.program(Registry::builder().build().expect("a registry")).await;
        let report = verify(&stranger).await;
        assert_eq!((only(&report).severity, report.is_sound()), (Severity::Info, true));
        assert!(only(&report).what.contains("no type of this kind"), "{report}");
        let demanding =
            on.program(Registry::builder().with::<Demanding>().build().expect("a registry")).await;
        let report = verify(&demanding).await;
        let finding = report
            .findings
            .iter()
            .find(|finding| finding.severity == Severity::Warning)
            .expect("a warning");
        assert!(
            finding.what.contains("cannot be loaded") && finding.what.contains("`must`"),
            "{report}"
        );
        let calm =
            on.program(Registry::builder().with::<Calm>().build().expect("a registry")).await;
        let report = verify(&calm).await;
        assert!(
            only(&report).severity == Severity::Info && only(&report).what.contains("uuid"),
            "{report}"
        );
    }
}

#[tokio::test]
async fn references_that_are_not_on_record_are_written_anew() {
    let cases = [
        ("DELETE FROM edge", "not on record"),
        ("UPDATE edge SET path = 'elsewhere'", "not on record"),
        (
            "INSERT INTO edge SELECT component, version, revision, 'more', child, child_version FROM edge",
            "not in the document",
        ),
        ("DELETE FROM artifact_ref WHERE output IS NULL AND job IS NULL", "not on record"),
        ("DELETE FROM artifact_ref WHERE output IS NOT NULL", "output"),
    ];
    for (sql, what) in cases {
        let on = broken(sql).await;
        let report = verify(&on.db).await;
        assert!(!report.is_sound(), "{sql}");
        let finding = report
            .findings
            .iter()
            .find(|finding| finding.severity == Severity::Error)
            .expect("an error");
        assert!(finding.what.contains(what) && !finding.repaired, "{sql}: {report}");
        assert_eq!(finding.address, Some(at("verify.Model/m@0.0")));
        let repaired = repair(&on.db).await;
        assert!(
            repaired.is_sound() && repaired.findings.iter().any(|finding| finding.repaired),
            "{repaired}"
        );
        let again = verify(&on.db).await;
        assert!(again.findings.is_empty(), "{sql}: {again}");
        assert_eq!(
            on.db.remove::<Part>("p").await.map_err(|error| error.kind()).err(),
            Some(ErrorKind::InUse)
        );
        assert!(on.db.gc(false).await.expect("sweeps").blobs.is_empty());
        assert_eq!(
            &on.db.load::<Model>("m").await.expect("loads").data.get().await.expect("bytes")[..],
            b"data"
        );
    }
}

#[tokio::test]
async fn rows_that_refer_to_nothing_are_found() {
    let on = broken("DELETE FROM version WHERE document NOT LIKE '%note%'").await;
    let report = verify(&on.db).await;
    assert!(!report.is_sound());
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.what.contains("`edge`") && finding.what.contains("`version`")),
        "{report}"
    );
    assert!(
        report.findings.iter().any(|finding| finding.what.contains("cannot be loaded")),
        "{report}"
    );
}

#[tokio::test]
async fn leftovers_of_sweeps_are_found_and_completed() {
    for on in databases().await {
        on.db.apply(model("a")).await.expect("applies");
        let orphan: Artifact<Bytes> = Bytes::from("orphan").into();
        orphan.save(on.db.artifact_store()).await.expect("saves");
        let report = verify(&on.db).await;
        assert_eq!((only(&report).severity, report.is_sound()), (Severity::Info, true));
        assert!(only(&report).what.contains("1 blobs of 6 bytes"), "{report}");
        let lock =
            on.db.metadata().sweep_lock().await.expect("asks").expect("nothing sweeps").token();
        let doom = Batch {
            expect: Vec::new(),
            ops: vec![Op::MarkForDeletion { digests: vec![Digest::of(b"orphan")], lock }],
        };
        on.db.metadata().commit(doom, Durability::Full).await.expect("dooms");
        let report = verify(&on.db).await;
        assert!(
            only(&report).severity == Severity::Warning
                && only(&report).what.contains("interrupted"),
            "{report}"
        );
        assert!(only(&repair(&on.db).await).repaired);
        assert!(verify(&on.db).await.findings.is_empty());
        assert_eq!(on.blob_count().await, 2);
    }
}

#[tokio::test]
async fn jobs_that_are_left_behind_are_found() {
    for on in databases().await {
        on.db.apply(Part { identifier: "p".into(), size: 1 }).await.expect("applies");
        // As a process that died right after its commit leaves it.
        let (root, now) = (at("verify.Part/p@0.0"), Timestamp::now());
        let run = Op::Run(NewRun::new(RunPurpose::Apply, root.clone(), now));
        on.db
            .metadata()
            .commit(Batch { expect: Vec::new(), ops: vec![run] }, Durability::Full)
            .await
            .expect("commits");
        let report = verify(&on.db).await;
        assert_eq!(
            (only(&report).severity, &only(&report).address),
            (Severity::Warning, &Some(root))
        );
        assert!(only(&report).what.contains("did not end") && report.is_sound(), "{report}");
        on.db.resume().await.expect("resumes");
        assert!(verify(&on.db).await.findings.is_empty());
    }
    let on = broken("UPDATE job SET state = 0, succeeded = 0, owner = NULL").await;
    let report = verify(&on.db).await;
    assert!(
        only(&report).severity == Severity::Error
            && only(&report).what.contains("has ended, but 1 of its jobs"),
        "{report}"
    );
    // What drove the run is gone.
    let on =
        broken("UPDATE job SET state = 0, succeeded = 0, owner = NULL; UPDATE run SET state = 0, ended_at = NULL").await.reopened().await;
    let report = verify(&on.db).await;
    assert!(
        only(&report).severity == Severity::Warning
            && only(&report).what.contains("1 unfinished jobs"),
        "{report}"
    );
}

#[tokio::test]
async fn verify_and_gc_are_safe_beside_applies() {
    for on in databases().await {
        let db = on.db.clone();
        let applies = tokio::spawn(async move {
            for round in 0..30 {
                let part = Part { identifier: "p".into(), size: 1 };
                let data = Bytes::from(format!("data {round}")).into();
                let model = Model {
                    identifier: format!("m{}", round % 3),
                    note: format!("{round}"),
                    part,
                    data,
                    weights: Output::empty(),
                };
                db.apply(model).await.expect("applies");
                if round % 5 == 4 {
                    db.remove::<Model>(&format!("m{}", round % 3)).await.expect("removes");
                }
            }
        });
        while !applies.is_finished() {
            on.db.gc(false).await.expect("sweeps");
            let report = verify(&on.db).await;
            assert!(report.is_sound(), "{report}");
            tokio::task::yield_now().await;
        }
        applies.await.expect("no panic");
        assert!(
            verify(&on.db).await.findings.iter().all(|finding| finding.severity == Severity::Info)
        );
    }
}

#[test]
fn the_blocking_face_exports_imports_and_verifies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (one, other) = (
        superduper::blocking::Db::in_memory().expect("opens"),
        superduper::blocking::Db::in_memory().expect("opens"),
    );
    one.apply(model("a")).expect("applies");
    let exported = one.export(MODEL, folder.path().join("m")).expect("exports");
    assert_eq!(exported.components, 2);
    assert_eq!(other.plan_import(folder.path().join("m")).expect("plans").components().len(), 2);
    other.import(folder.path().join("m")).expect("imports");
    assert!(other.verify().expect("verifies").findings.is_empty());
    assert!(other.gc(true).expect("looks").blobs.is_empty());
}
