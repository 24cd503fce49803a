//! What databases do on stores with lost answers, late rows and lost locks; who did what.

use crate::support::until::found;
use crate::{
    fresh,
    support::{databases, in_folder},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use superduper::{
    Actor, Error, ErrorKind, Event, Spawn,
    prelude::*,
    store::{Cursor, JobFilter, JobState, LogEntry, LogHead, Op, RunFilter},
};

#[derive(Component, Clone)]
#[component(kind = "contract.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    number: u32,
    trained: Output<u32>,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    async fn train(&self, ctx: &JobContext) -> Result<u32> {
        match self.number {
            13 => return Err(Error::msg("unlucky")),
            14 if ctx.attempt() == 1 => return Err(ctx.block("a look").into()),
            15 => {
                ctx.spawn_with(Spawn::new("one", ctx.address(), "piece").input(1_u32))?;
                ctx.emit("trained", &self.identifier)?;
            }
            16 => {
                let state = superduper::Encoded::of(&7_u32)?;
                ctx.checkpoint(1, None, state, Vec::new()).await?;
                return Ok(u32::try_from(ctx.checkpoints().await?.len()).unwrap_or(0));
            }
            _ => {}
        }
        ctx.set(&self.trained, self.number)?;
        Ok(self.number)
    }

    #[trigger("call")]
    fn piece(&self, ctx: &JobContext) -> Result<u32> {
        ctx.input()
    }
}

fn model(identifier: &str, number: u32) -> Model {
    Model { identifier: identifier.into(), number, trained: Output::empty() }
}

