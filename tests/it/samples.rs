//! Databases of released formats, as they were written then, opened by today's program.
//!
//! A sample is the SQL text of its metadata beside its folder of blobs: what a later change of
//! SQLite's own file format cannot touch, and what a reader can compare. Samples are never edited:
//! a format that is released gets one.

use crate::support::until::until;
use std::path::{Path, PathBuf};
use superduper::{
    Bytes, Encoded, Output,
    prelude::*,
    store::{JobFilter, JobId, JobRow, JobState},
};

#[derive(Component, Clone)]
#[component(kind = "sample.Layer")]
struct Layer {
    identifier: String,
    #[component(breaking)]
    width: i64,
}

#[derive(Component)]
#[component(kind = "sample.Model")]
struct Model {
    identifier: String,
    note: String,
    empty: String,
    zero: i64,
    off: bool,
    nothing: Option<i64>,
    #[component(breaking)]
    seed: i64,
    #[component(breaking)]
    layers: Vec<Layer>,
    data: Artifact<Bytes>,
    key: Secret<String>,
    weights: Output<Artifact<Bytes>>,
}

impl Lifecycle for Model {
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        ctx.log(format!("created version {}", ctx.version()));
        Ok(())
    }
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn train(&self, ctx: &JobContext) -> Result<i64> {
        ctx.set(&self.weights, Bytes::from(format!("weights of seed {}", self.seed)).into())?;
        ctx.emit("trained", json!({"seed": self.seed}))?;
        Ok(self.seed)
    }
    #[trigger("apply", retries = 1)]
    fn check(&self, train: i64) -> Result<String> {
        if self.note == "bad" {
            Err(Error::msg("this note is bad"))
        } else {
            Ok(format!("{} {train}", self.note))
        }
    }
}

fn model(seed: i64, note: &str) -> Model {
    Model {
        identifier: "m".into(),
        note: note.into(),
        empty: String::new(),
        zero: 0,
        off: false,
        nothing: None,
        seed,
        layers: vec![
            Layer { identifier: "l1".into(), width: 3 },
            Layer { identifier: "l2".into(), width: 4 },
        ],
        data: Bytes::from(format!("data of seed {seed}")).into(),
        key: Secret::env("PATH"),
        weights: Output::empty(),
    }
}

/// What a format has from the second on: a job with a metric and a checkpoint, which waits for
/// somebody; a label.
#[derive(Component, Clone)]
#[component(kind = "sample.Study")]
struct Study {
    identifier: String,
}

#[triggers]
impl Study {
    #[trigger("apply", retries = 2)]
    async fn learn(&self, ctx: &JobContext) -> Result<u64> {
        if let Some(kept) = ctx.checkpoints().await?.pop() {
            let state: Artifact<Bytes> = ctx.decode(kept.data, "checkpoint")?;
            return Ok(kept.step + state.get().await?.len() as u64);
        }
        ctx.metric("loss", 1, 0.5);
        let state: Artifact<Bytes> = Bytes::from("state of step 1").into();
        ctx.checkpoint(1, Some(0.25), Encoded::of(&state)?, Vec::new()).await?;
        Err(ctx.block("a grant").into())
    }
    #[trigger("apply", depends_on = "learn")]
    fn report(&self) -> Result<String> {
        Ok("done".to_owned())
    }
}

async fn fill_study(db: &Db) {
    let run = db.apply(Study { identifier: "s".into() }).detach().await.expect("applies");
    let learn = run.jobs().await.expect("jobs")[0].id;
    wait_until(db, learn, JobState::Blocked).await;
    db.label("sample.Study/s@0", "prod").await.expect("labels");
}

/// The study goes on from what the sample holds of it.
async fn look_at_study(db: &Db) {
    assert_eq!(
        db.resolve("sample.Study/s@prod").await.expect("a label").version.map(|at| at.version),
        Some(0)
    );
    let learn = job(db, "learn").await;
    assert_eq!((learn.state, learn.blocked.as_deref()), (JobState::Blocked, Some("a grant")));
    assert_eq!(job(db, "report").await.state, JobState::Queued);
    let metrics = db.metrics([learn.id]).await.expect("metrics");
    assert_eq!(
        metrics.iter().map(|row| (row.name.as_str(), row.step, row.value)).collect::<Vec<_>>(),
        [("loss", 1, 0.5)]
    );
    let kept = db.checkpoints(learn.id).await.expect("checkpoints");
    assert_eq!(
        kept.iter().map(|row| (row.number, row.step, row.score)).collect::<Vec<_>>(),
        [(1, 1, Some(0.25))]
    );
    db.unblock(learn.id).await.expect("unblocks");
    // Of a run that no process leads: somebody has to go on with it.
    db.resume().detach().await.expect("goes on");
    wait_until(db, job(db, "report").await.id, JobState::Succeeded).await;
    let learn = job(db, "learn").await;
    assert_eq!(
        (learn.state, learn.result),
        (JobState::Succeeded, Some(json!(16))),
        "it went on from its checkpoint"
    );
    db.remove::<Study>("s").await.expect("removes");
}

