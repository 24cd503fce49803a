//! Values that are nested deep: one limit, told at the place where a value is encoded; and values
//! of a store that cannot be read.

use crate::support::{Database, databases, refused, says};
use std::time::Duration;
use superduper::{Encoded, Output, prelude::*, schema::MAX_NESTING, store::JobFilter};

#[derive(Component, Clone, Default)]
#[component(kind = "depth.Deep")]
struct Deep {
    identifier: String,
    what: String,
    levels: usize,
    any: Value,
    out: Output<Value>,
}

/// Arrays in arrays around a number.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]))
}

/// Objects in objects around a number.
fn chained(levels: usize) -> Value {
    (0..levels)
        .fold(json!(1), |inner, _| Value::Object([("k".to_owned(), inner)].into_iter().collect()))
}

#[triggers]
impl Deep {
    #[trigger("apply")]
    fn make(&self, ctx: &JobContext) -> Result<Value> {
        let deep = nested(self.levels);
        match self.what.as_str() {
            "output" => ctx.set(&self.out, deep)?,
            "message" => ctx.emit("deep", deep)?,
            "result" => return Ok(deep),
            "chain" => return Ok(chained(self.levels)),
            _ => {}
        }
        Ok(Value::Null)
    }

    #[trigger("apply")]
    fn take(&self, make: Value) -> Result<bool> {
        Ok(self.what != "result" || make == nested(self.levels))
    }
}

fn deep(what: &str, levels: usize) -> Deep {
    let any = if what == "field" { nested(levels) } else { Value::Null };
    let levels = if what == "field" { 0 } else { levels };
    Deep {
        identifier: format!("{what}-{levels}"),
        what: what.to_owned(),
        levels,
        any,
        out: Output::empty(),
    }
}

/// The deepest value that may stand in a place: the document around a field is a level of its own.
fn deepest(what: &str) -> usize {
    if what == "field" { MAX_NESTING - 1 } else { MAX_NESTING }
}

const PLACES: [&str; 4] = ["field", "output", "result", "message"];

#[tokio::test]
async fn b02_what_is_accepted_is_read_back_whole() {
    for mut on in databases().await {
        for what in PLACES {
            let levels = deepest(what);
            let component = deep(what, levels);
            let identifier = component.identifier.clone();
            let applied = on.db.apply(component).await.expect(what);
            assert!(
                applied.result::<bool>("take").expect("a result"),
                "the dependent saw it whole"
            );
            on = on.reopened().await;
            let jobs = on
                .db
                .jobs(JobFilter {
                    target: Some(applied.address.unversioned()),
                    ..JobFilter::default()
                })
                .await
                .expect("jobs");
            let loaded: Deep = on.db.load(&identifier).await.expect(what);
            match what {
                "field" => assert_eq!(loaded.any, nested(levels)),
                "output" => assert_eq!(*loaded.out.get().expect("set"), nested(levels)),
                "result" => assert_eq!(jobs[0].result, Some(nested(levels))),
                _ => assert_eq!(
                    on.db
                        .metadata()
                        .messages(superduper::store::Cursor::default(), 10)
                        .await
                        .expect("messages")[0]
                        .payload,
                    nested(levels)
                ),
            }
            let again = on.db.apply(deep(what, levels)).await.expect("applies again");
            assert_eq!(again.action, superduper::Action::Unchanged);
            // A bundle adds a level of its own.
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("deep.tar");
            on.db.export(applied.address.clone(), &path).await.expect("exports");
            let other = Db::in_memory().await.expect("a database");
            other.import(&path).await.expect("imports");
            assert_eq!(other.load::<Deep>(&identifier).await.expect("loads").any, loaded.any);
        }
        assert!(on.db.verify().await.expect("verifies").is_sound());
    }
}

