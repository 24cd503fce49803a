//! What a purge looks at a second time, once its mark is set.

use super::*;
use crate::prelude::*;
use superduper::prelude::*;

/// Becomes the model as it is.
#[derive(Component, Clone)]
#[component(kind = "retention.Plain")]
struct Plain {
    identifier: String,
}

impl Train for Plain {
    fn train(&mut self, _ctx: &mut TrainContext) -> Result<Trained> {
        Ok(Trained::model(self.clone()))
    }
}
crate::trains!(Plain);

#[test]
fn lookups_know_the_kinds_of_the_components() {
    use crate::{kind::JobKind, predict::Prediction, training::Training};
    use superduper::ComponentType;
    assert_eq!(JobKind::Training.name(), Training::__kind());
    assert_eq!(JobKind::Prediction.name(), Prediction::__kind());
}

/// A pin that came after a purge had looked for pins, and before it set its mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_32_a_pin_is_seen_before_files_go() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let metadata = std::sync::Arc::new(superduper_memory::MemoryStore::new());
    let artifacts = std::sync::Arc::new(superduper_object::ObjectStore::memory());
    let db = Db::builder().metadata(metadata).artifacts(artifacts).build().await.expect("opens");
    let trainer = LocalTrainer::new("keeps").open(&db).await.expect("opens");
    let spec = TrainSpec::new().id("pinned").save_path(place.path()).wait();
    let run = trainer.train(Plain { identifier: "m".into() }, spec).await.expect("trains");
    let before = Listed::read(&db).await.expect("reads");
    let [candidate] = &before.candidates[..] else { panic!("one job") };
    run.pin(true).await.expect("pins");
    let error = delete_files(&db, candidate).await.expect_err("it is pinned by now");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("training `pinned` is pinned"), "{error}");
    assert_eq!(
        load_model::<Plain>(place.path()).await.expect("its files are there").identifier,
        "m"
    );
    run.pin(false).await.expect("lets go");
    delete_files(&db, candidate).await.expect("deletes");
    assert!(load_model::<Plain>(place.path()).await.is_err());
}