async fn job(db: &Db, method: &str) -> JobRow {
    let rows = db
        .jobs(JobFilter { target: Some(Address::new("sample.Study", "s")), ..JobFilter::default() })
        .await
        .expect("jobs");
    rows.into_iter().find(|row| row.method == method).expect("a job of the study")
}

/// Wait until a job is in a state.
async fn wait_until(db: &Db, job: JobId, state: JobState) {
    until(&format!("job {job} is {state}, which"), async || {
        db.job(job).await.expect("the job").state == state
    })
    .await;
}

/// What the samples of all formats hold: two versions, a revision, a failed job, a removed
/// component.
async fn fill(db: &Db) {
    db.apply(model(1, "first")).await.expect("applies");
    db.apply(model(1, "second")).await.expect("an update");
    db.apply(model(2, "bad")).await.expect_err("its check fails");
    db.apply(Layer { identifier: "gone".into(), width: 9 }).await.expect("applies");
    db.remove::<Layer>("gone").await.expect("removes");
}

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/samples/format-{format}"))
}

/// With `WRITE_SAMPLE=<format>` this writes a sample with the program of today; do that once, when
/// a format is released.
#[tokio::test]
async fn a_sample_is_written_on_request() {
    let scratch = tempfile::tempdir().expect("a folder");
    let target = match std::env::var("WRITE_SAMPLE") {
        Ok(format) => folder(format.parse().expect("the number of a format")),
        Err(_) => scratch.path().join("sample"),
    };
    let path = scratch.path().join("my.db");
    let db = Db::open(&path).await.expect("opens");
    fill(&db).await;
    fill_study(&db).await;
    drop(db);
    // The store's last connection closes a moment after the last handle.
    for _ in 0..200 {
        if !path.join("metadata.sqlite-wal").exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    std::fs::create_dir_all(&target).expect("a folder");
    std::fs::write(target.join("metadata.sql"), dump(&path.join("metadata.sqlite")))
        .expect("writes");
    copy(&path.join("artifacts"), &target.join("artifacts"));
    let again = restore(&target).await;
    look_at_study(&again.1).await;
    look(&again.1).await;
}

#[tokio::test]
async fn every_released_format_is_opened() {
    for format in 1.. {
        let sample = folder(format);
        if !sample.exists() {
            assert!(format > 2, "there are samples of formats 1 and 2");
            return;
        }
        let (scratch, db) = restore(&sample).await;
        is_brought_forward(format, scratch.path()).await;
        if format > 1 {
            look_at_study(&db).await;
        }
        look(&db).await;
    }
}

/// The database has today's format and all that belongs to it; a copy of the old one stays beside
/// it.
async fn is_brought_forward(format: u32, scratch: &Path) {
    let schema = |folder: &Path, file: &str| -> (u32, Vec<String>) {
        let sql = rusqlite::Connection::open(folder.join(file)).expect("opens");
        let format = sql.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a number");
        let mut statement = sql
            .prepare("SELECT type || ' ' || name FROM sqlite_schema ORDER BY 1")
            .expect("a query");
        let names =
            statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("rows");
        (format, names)
    };
    drop(Db::open(scratch.join("new.db")).await.expect("a new database"));
    let new = schema(&scratch.join("new.db"), "metadata.sqlite");
    let old = scratch.join("my.db");
    assert_eq!(schema(&old, "metadata.sqlite"), new);
    let backup = format!("metadata.sqlite.format-{format}");
    if format == new.0 {
        assert!(!old.join(backup).exists());
    } else {
        assert_eq!(schema(&old, &backup).0, format);
    }
}

/// The whole database as SQL text, in the order of its tables' rows.
fn dump(file: &Path) -> String {
    use rusqlite::types::ValueRef;
    let sql = rusqlite::Connection::open(file).expect("opens");
    let number = |pragma: &str| {
        sql.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
            .expect("a number")
    };
    let mut text = format!(
        "PRAGMA application_id = {};\nPRAGMA user_version = {};\n",
        number("application_id"),
        number("user_version")
    );
    text.push_str("PRAGMA foreign_keys = OFF;\nBEGIN;\n");
    let query = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND sql IS NOT NULL ORDER BY type = 'index', rowid";
    let mut statement = sql.prepare(query).expect("a query");
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    });
    let schema: Vec<_> = rows.expect("rows").map(|row| row.expect("a row")).collect();
    for (_, _, make) in &schema {
        text.push_str(&format!("{make};\n"));
    }
    let tables = schema.iter().filter(|(of, _, _)| of == "table").map(|(_, name, _)| name.as_str());
    for table in tables.chain(["sqlite_sequence"]) {
        if table == "sqlite_sequence" {
            // The rows above have made entries of their own.
            text.push_str("DELETE FROM sqlite_sequence;\n");
        }
        let mut statement = sql.prepare(&format!("SELECT * FROM {table}")).expect("a query");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let values: Vec<String> = (0..columns)
                .map(|column| match row.get_ref(column).expect("a value") {
                    ValueRef::Null => "NULL".to_owned(),
                    ValueRef::Integer(number) => number.to_string(),
                    ValueRef::Real(number) => format!("{number:?}"),
                    ValueRef::Text(text) => {
                        format!("'{}'", String::from_utf8_lossy(text).replace('\'', "''"))
                    }
                    ValueRef::Blob(bytes) => format!(
                        "x'{}'",
                        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
                    ),
                })
                .collect();
            text.push_str(&format!("INSERT INTO {table} VALUES ({});\n", values.join(", ")));
        }
    }
    text.push_str("COMMIT;\n");
    text
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// A sample as a database of today's program.
async fn restore(sample: &Path) -> (tempfile::TempDir, Db) {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = scratch.path().join("my.db");
    std::fs::create_dir(&path).expect("a folder");
    let sql = rusqlite::Connection::open(path.join("metadata.sqlite")).expect("opens");
    sql.execute_batch(&std::fs::read_to_string(sample.join("metadata.sql")).expect("the sample"))
        .expect("restores");
    sql.execute_batch("PRAGMA journal_mode = WAL;").expect("as a database of ours is");
    drop(sql);
    copy(&sample.join("artifacts"), &path.join("artifacts"));
    let db = Db::open(&path).await.expect("today's program opens it");
    (scratch, db)
}

