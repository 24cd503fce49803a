//! What of the source is captured, and what a preview says of the rest.

use super::{custom, net, started, types::*};
use crate::support::*;
use superduper::prelude::*;
use superduper_federated::{ClientExecutor, DefaultPersistor, HasClass, SiteAnswer, State};

const FILE: &str = include_str!("types.rs");
const MORE: &str = include_str!("more.rs");

fn between(file: &'static str, start: &str, end: &str) -> &'static str {
    let start = file.find(start).expect("the start is there");
    let length = file[start..].find(end).expect("the end is there") + end.len();
    &file[start..start + length]
}

fn with(
    name: &str,
    executor: impl ClientExecutor + 'static,
) -> superduper_federated::FederatedTraining {
    let mut training = net(name);
    training.executor = Box::new(executor);
    training
}

#[tokio::test(flavor = "multi_thread")]
async fn c01_the_captured_source_is_the_item_byte_for_byte_with_the_uses_of_its_file() {
    let place = Place::new();
    let db = place.open().await;
    let preview = net("c01").preview(&db).await.unwrap();
    let script = preview.file("scripts/net.rs").expect("the model is captured");
    assert!(script.contains(between(FILE, "/// A backbone", "\n}")), "{script}");
    assert!(script.contains(between(FILE, "#[source]\nimpl FederatedModel", "\n}")), "{script}");
    for line in
        ["use serde::{Deserialize, Serialize};", between(FILE, "use superduper_federated", ";")]
    {
        assert!(script.contains(line), "{script}");
    }
    assert!(preview.files.iter().all(|file| !file.text.contains(env!("CARGO_MANIFEST_DIR"))));
    assert!(preview.file("scripts/custom_client_executor.rs").is_none(), "that is the default's");
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_two_blocks_in_two_files_are_captured_each_with_its_uses() {
    let place = Place::new();
    let db = place.open().await;
    let preview = with("c11", custom()).preview(&db).await.unwrap();
    let script = preview.file("scripts/custom_client_executor.rs").expect("it is captured");
    assert!(script.contains("// From `tests/it/sdk/more.rs` of the crate"), "{script}");
    assert!(script.contains(between(MORE, "#[source]\nimpl Custom", "\n}")), "{script}");
    assert!(script.contains("use superduper::{Result as Outcome, source};"), "{script}");
    let begin = "#[source]\n#[typetag::serde(name = \"it.Custom\")]";
    assert!(script.contains(between(FILE, begin, "\n}")), "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_a_block_without_the_mark_is_named_and_the_apply_goes_on() {
    let place = Place::new();
    let db = place.open().await;
    let preview = with("c11b", Half {}).preview(&db).await.unwrap();
    let note = preview.notes.iter().find(|note| note.contains("impl ClientExecutor for Half"));
    let note = note.expect("a note names the block");
    assert!(note.contains("referred to by path `it::sdk::types::Half`"), "{note}");
    assert!(note.contains("add `#[source]` above the `impl`"), "{note}");
    let trainer = trained(&db, with("c11b", Half {}), None).await;
    assert_eq!(trainer.state().await.unwrap(), State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn c03_source_that_a_macro_wrote_is_referred_to_by_its_path_and_the_apply_goes_on() {
    let place = Place::new();
    let db = place.open().await;
    let preview = with("c03", Written {}).preview(&db).await.unwrap();
    let wanted = "could not capture the source of `struct Written`: ";
    let note = preview.notes.iter().find(|note| note.starts_with(wanted)).expect("a note");
    assert!(note.ends_with("; referred to by path `it::sdk::types::Written`"), "{note}");
    assert!(preview.file("scripts/custom_client_executor.rs").is_none());
    let trainer = trained(&db, with("c03", Written {}), None).await;
    assert_eq!(trainer.state().await.unwrap(), State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn c20_a_helper_of_the_same_file_that_is_not_captured_is_named() {
    let place = Place::new();
    let db = place.open().await;
    let preview = net("c20").preview(&db).await.unwrap();
    let note = "`impl FederatedModel for Net` of `tests/it/sdk/types.rs` uses `mean_of` of the same \
                file, which is not captured";
    assert!(preview.notes.iter().any(|found| found == note), "{:?}", preview.notes);
    assert!(!preview.notes.iter().any(|note| note.contains("uses `Net`")), "{:?}", preview.notes);
    let mut training = net("c20");
    training.persistor = Box::new(Int8Head { folder: "somewhere".into() });
    let preview = training.preview(&db).await.unwrap();
    assert!(preview.notes.iter().any(|note| note.contains("uses `STEP`")), "{:?}", preview.notes);
    // A method in a block that is not captured, and a function that is.
    let note =
        "`impl ModelPersistor for Int8Head` of `tests/it/sdk/types.rs` uses `Int8Head::path`";
    assert!(preview.notes.iter().any(|found| found.starts_with(note)), "{:?}", preview.notes);
    assert!(
        !preview.notes.iter().any(|note| note.contains("uses `to_byte`")),
        "{:?}",
        preview.notes
    );
    let script = preview.file("scripts/custom_persistor.rs").unwrap();
    assert!(script.contains("fn to_byte(value: f32) -> u8 {"), "{script}");
    training.persistor = Box::new(Int8Head { folder: "/tmp/heads".into() });
    let preview = training.preview(&db).await.unwrap();
    let note = "`persistor.folder` is the absolute path `/tmp/heads`";
    assert!(preview.notes.iter().any(|found| found.starts_with(note)), "{:?}", preview.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_another_source_is_another_hash_and_the_preview_says_so() {
    let place = Place::new();
    let db = place.open().await;
    let first = net("c10").preview(&db).await.unwrap();
    let again = net("c10").preview(&Place::new().open().await).await.unwrap();
    assert_eq!(first.hash(), again.hash(), "another database and folder");
    assert_ne!(first.hash(), with("c10", custom()).preview(&db).await.unwrap().hash());

    // The worker program has its own types: those of this program have another source.
    let place = Place::new();
    let mut worker = crate::crash::Worker::train(&place, "small");
    while !worker.has_ended() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let db = place.open_shared().await;
    let training = || crate::trainings::training("small", &place.path()).unwrap();
    let stored = db.load::<superduper_federated::FederatedTraining>("small").await.unwrap();
    let started = stored.started.get().unwrap();
    let preview = training().preview(&db).await.unwrap();
    assert_ne!(preview.hash(), started.preview_hash);
    let note = "the source of model, executor or persistor differs from that with which the stored \
         training was started";
    assert!(preview.notes.iter().any(|found| found == note), "{:?}", preview.notes);
    // It is noted, and nothing is trained again.
    let before = db.jobs(superduper::store::JobFilter::default()).await.unwrap().len();
    db.apply(training()).await.unwrap();
    assert_eq!(db.jobs(superduper::store::JobFilter::default()).await.unwrap().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn c04_a_preview_writes_nothing_and_its_hash_is_that_of_what_is_applied() {
    let place = Place::new();
    let db = place.open().await;
    let files = |place: &Place| -> Vec<_> {
        let all = walk(place.folder.path());
        all.into_iter().filter(|(path, _)| !path.ends_with("-shm")).collect()
    };
    let before = files(&place);
    let training = || {
        let mut training = with("c04", custom()).rounds(2);
        training.sites[1] = superduper_federated::Site::remote("r").endpoint(Book::named("c04"));
        training.config.num_classes = 2;
        training.federation.min_clients = 1;
        training.federation.wait_time_after_min_received = 0.0;
        training.options.model_test_after_each_round = false;
        training
    };
    let preview = training().preview(&db).await.unwrap();
    assert_eq!(files(&place), before, "nothing is written");
    assert!(db.list().await.unwrap().is_empty());
    assert_eq!(told("c04"), [""; 0], "nobody is told");
    assert_eq!(preview.sites[0].answer, SiteAnswer::Allowed);
    assert_eq!(preview.sites[1].answer, SiteAnswer::Remote);
    let trainer = started(&db, training()).await;
    wait_until(|| told("c04").contains(&"UPDATE_ROUND_START{1}".to_owned())).await;
    let stored = trainer.training().await.unwrap();
    assert_eq!(stored.started.get().unwrap().preview_hash, preview.hash());
    assert_eq!(training().preview(&db).await.unwrap().hash(), preview.hash());

    // The jobs are those that the run has.
    let run = db.jobs(superduper::store::JobFilter::default()).await.unwrap();
    let keys: Vec<&str> = run.iter().filter_map(|job| job.key.as_deref()).collect();
    // Also the other way: all jobs of the round are there.
    for row in run.iter().filter(|row| row.key.as_deref().is_some_and(|key| key.contains("r0/"))) {
        let key = row.key.as_deref().unwrap();
        assert!(preview.jobs.iter().any(|job| job.key == key), "{key} is missing in the preview");
    }
    for job in &preview.jobs {
        let spawned = run.iter().find(|row| row.key.as_deref() == Some(&job.key));
        let found = spawned.map(|row| row.method.as_str());
        assert_eq!(found, Some(&*job.trigger), "{} in {keys:?}", job.key);
    }
    assert!(preview.jobs.iter().any(|job| job.key == "r0/train/r" && job.trigger == "remote_task"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c04_the_answer_of_each_gate_is_shown() {
    use serde::{Deserialize, Serialize};
    use superduper::BoxFuture;
    use superduper_federated::{Decision, Gate, Request};

    #[derive(Debug, Serialize, Deserialize)]
    struct Says(String);

    #[typetag::serde(name = "it.Says")]
    impl Gate for Says {
        fn allow<'a>(&'a self, _: &'a Db, request: &'a Request) -> BoxFuture<'a, Result<Decision>> {
            Box::pin(async move {
                assert_eq!(request.source_digest.len(), 64);
                match self.0.as_str() {
                    "deny" => Ok(Decision::Deny("not here".into())),
                    "block" => Ok(Decision::Block { reason: "ask me".into(), read: Vec::new() }),
                    "fail" => Err(Error::invalid("the gate is broken")),
                    _ => Ok(Decision::Allow),
                }
            })
        }
    }

    let place = Place::new();
    let db = place.open().await;
    let sites = ["allow", "deny", "block", "fail"]
        .map(|says| superduper_federated::Site::new(says, rows(&[1.0])).gate(Says(says.into())));
    let preview = net("c04g").sites(sites).preview(&db).await.unwrap();
    let answers: Vec<String> = preview.sites.iter().map(|site| site.answer.to_string()).collect();
    assert_eq!(answers[0], "takes part");
    assert_eq!(answers[1], "does not take part: not here");
    assert_eq!(answers[2], "waits: ask me");
    assert!(answers[3].contains("its gate failed: the gate is broken"), "{}", answers[3]);
    assert!(preview.to_string().contains("deny does not take part: not here, 1 rows"), "{preview}");
}

#[test]
fn the_class_of_what_is_built_in_is_told_by_its_path() {
    let class = DefaultPersistor::default().class();
    assert_eq!(class.name(), "DefaultPersistor");
    assert!(class.path.starts_with("superduper_federated::"), "{}", class.path);
}

/// All files below a folder, with their bytes.
fn walk(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(walk(&path));
        } else {
            all.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    all.sort();
    all
}
