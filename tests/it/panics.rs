//! Panics of user code that runs in the caller's task: they are errors that say where, and the
//! database goes on.

use crate::support::{databases, refused, says};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::atomic::{AtomicBool, Ordering};
use superduper::{FailureKind, JobPolicy, prelude::*};

/// Panics when it is written or read, as its text says.
#[derive(Clone, Debug, PartialEq)]
struct Odd(String);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != "write", "cannot be written");
        serializer.serialize_str(&self.0)
    }
}

static READS: AtomicBool = AtomicBool::new(true);

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        assert!(
            text != "read" && (text != "read later" || READS.load(Ordering::SeqCst)),
            "cannot be read"
        );
        Ok(Odd(text))
    }
}

#[derive(Component, Clone)]
#[component(kind = "panics.Fragile")]
struct Fragile {
    identifier: String,
    odd: Odd,
    parts: Vec<Fragile>,
    made: Output<Odd>,
}

impl Lifecycle for Fragile {
    fn postinit(&mut self) -> Result<()> {
        assert!(self.odd.0 != "postinit", "cannot be set up from {}", self.odd.0);
        Ok(())
    }
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        assert!(self.odd.0 != "setup", "no setup");
        Ok(())
    }
}

#[triggers]
impl Fragile {
    fn policy(&self) -> JobPolicy {
        assert!(self.odd.0 != "policy", "no policy");
        JobPolicy::default()
    }

    #[trigger("apply", policy = "policy")]
    async fn work(&self, ctx: &JobContext) -> Result<Odd> {
        match self.odd.0.as_str() {
            "output" => ctx.set(&self.made, Odd("write".into()))?,
            "result" => return Ok(Odd("write".into())),
            _ => {}
        }
        Ok(Odd("fine".into()))
    }
}

fn fragile(identifier: &str, odd: &str) -> Fragile {
    Fragile {
        identifier: identifier.into(),
        odd: Odd(odd.into()),
        parts: Vec::new(),
        made: Output::empty(),
    }
}

#[tokio::test]
async fn fault_21_panics_while_a_component_is_written_or_read_are_errors() {
    for database in databases().await {
        let db = &database.db;
        for (odd, parts) in [
            ("write", ["`odd` in `panics.Fragile/inner`", "panicked: cannot be written"]),
            ("read", ["`panics.Fragile/inner`: decoding", "panicked: cannot be read"]),
            (
                "postinit",
                ["`panics.Fragile/inner`: postinit", "panicked: cannot be set up from postinit"],
            ),
            ("policy", ["encoding", "panicked: no policy"]),
        ] {
            let outer = Fragile { parts: vec![fragile("inner", odd)], ..fragile("outer", "fine") };
            says(&refused(db.plan(&outer).await), ErrorKind::User, &parts);
            says(&refused(db.apply(&outer).await), ErrorKind::User, &parts);
            says(&refused(db.apply(outer).detach().await), ErrorKind::User, &parts);
            assert!(db.list().await.unwrap().is_empty(), "{odd}: nothing was written");
        }
        let built = Fragile::builder("built").odd(Odd("postinit".into())).parts(Vec::new()).build();
        says(
            &refused(built),
            ErrorKind::User,
            &["`panics.Fragile/built`: postinit panicked: cannot be set up"],
        );
        says(
            &refused(fragile("a", "write").encode()),
            ErrorKind::User,
            &["encoding `odd` in `panics.Fragile/a` panicked: cannot be written"],
        );
        says(
            &refused(db.setup(&fragile("a", "setup")).await),
            ErrorKind::User,
            &["setup panicked: no setup"],
        );
        // What comes after a panic on the same thread is not disturbed by it.
        db.apply(fragile("fine", "fine")).await.unwrap();
        assert_eq!(db.load::<Fragile>("fine").await.unwrap().odd.0, "fine");
    }
}

#[tokio::test]
async fn fault_21_a_stored_component_whose_reading_panics_is_an_error_of_load() {
    let database = crate::support::in_folder().await;
    let db = &database.db;
    READS.store(true, Ordering::SeqCst);
    db.apply(fragile("stored", "read later")).await.unwrap();
    READS.store(false, Ordering::SeqCst);
    let parts = ["`panics.Fragile/stored@0.0`: decoding panicked: cannot be read"];
    says(&refused(db.load::<Fragile>("stored").await), ErrorKind::User, &parts);
    says(&refused(db.load_dyn("panics.Fragile/stored").await), ErrorKind::User, &parts);
    assert_eq!(db.list().await.unwrap().len(), 1);
    let report = db.verify().await.unwrap();
    assert!(
        report.to_string().contains("it cannot be loaded")
            && report.to_string().contains("cannot be read"),
        "{report}"
    );
    READS.store(true, Ordering::SeqCst);
    assert!(
        db.load::<Fragile>("stored").await.is_ok()
            && db.verify().await.unwrap().findings.is_empty()
    );
}

#[tokio::test]
async fn fault_21_panics_while_a_result_or_output_is_written_fail_the_job() {
    for database in databases().await {
        for odd in ["output", "result"] {
            let error = refused(database.db.apply(fragile(odd, odd)).await);
            let failure = error.outcome().unwrap().job("work").unwrap().failure.clone().unwrap();
            assert_eq!(failure.kind, FailureKind::Panic, "{failure}");
            assert!(failure.message.contains("panicked: cannot be written"), "{failure}");
        }
    }
}
