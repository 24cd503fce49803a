//! Guards that nothing else here would miss: each of these tests fails without the one that it
//! names.

use crate::support::{databases, in_folder, refused, says};
use superduper::{__private::Encoded, Action, prelude::*};

/// Two secrets that mark a new version, were they plain texts.
#[derive(Component, Clone)]
#[component(kind = "guards.Client")]
struct Client {
    identifier: String,
    #[component(breaking)]
    url: String,
    #[component(breaking)]
    token: Secret<String>,
    #[component(breaking)]
    more: Vec<Option<Secret<String>>>,
}

/// A plan says of a change whether it makes a new version.
#[tokio::test]
async fn fault_32_a_changed_secret_is_not_marked_as_breaking() {
    for on in databases().await {
        let client = |url: &str, variable: &str| Client {
            identifier: "c".into(),
            url: url.into(),
            token: Secret::env(variable),
            more: vec![Some(Secret::env(variable)), Some(Secret::env("PATH"))],
        };
        on.db.apply(client("a", "PATH")).await.expect("applies");
        let plan = on.db.plan(client("a", "HOME")).await.expect("plans");
        let marks: Vec<(String, bool)> =
            plan.changes().iter().map(|change| (change.path.clone(), change.breaking)).collect();
        assert_eq!(marks, [("more[0]".to_owned(), false), ("token".to_owned(), false)]);
        assert!(!plan.to_string().contains("breaking"), "{plan}");
        let applied = on.db.apply_plan(plan).await.expect("applies");
        assert_eq!((applied.action, applied.version(), applied.revision()), (Action::Update, 0, 1));
        let plan = on.db.plan(client("b", "PATH")).await.expect("plans");
        let breaking: Vec<&str> = plan
            .changes()
            .iter()
            .filter(|change| change.breaking)
            .map(|change| &*change.path)
            .collect();
        assert_eq!(breaking, ["url"]);
    }
}

#[derive(Component, Clone)]
#[component(kind = "guards.Network")]
struct Network {
    identifier: String,
    layers: Artifact<Tensors>,
}

/// A header that makes sense, but is not the one that was saved, gives tensors other names, types
/// and shapes.
#[tokio::test]
async fn fault_32_a_header_of_tensors_that_makes_sense_is_verified_too() {
    let on = in_folder().await;
    let tensors = Tensors::new()
        .with("key", &[2, 3], &[1.0_f32; 6])
        .expect("a tensor")
        .with("out", &[2, 3], &[2.0_f32; 6])
        .expect("a tensor");
    on.db.apply(Network { identifier: "n".into(), layers: tensors.into() }).await.expect("applies");
    let back: Network = on.db.load("n").await.expect("loads");
    let hex = back.layers.digest().expect("a digest").to_hex();
    let path = on.artifact_folder().expect("a folder").join("blake3").join(&hex[..2]).join(&hex);
    let whole = std::fs::read(&path).expect("a file");
    let length =
        8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")))
            .expect("a length");
    let header = std::str::from_utf8(&whole[8..length]).expect("text");
    for (what, other) in [
        (
            "names",
            header
                .replace("\"key\"", "\"x\"")
                .replace("\"out\"", "\"key\"")
                .replace("\"x\"", "\"out\""),
        ),
        ("shapes", header.replace("[2,3]", "[3,2]")),
        ("types", header.replace("F32", "I32")),
    ] {
        assert!(other != header && other.len() == header.len(), "{what}: {other}");
        let damaged = [&whole[..8], other.as_bytes(), &whole[length..]].concat();
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, damaged).expect("damaged");
        let back: Network = on.db.load("n").await.expect("loads");
        let error = refused(back.layers.get().await);
        says(
            &error,
            ErrorKind::Integrity,
            &["guards.Network/n", "the header has other bytes than were saved"],
        );
    }
}

#[derive(Component, Clone)]
#[component(kind = "guards.Holder")]
struct Holder {
    identifier: String,
    data: Artifact<Bytes>,
}

/// A sweep between the upload of a blob and the commit that names it takes the blob: the commit is
/// refused, and the apply uploads it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_32_an_apply_that_a_sweep_overtook_uploads_its_blobs_again() {
    for on in databases().await {
        on.metadata.puts.close();
        let holder =
            Holder { identifier: "h".into(), data: Bytes::from_static(b"swept in between").into() };
        let applying = tokio::spawn(on.db.apply(holder).into_future());
        on.metadata.puts.reached().await;
        let swept = on.db.gc(false).await.expect("collects");
        assert_eq!(
            (swept.blobs.len(), on.blob_count().await),
            (1, 0),
            "nothing names the blob yet"
        );
        on.metadata.puts.open();
        applying.await.expect("no panic").expect("applies");
        let back: Holder = on.db.load("h").await.expect("loads");
        assert_eq!(&back.data.get().await.expect("bytes")[..], b"swept in between");
        assert!(on.db.verify().await.expect("verifies").is_sound());
    }
}

/// Measures something and keeps a checkpoint.
#[derive(Component, Clone)]
#[component(kind = "guards.Measuring")]
struct Measuring {
    identifier: String,
}

#[triggers]
impl Measuring {
    #[trigger("apply")]
    async fn work(&self, ctx: &JobContext) -> Result<u32> {
        ctx.metric("loss", 7, 0.5);
        ctx.checkpoint(7, None, Encoded::of(&json!({"step": 7}))?, Vec::new()).await
    }
}

/// A later attempt goes on after the checkpoint, so that what was measured before it would never be
/// measured again.
#[tokio::test]
async fn fault_32_a_checkpoint_waits_for_the_metrics_before_it() {
    for on in databases().await {
        on.metadata.set_noteless(true);
        let error = refused(on.db.apply(Measuring { identifier: "m".into() }).await);
        says(&error, ErrorKind::JobFailed, &["writing the metrics before a checkpoint"]);
        let [job] = &on.jobs().await[..] else { panic!("one job") };
        assert!(
            on.db.checkpoints(job.id).await.expect("checkpoints").is_empty(),
            "there is no state without its metrics"
        );
        on.metadata.set_noteless(false);
        on.db.apply(Measuring { identifier: "m".into() }).await.expect("applies");
        let job = on.jobs().await.pop().expect("a job").id;
        assert_eq!(
            (
                on.db.checkpoints(job).await.expect("checkpoints").len(),
                on.db.metrics([job]).await.expect("metrics").len()
            ),
            (1, 1)
        );
    }
}
