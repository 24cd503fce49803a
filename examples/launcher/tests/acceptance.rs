//! Runs the acceptance tests of executors on `Launcher`. The jobs run in the binary
//! `launcher-probe`.

use std::sync::Arc;
use superduper::{ErrorKind, prelude::*};
use superduper_launcher::Launcher;

fn launcher(command: &[&str]) -> Arc<Launcher> {
    let launcher = Launcher::new(command.iter().copied()).expect("a command");
    Arc::new(launcher.program(env!("CARGO_BIN_EXE_launcher-probe")))
}

async fn open(command: &[&str]) -> Db {
    // The folder is kept: a job process may still use it when the test ends.
    let folder = tempfile::tempdir().expect("a folder").keep();
    let builder = Db::builder().at(folder.join("x.db")).expect("a path");
    builder.with_executor(launcher(command)).executor("launcher").build().await.expect("a database")
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_an_executor_of_a_crate_of_its_own_passes_the_acceptance_tests() {
    superduper_conformance::executors::run_all(
        async || open(&["nice", "-n", "19"]).await,
        "launcher",
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_a_launcher_that_does_not_exist_fails_the_job() {
    let db = open(&["no-such-launcher"]).await;
    let error = db
        .apply(superduper_conformance::executors::Probe::new("works"))
        .await
        .expect_err("nothing starts it");
    assert!(error.to_string().contains("`no-such-launcher` cannot be started"), "{error}");
    assert!(
        Launcher::new(Vec::<String>::new())
            .is_err_and(|error| error.kind() == ErrorKind::InvalidInput)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_stores_in_memory_are_refused_before_anything_is_recorded() {
    let db = Db::builder()
        .in_memory()
        .with_executor(launcher(&["nice"]))
        .executor("launcher")
        .build()
        .await;
    let error = db.expect_err("another process cannot open it");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("is in memory"), "{error}");
}