async fn counts(db: &Db) -> (usize, usize, usize) {
    let (runs, jobs) = (
        db.runs(RunFilter::default()).await.unwrap(),
        db.jobs(JobFilter::default()).await.unwrap(),
    );
    (
        runs.len(),
        jobs.len(),
        db.versions("contract.Model/m").await.map_or(0, |versions| versions.len()),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_a_commit_whose_answer_is_lost_counts_and_is_not_repeated() {
    for on in databases().await {
        let db = &on.db;
        on.metadata.lose_answers(|op| matches!(op, Op::Put(_)), 2);
        db.apply(model("m", 1)).await.expect("it was written");
        assert_eq!(counts(db).await, (1, 1, 1));
        on.metadata.lose_answers(|op| matches!(op, Op::Label { .. }), 1);
        db.label("contract.Model/m@0", "prod").await.expect("it was written");
        let events = db.metadata().events(Cursor::default(), None, 1000).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == "component.labelled").count(), 1);
        on.metadata.lose_answers(|op| matches!(op, Op::Rename { .. }), 1);
        db.rename("contract.Model/m", "contract.Model/n").await.expect("it was written");
        db.rename("contract.Model/n", "contract.Model/m").await.expect("and nothing is left of it");
        // The end of an attempt, with a spawned job and a message.
        on.metadata.fail_ends(1, true);
        db.apply(model("m", 15)).await.expect("it was written");
        let keyed =
            db.jobs(JobFilter { key: Some("one".into()), ..JobFilter::default() }).await.unwrap();
        assert_eq!(keyed.len(), 1);
        assert_eq!(db.metadata().messages(Cursor::default(), 10).await.unwrap().len(), 1);
        on.metadata.lose_answers(|op| matches!(op, Op::Checkpoint(_)), 1);
        let applied = db.apply(model("m", 16)).await.expect("it was written");
        assert_eq!(applied.result::<u32>("train").unwrap(), 1, "one checkpoint");
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().join("m.tar");
        db.export("contract.Model/m", &path).await.unwrap();
        let other = in_folder().await;
        other.metadata.lose_answers(|op| matches!(op, Op::Put(_)), 1);
        other.db.import(&path).await.expect("it was written");
        assert_eq!(other.db.versions("contract.Model/m").await.unwrap().len(), 1);
        on.metadata.lose_answers(|op| matches!(op, Op::Run(_)), 1);
        db.remove::<Model>("m").await.expect("it was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_a_commit_gives_up_after_repeated_lost_answers() {
    let on = in_folder().await;
    on.metadata.lose_answers(|op| matches!(op, Op::Put(_)), 100);
    let error = on.db.apply(model("m", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    on.metadata.lose_answers(|_| false, 0);
    on.db.resume().await.expect("what was written is on record");
    assert_eq!(counts(&on.db).await.2, 1, "it was written once");
}

#[tokio::test(flavor = "multi_thread")]
async fn e17_events_and_messages_come_once_and_in_one_order_whatever_becomes_visible_when() {
    for on in databases().await {
        on.metadata.reorder();
        let received: Arc<Mutex<Vec<(i64, String)>>> = Arc::default();
        let seen = received.clone();
        on.db.on_message("trained", move |message| {
            let seen = seen.clone();
            async move {
                seen.lock()
                    .expect("no panic")
                    .push((message.id, message.payload.as_str().unwrap_or_default().to_owned()));
                Ok::<_, Error>(())
            }
        });
        let mut first = on.db.events_after(Cursor::default());
        let names: Vec<String> = (0..6).map(|number| format!("m{number}")).collect();
        for name in &names {
            on.db.apply(model(name, 15)).await.unwrap();
        }
        let expected: BTreeSet<i64> = {
            let all =
                on.metadata.inner().events(Cursor::default(), None, usize::MAX).await.unwrap();
            all.iter().map(|event| event.seq).collect()
        };
        let read = async |stream: &mut superduper::EventStream| {
            let mut seqs = Vec::new();
            while seqs.len() < expected.len() {
                let next = tokio::time::timeout(Duration::from_secs(20), stream.next())
                    .await
                    .expect("an event comes");
                if let Some(Event::Recorded(row)) = next.unwrap() {
                    seqs.push(row.seq);
                }
            }
            seqs
        };
        let (one, two) =
            (read(&mut first).await, read(&mut on.db.events_after(Cursor::default())).await);
        assert_eq!(
            one.iter().copied().collect::<BTreeSet<_>>(),
            expected,
            "all come, and none twice"
        );
        assert!(!one.is_sorted(), "the store does reorder");
        assert_eq!(one, two, "all readers see one order");
        // A stream that begins at the cursor of another one goes on where that one is.
        on.db.apply(model("last", 1)).await.unwrap();
        let cursor: Cursor =
            serde_json::from_value(serde_json::to_value(first.cursor().unwrap()).unwrap()).unwrap();
        let next = tokio::time::timeout(Duration::from_secs(20), on.db.events_after(cursor).next())
            .await
            .expect("an event comes");
        assert!(
            matches!(next.unwrap(), Some(Event::Recorded(row)) if !expected.contains(&row.seq))
        );
        let begun = Instant::now();
        while on.db.deliver().await.unwrap() > 0 || received.lock().unwrap().len() < names.len() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", received.lock().unwrap());
        }
        let mut got: Vec<String> =
            received.lock().unwrap().iter().map(|(_, name)| name.clone()).collect();
        got.sort();
        assert_eq!(got, names, "each message once");
    }
}

#[derive(Component, Clone)]
#[component(kind = "contract.Holder")]
struct Holder {
    identifier: String,
    data: Artifact<Bytes>,
}

fn holder(identifier: &str) -> Holder {
    Holder { identifier: identifier.into(), data: Bytes::from_static(b"weights").into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn e16_a_sweeper_that_lost_its_lock_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let slow = crate::support::in_folder_at(&path).await;
    let other = Db::builder().at(&path).unwrap().gc_grace(Duration::ZERO).build().await.unwrap();
    slow.db.apply(holder("first")).await.unwrap();
    let digest = slow.db.load::<Holder>("first").await.unwrap().data.digest().unwrap();
    // A removal marks the blob, and stands still before it deletes it.
    slow.metadata.marks.close();
    let db = slow.db.clone();
    let removing = tokio::spawn(async move { db.remove::<Holder>("first").await });
    slow.metadata.marks.reached().await;
    // Its lock is lost, as a lease would be; another process completes the sweep, and the blob is
    // stored again.
    std::fs::remove_file(path.join("sweep.lock")).unwrap();
    other.gc(false).await.unwrap();
    assert!(
        other.artifact_store().size(digest).await.unwrap().is_none(),
        "the other one deleted it"
    );
    other.apply(holder("second")).await.unwrap();
    slow.metadata.marks.open();
    removing.await.unwrap().expect("the removal itself is on record");
    assert!(
        other.artifact_store().size(digest).await.unwrap().is_some(),
        "the late one deleted what was stored again"
    );
    assert!(other.verify().await.unwrap().is_sound());
    assert_eq!(
        &**other.load::<Holder>("second").await.unwrap().data.get().await.unwrap(),
        b"weights"
    );
}

async fn audit(db: &Db) -> Vec<(String, String)> {
    let entries = db.log_entries("audit", 0, 1000).await.unwrap();
    let text =
        |entry: &LogEntry, key: &str| entry.payload[key].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| (text(entry, "action"), text(entry, "target"))).collect()
}

/// Do each of the writes that the audit log knows, and give what it is to say.
async fn write_all(db: &Db) -> Vec<&'static str> {
    db.apply(model("m", 1)).await.unwrap();
    db.apply(model("m", 2)).await.unwrap();
    db.label("contract.Model/m@0", "prod").await.unwrap();
    db.move_label("contract.Model/m@1", "prod", Some(0)).await.unwrap();
    db.unlabel("contract.Model/m", "prod").await.unwrap();
    db.rename("contract.Model/m", "contract.Model/n").await.unwrap();
    db.rollback("contract.Model/n", 0).await.unwrap();
    db.apply(model("bad", 13)).await.unwrap_err();
    let failed = db
        .jobs(JobFilter { states: Some(vec![JobState::Failed]), ..JobFilter::default() })
        .await
        .unwrap()[0]
        .id;
    db.retry(failed).await.unwrap_err();
    let blocked = async |name: &str| {
        db.apply(model(name, 14)).detach().await.unwrap();
        let states = Some(vec![JobState::Blocked]);
        let filter = JobFilter { states, ..JobFilter::default() };
        found("a blocked job", async || {
            db.jobs(filter.clone()).await.unwrap().first().map(|row| row.id)
        })
        .await
    };
    let job = blocked("c").await;
    db.complete(job, 3).await.unwrap();
    let job = blocked("r").await;
    db.reject(job, "no").await.unwrap();
    let job = blocked("x").await;
    db.cancel(job).await.unwrap();
    let run = db.apply(model("y", 14)).detach().await.unwrap();
    run.cancel().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    db.export("contract.Model/n", folder.path().join("n.tar")).await.unwrap();
    db.remove::<Model>("n").await.unwrap();
    db.import(folder.path().join("n.tar")).await.unwrap();
    db.apply(model("n", 20)).await.unwrap();
    db.prune("contract.Model/n", superduper::Keep::last(1)).await.unwrap();
    vec![
        "apply", "apply", "label", "label", "unlabel", "rename", "rollback", "apply", "retry",
        "apply", "complete", "apply", "reject", "apply", "cancel", "apply", "cancel", "remove",
        "import", "apply", "prune",
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn e30_each_write_of_an_actor_is_in_the_audit_log() {
    for on in databases().await {
        let actor = Actor::new("maria").origin("a test").note("ticket 4711");
        let expected = write_all(&on.db.acting_as(actor.clone())).await;
        let log = audit(&on.db).await;
        let actions: Vec<&str> = log.iter().map(|(action, _)| &**action).collect();
        assert_eq!(actions, expected, "{log:?}");
        assert!(log.iter().all(|(_, target)| !target.is_empty()));
        let entries = on.db.log_entries("audit", 0, 1000).await.unwrap();
        assert!(
            entries
                .iter()
                .all(|entry| entry.payload["actor"] == serde_json::to_value(&actor).unwrap())
        );
        assert_eq!(
            entries.iter().filter(|entry| entry.run.is_some()).count(),
            9,
            "an entry names the run of its commit"
        );
        on.db.check_log("audit", None).await.unwrap();
        // A call that writes nothing leaves no entry, and neither does a handle that acts for
        // nobody.
        on.db.acting_as(actor).apply(model("n", 20)).await.unwrap();
        on.db.apply(model("z", 1)).await.unwrap();
        assert_eq!(audit(&on.db).await.len(), expected.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e30_a_write_and_its_audit_entry_commit_together_or_not_at_all() {
    let on = in_folder().await;
    let db = on.db.acting_as(Actor::new("maria"));
    db.apply(model("m", 1)).await.unwrap();
    on.metadata.fail_commits(|op| matches!(op, Op::Append { .. }));
    let before = (counts(&db).await, audit(&db).await.len());
    db.apply(model("m", 2)).await.unwrap_err();
    db.label("contract.Model/m@0", "prod").await.unwrap_err();
    db.rename("contract.Model/m", "contract.Model/n").await.unwrap_err();
    db.remove::<Model>("m").await.unwrap_err();
    assert_eq!((counts(&db).await, audit(&db).await.len()), before);
    assert!(db.labels("contract.Model/m").await.unwrap().is_empty());
    on.metadata.fail_commits(|op| matches!(op, Op::Label { .. }));
    db.label("contract.Model/m@0", "prod").await.unwrap_err();
    assert_eq!(audit(&db).await.len(), before.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn e21_four_writers_make_one_chain_and_every_change_of_it_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let mut writers = Vec::new();
    for number in 0..4 {
        let path = path.clone();
        writers.push(tokio::spawn(async move {
            let db = Db::open(&path).await.unwrap();
            for entry in 0..25 {
                db.append("decisions", serde_json::json!({ "by": number, "entry": entry }))
                    .await
                    .unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let db = Db::open(&path).await.unwrap();
    let head = db.check_log("decisions", None).await.unwrap();
    assert_eq!(head, db.log_head("decisions").await.unwrap());
    assert_eq!(head.seq, 100);
    db.append("decisions", "later").await.unwrap();
    db.check_log("decisions", Some(head)).await.expect("a log that has grown holds what it held");
    assert_eq!(db.check_log("nothing", None).await.unwrap(), LogHead::EMPTY);
    for name in ["", "audit"] {
        assert_eq!(db.append(name, 1).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(db.append("decisions", f64::NAN).await.unwrap_err().kind(), ErrorKind::Encode);
    drop(db);
    let damages = [
        ("UPDATE log_entry SET payload = '{\"by\":9}' WHERE seq = 40", "entry 40 was changed"),
        ("DELETE FROM log_entry WHERE seq = 40", "entry 40 is missing"),
        (
            "UPDATE log_entry SET seq = seq + 1000 WHERE seq IN (40, 41); UPDATE log_entry SET seq = 1081 - seq WHERE seq > 1000",
            "entry 40 was changed",
        ),
        ("DELETE FROM log_entry WHERE seq > 50", "ends with entry 50"),
        ("UPDATE log_entry SET at = at + 1 WHERE seq = 40", "entry 40 was changed"),
        ("DELETE FROM log_entry", "ends with entry 0"),
    ];
    for (damage, text) in damages {
        let copy = folder.path().join("copy.db");
        std::fs::create_dir_all(&copy).unwrap();
        rusqlite::Connection::open(path.join("metadata.sqlite"))
            .and_then(|sql| {
                sql.execute("VACUUM INTO ?1", [copy.join("metadata.sqlite").to_str().unwrap()])
            })
            .unwrap();
        rusqlite::Connection::open(copy.join("metadata.sqlite"))
            .and_then(|sql| sql.execute_batch(damage))
            .unwrap();
        let db = Db::open(&copy).await.unwrap();
        let error = db.check_log("decisions", Some(head)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert!(error.to_string().contains(text), "{damage}: {error}");
        drop(db);
        std::fs::remove_dir_all(&copy).unwrap();
    }
}

#[tokio::test]
async fn e17_a_cursor_of_another_store_is_refused() {
    let db = fresh::db().await;
    let error = db.events_after(Cursor::new("page 7")).next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`page 7` is not a cursor of this store"), "{error}");
}