#[tokio::test]
async fn b02_what_is_deeper_is_refused_with_its_path() {
    for on in databases().await {
        for levels in [MAX_NESTING, 500, 10_000] {
            let error = refused(on.db.apply(deep("field", levels)).await);
            says(
                &error,
                ErrorKind::Encode,
                &["`depth.Deep/field-0`", "`any[0][0][0]", "…", "deeper than the 127 levels"],
            );
            assert!(error.to_string().len() < 400, "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("flat list")), "{error:?}");
            says(
                &refused(on.db.plan(deep("field", levels)).await),
                ErrorKind::Encode,
                &["deeper than the 127 levels"],
            );
        }
        // Dropped where it is refused: this thread has no room for that.
        let chain = Deep { any: chained(10_000), ..deep("field", 1) };
        says(
            &refused(on.db.apply(chain).await),
            ErrorKind::Encode,
            &["`any.k.k.k", "deeper than the 127 levels"],
        );
        assert_eq!(on.metadata.commits(), 0);
        for (what, place) in [
            ("output", "output `out`"),
            ("result", "`[0][0]"),
            ("message", "`[0][0]"),
            ("chain", "`k.k.k"),
        ] {
            for levels in [MAX_NESTING + 1, 500, 10_000] {
                let component =
                    Deep { identifier: format!("{what}-{levels}"), ..deep(what, levels) };
                let error = refused(on.db.apply(component).await);
                says(&error, ErrorKind::JobFailed, &[place, "deeper than the 127 levels"]);
            }
        }
        // Nothing of it was kept.
        assert!(
            on.jobs().await.iter().all(|job| job.result.is_none()),
            "{what:?}",
            what = on.job_states().await
        );
        assert!(
            on.db
                .metadata()
                .messages(superduper::store::Cursor::default(), 10)
                .await
                .expect("messages")
                .is_empty()
        );
    }
}

#[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
enum Tree {
    Leaf(f64),
    Split {
        at: f64,
        below: Box<Tree>,
    },
    Pair(u8, Box<Tree>),
    /// Leaves no trace in JSON.
    Wrapped(Box<Wrapped>),
}

#[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
struct Wrapped(Option<Box<Wrapped>>);

#[tokio::test]
async fn b02_every_array_and_object_counts_and_so_does_what_leaves_no_trace() {
    let split = |levels| {
        (0..levels).fold(Tree::Leaf(0.5), |below, at| Tree::Split {
            at: f64::from(at),
            below: Box::new(below),
        })
    };
    let pair =
        |levels| (0..levels).fold(Tree::Leaf(0.5), |below, _| Tree::Pair(1, Box::new(below)));
    // Two levels each, and one for the leaf.
    for make in [&split as &dyn Fn(i32) -> Tree, &pair] {
        let encoded = Encoded::of(&make(63)).expect("127 levels");
        let back: Tree = Encoded::read(encoded.value().clone(), None).expect("reads");
        assert_eq!(back, make(63));
        says(&refused(Encoded::of(&make(64))), ErrorKind::Encode, &["deeper than the 127 levels"]);
    }
    let wrapped =
        |levels| (0..levels).fold(Wrapped(None), |inner, _| Wrapped(Some(Box::new(inner))));
    for levels in [500, 10_000] {
        let tree = Tree::Wrapped(Box::new(wrapped(levels)));
        says(
            &refused(Encoded::of(&tree)),
            ErrorKind::Encode,
            &["`Wrapped`", "deeper than the 127 levels"],
        );
        drop_flat(tree);
    }
}

/// Drop a list of boxes one by one.
fn drop_flat(tree: Tree) {
    let Tree::Wrapped(wrapped) = tree else { return };
    let mut next = Some(wrapped);
    while let Some(mut wrapped) = next {
        next = wrapped.0.take();
    }
}

/// Run SQL on the database of a folder, beside it.
fn damage(on: &Database, sql: &str) {
    let artifacts = on.artifact_folder().expect("a database in a folder");
    let file = artifacts.parent().expect("its folder").join("metadata.sqlite");
    rusqlite::Connection::open(file)
        .and_then(|connection| connection.execute_batch(sql))
        .expect("valid SQL");
}

/// Released versions wrote documents, outputs, results and messages of any depth.
#[tokio::test]
async fn b02_what_older_versions_stored_deeper_is_read() {
    let on = crate::support::in_folder().await;
    on.db.apply(deep("output", 1)).await.expect("applies");
    on.db.apply(Deep { identifier: "m".into(), ..deep("message", 1) }).await.expect("applies");
    for levels in [128, 500, 900] {
        let value = nested(levels).to_string();
        damage(
            &on,
            &format!(
                "UPDATE version SET document = json_set(document, '$.any', 'ANY'); \
                UPDATE version SET document = replace(document, '\"ANY\"', '{value}'); \
                UPDATE output SET value = '{value}'; UPDATE message SET payload = '{value}'; \
                UPDATE job SET result = '{value}' WHERE method = 'make';"
            ),
        );
        let loaded: Deep = on.db.load("output-1").await.expect("loads");
        assert_eq!(
            (&loaded.any, &*loaded.out.get().expect("set")),
            (&nested(levels), &nested(levels))
        );
        assert_eq!(
            on.db
                .metadata()
                .messages(superduper::store::Cursor::default(), 10)
                .await
                .expect("messages")[0]
                .payload,
            nested(levels)
        );
        let jobs = on.jobs().await;
        let made = jobs.iter().find(|job| job.method == "make").expect("a job");
        assert_eq!(made.result, Some(nested(levels)));
        assert_eq!(on.db.decode::<Value>(nested(levels), "it").expect("decodes"), nested(levels));
        on.db.show("depth.Deep/output-1").await.expect("shows");
        assert_eq!(on.db.list().await.expect("lists").len(), 2);
        assert_eq!(on.db.versions("depth.Deep/output-1").await.expect("versions").len(), 1);
        on.db.plan(deep("output", 1)).await.expect("plans");
        let path = on.artifact_folder().expect("a folder").with_file_name(format!("{levels}.tar"));
        on.db.export("depth.Deep/output-1", &path).await.expect("exports");
        Db::in_memory().await.expect("a database").import(&path).await.expect("imports");
        on.db.label("depth.Deep/output-1@0", &format!("deep-{levels}")).await.expect("labels");
        on.db.rename("depth.Deep/m", "depth.Deep/n").await.expect("renames");
        on.db.rename("depth.Deep/n", "depth.Deep/m").await.expect("renames");
        let report = on.db.verify().await.expect("verifies").to_string();
        assert!(!report.contains("cannot be read") && !report.contains("damaged"), "{report}");
        // A step back, and an apply, store it anew.
        says(
            &refused(on.db.rollback("depth.Deep/m", 0).await),
            ErrorKind::Encode,
            &["deeper than the 127 levels"],
        );
        says(
            &refused(on.db.apply(&loaded).await),
            ErrorKind::Encode,
            &["deeper than the 127 levels"],
        );
    }
    damage(&on, &format!("UPDATE output SET value = '{}'", nested(3000)));
    let loaded: Deep = on.db.load("output-1").await.expect("loads");
    says(
        &refused(loaded.out.get()),
        ErrorKind::Integrity,
        &["output `out` of `depth.Deep/output-1@0", "3000 levels", "at most 1024"],
    );
    on.db.remove::<Deep>("output-1").await.expect("removes");
}

#[tokio::test]
async fn b03_what_cannot_be_read_is_named_and_never_null() {
    let on = crate::support::in_folder().await;
    for what in ["output", "result", "message"] {
        on.db.apply(deep(what, 1)).await.expect("applies");
        on.db
            .apply(Deep { identifier: format!("sound-{what}"), ..deep(what, 1) })
            .await
            .expect("applies");
    }
    let jobs = on.jobs().await;
    let made = jobs
        .iter()
        .find(|job| job.target.identifier == "result-1" && job.method == "make")
        .expect("a job")
        .id;
    damage(
        &on,
        &format!(
            "UPDATE output SET value = '[1' WHERE component = (SELECT id FROM component WHERE identifier = 'output-1'); \
            UPDATE job SET result = '[1' WHERE id = {made}; UPDATE message SET payload = '[1' WHERE id = 1;"
        ),
    );
    // The output: its component loads, the value is an error.
    let loaded: Deep = on.db.load("output-1").await.expect("the document is sound");
    says(
        &refused(loaded.out.get()),
        ErrorKind::Integrity,
        &["output `out` of `depth.Deep/output-1@0", "EOF"],
    );
    let sound: Deep = on.db.load("sound-output").await.expect("loads");
    assert_eq!(*sound.out.get().expect("set"), nested(1));
    // The result.
    let row = on.db.job(made).await.expect("a row");
    assert_ne!(row.result, Some(Value::Null));
    let error =
        refused(on.db.decode::<Value>(row.result.expect("it succeeded"), "the result of a job"));
    says(&error, ErrorKind::Integrity, &["the result of a job cannot be read"]);
    assert_eq!(on.jobs().await.len(), jobs.len(), "the listing goes on");
    // The message: those behind it are delivered.
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    on.db.on_message("deep", move |message| {
        let sender = sender.clone();
        async move { sender.send((message.id, message.payload)).map_err(|_| Error::msg("gone")) }
    });
    let delivered = tokio::time::timeout(Duration::from_secs(20), receiver.recv())
        .await
        .expect("in time")
        .expect("a message");
    assert_eq!(delivered, (2, nested(1)));
    let sender = jobs
        .iter()
        .find(|job| job.target.identifier == "message-1" && job.method == "make")
        .expect("a job")
        .id;
    let logs = on.db.logs(sender).await.expect("logs");
    assert!(
        logs.iter().any(|line| line.message.contains("message 1 of topic `deep` cannot be read")),
        "{logs:?}"
    );
    assert_eq!(
        on.db
            .metadata()
            .messages(superduper::store::Cursor::default(), 10)
            .await
            .expect("messages")
            .len(),
        1,
        "it stays"
    );
    // All of them are found.
    let report = on.db.verify().await.expect("verifies").to_string();
    for part in
        ["output", &format!("the result of job {made} cannot be read"), "message 1 cannot be read"]
    {
        assert!(report.contains(part), "{part:?} is not in {report}");
    }
    // What would copy or pack it does not.
    let path = on.artifact_folder().expect("a folder").with_file_name("damaged.tar");
    says(
        &refused(on.db.export("depth.Deep/output-1", &path).await),
        ErrorKind::Integrity,
        &["output `out`"],
    );
}

#[tokio::test]
async fn b03_a_damaged_document_hides_no_other_and_is_not_written_over() {
    let on = crate::support::in_folder().await;
    for name in ["bad", "good"] {
        on.db.apply(Deep { identifier: name.into(), ..Deep::default() }).await.expect("applies");
    }
    on.db
        .apply(Deep { identifier: "bad".into(), what: "changed".into(), ..Deep::default() })
        .await
        .expect("applies");
    damage(
        &on,
        "UPDATE version SET document = '{\"identifier' WHERE component = (SELECT id FROM component WHERE identifier = 'bad');
        UPDATE revision SET document = '{\"identifier';",
    );
    assert_eq!(on.db.list().await.expect("lists").len(), 2);
    let shown = on.db.show("depth.Deep/bad").await.expect("shows what there is");
    assert_ne!(shown["fields"], Value::Null);
    on.db.load::<Deep>("good").await.expect("loads");
    says(
        &refused(on.db.load::<Deep>("bad").await),
        ErrorKind::Integrity,
        &["the document of `depth.Deep/bad@0.1`", "EOF"],
    );
    let path = on.artifact_folder().expect("a folder").with_file_name("damaged.tar");
    says(
        &refused(on.db.export("depth.Deep/bad", &path).await),
        ErrorKind::Integrity,
        &["`depth.Deep/bad@0"],
    );
    says(
        &refused(on.db.rename("depth.Deep/bad", "depth.Deep/other").await),
        ErrorKind::Integrity,
        &["`depth.Deep/bad@0"],
    );
    says(
        &refused(on.db.rollback("depth.Deep/bad", 0).await),
        ErrorKind::Integrity,
        &["`depth.Deep/bad@0"],
    );
    says(
        &refused(on.db.refresh("depth.Deep/bad").await),
        ErrorKind::Integrity,
        &["`depth.Deep/bad@0"],
    );
    // An apply of what it was mends it, and runs nothing.
    let bad = Deep { identifier: "bad".into(), what: "changed".into(), ..Deep::default() };
    let plan = on.db.plan(&bad).await.expect("plans");
    assert!(plan.to_string().contains("cannot be read") && plan.jobs().is_empty(), "{plan}");
    let applied = on.db.apply(&bad).await.expect("applies");
    assert_eq!(applied.address.to_string(), "depth.Deep/bad@0.2");
    assert_eq!(on.db.load::<Deep>("bad").await.expect("loads").what, "changed");
    on.db.remove::<Deep>("bad").await.expect("removes");
}