/// What must be readable in a sample of any format.
async fn look(db: &Db) {
    let listed = db.list().await.expect("lists");
    let names: Vec<String> = listed.iter().map(|listed| listed.address.to_string()).collect();
    assert_eq!(names, ["sample.Layer/l1@0.0", "sample.Layer/l2@0.0", "sample.Model/m@1.0"]);
    assert!(matches!(listed[2].status, superduper::Status::Degraded(_)), "{:?}", listed[2].status);
    let old: Model = db.load("m@0").await.expect("loads");
    assert_eq!(
        (old.seed, old.note.as_str(), old.layers[1].width, old.nothing),
        (1, "second", 4, None)
    );
    assert_eq!((old.empty.as_str(), old.zero, old.off), ("", 0, false));
    assert_eq!(&old.data.get().await.expect("bytes")[..], b"data of seed 1");
    assert_eq!(
        &old.weights.get().expect("kept").get().await.expect("bytes")[..],
        b"weights of seed 1"
    );
    let first: Model = db.load("m@0.0").await.expect("a superseded revision");
    assert_eq!(first.note, "first");
    assert!(
        db.plan(model(2, "bad"))
            .await
            .expect("plans")
            .components()
            .iter()
            .all(|part| part.action == superduper::Action::Unchanged)
    );
    // The failed job is tried again, and all goes on from there.
    let mended = db.apply(model(2, "good")).await.expect("applies");
    assert_eq!(mended.result::<String>("check").expect("a result"), "good 2");
    assert_eq!(db.apply(model(3, "third")).await.expect("applies").version(), 2);
    db.remove::<Model>("m").recursive().await.expect("removes");
    assert!(db.list().await.expect("lists").is_empty());
}
