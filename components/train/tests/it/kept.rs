//! States of checkpoints and arguments are kept as they are, or an error names the place.

use crate::support::*;
use serde::{Deserialize, Serialize};
use superduper::prelude::*;
use superduper_train::prelude::*;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(untagged)]
enum Step {
    Warm { at: u64 },
    Main { at: u64, rate: f64 },
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Kept {
    limit: Option<Option<u64>>,
    steps: Vec<Step>,
    weights: Artifact<Bytes>,
}

/// Keeps a state, fails, and compares what it finds in its second attempt.
#[derive(Component, Clone, Debug)]
#[component(kind = "train.Keeps")]
struct Keeps {
    identifier: String,
    what: String,
    same: Option<bool>,
}

impl Train for Keeps {
    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
        let weights: Artifact<Bytes> = Bytes::from("weights").into();
        let mut state = Kept { limit: None, steps: vec![Step::Warm { at: 1 }], weights };
        match self.what.as_str() {
            "some" => state.limit = Some(None),
            "variant" => state.steps.push(Step::Main { at: 2, rate: 0.5 }),
            _ => {}
        }
        if let Some(found) = ctx.resume::<Kept>()? {
            self.same = Some(found.limit == state.limit && found.steps == state.steps);
            return Ok(Trained::model(self.clone()));
        }
        let _ = ctx.step(0, 1)?;
        ctx.checkpoint(&state)?;
        ctx.flush()?;
        Err(Error::msg("as told"))
    }
}
superduper_train::trains!(Keeps);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b01_a_state_that_would_be_read_back_as_another_one_is_refused() {
    let place = Place::new();
    let db = place.db().await;
    let restart = Restart { retries: 1, backoff: Span::default(), resume: false };
    let trainer = LocalTrainer::new("default")
        .base(JobBase { restart, ..base(Thread) })
        .open(&db)
        .await
        .unwrap();
    for (what, path) in [("some", "`state.limit`"), ("variant", "`state.steps[1].rate`")] {
        let model = Keeps { identifier: what.into(), what: what.into(), same: None };
        let run = trainer.train(model, TrainSpec::new().id(what)).await.unwrap();
        let info = run.wait().await.unwrap();
        let error = info.error.expect("the state is refused");
        let text = format!("{} {:?}", error.message, error.causes);
        assert!(text.contains(path) && text.contains("checkpoint"), "{text}");
        assert!(run.checkpoints().await.unwrap().is_empty(), "nothing was written");
    }
    let model = Keeps { identifier: "plain".into(), what: "plain".into(), same: None };
    let run = trainer.train(model, TrainSpec::new().id("plain")).await.unwrap();
    assert_eq!(run.load::<Keeps>().await.unwrap().same, Some(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b01_arguments_that_cannot_be_kept_are_refused_when_they_are_submitted() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let model = || Keeps { identifier: "args".into(), what: "plain".into(), same: None };
    for number in [f64::NAN, f64::INFINITY] {
        let spec = TrainSpec::new().arg("rate", number).id("finite");
        let error = trainer.train(model(), spec).await.expect_err("it would be read as null");
        assert!(
            error.to_string().contains("args.named.rate")
                && error.to_string().contains(&number.to_string()),
            "{error}"
        );
    }
    let error = Arg::value(Some(None::<u8>)).expect_err("it would be read as `None`");
    assert_eq!(error.kind(), ErrorKind::Encode);
    let spec = TrainSpec::new().arg("rate", 0.1_f32).arg("null", Value::Null);
    assert_eq!(
        (spec.args.get::<f32>("rate").unwrap(), spec.args.get::<Option<u8>>("null").unwrap()),
        (0.1, None)
    );
}
