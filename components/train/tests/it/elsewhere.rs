//! Artifacts at another place than the database: models and checkpoints are there, whoever trains.

use crate::support::*;
use superduper::Digest;
use superduper_train::prelude::*;

both! {
    async fn e13_models_and_checkpoints_are_where_they_were_asked_for(isolation: Isolation) {
        let place = Place::new();
        let db = place.db_with(&place.path("elsewhere")).await;
        let run = trainer(&db, isolation).await.train(Walk::new("loop", 6), TrainSpec::new().id("e13")).await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!(info.status, Status::Completed, "{}", text(&info));
        let model: Walk = run.load().await.unwrap();
        let bytes = weights(&model).await;
        let name = Digest::of(&bytes).to_hex();
        assert!(place.path("elsewhere").join("blake3").join(&name[..2]).join(&name).exists());
        assert!(!run.checkpoints().await.unwrap().is_empty() && !place.path("db/artifacts").exists());
        let version = db.apply(&model).await.unwrap();
        assert_eq!(version.version(), 0);
        let report = db.verify().await.unwrap();
        assert!(report.is_sound(), "{report}");
        // Another process of the same places finds them, one of another place does not.
        drop(db);
        let again: Walk = place.db_with(&place.path("elsewhere")).await.get_model_future("e13").await.unwrap().load().await.unwrap();
        assert_eq!(weights(&again).await, bytes);
        let wrong: Walk = place.db().await.get_model_future("e13").await.unwrap().load().await.unwrap();
        assert!(wrong.weights.unwrap().get().await.is_err());
    }
}
