//! Networks in memory: long tables, weights of another architecture.

use crate::{
    data::{Batch, Table},
    metrics::Prediction,
    mlp::{Mlp, MlpSpec},
    model::Model,
    network::{Architecture, Network},
    network_model::NetworkModel,
};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
use superduper::{Artifact, Component, Result};

#[test]
fn a_network_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<NetworkModel>();
    shared::<Network>();
}

#[test]
fn long_tables_are_predicted_in_chunks() -> Result<()> {
    let spec = MlpSpec { inputs: 3, hidden: vec![4], classes: 5, ..MlpSpec::default() };
    let model = Architecture::Mlp(spec.clone()).init(1)?;
    let features: Vec<f32> = (0..3 * 2500).map(|at| (at as f32 * 0.7).sin()).collect();
    let table = Table::new(3, features, vec![2; 2500])?;
    let Prediction::Logits(logits) = model.prediction(&table)? else { panic!("it classifies") };
    let whole = Mlp::init(spec, 1)?.logits(&table.features()?)?;
    assert_eq!(logits.dims(), [2500, 5]);
    let (logits, whole) =
        (logits.to_vec2::<f32>().unwrap().concat(), whole.to_vec2::<f32>().unwrap().concat());
    assert!(logits.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6));
    let scores = model.scores(&table)?;
    let evaluation = model.evaluate(&table)?;
    assert!(
        (scores.loss - evaluation.cross_entropy).abs() < 1e-9
            && scores.metrics["accuracy"] == evaluation.accuracy
    );
    // The general way, by the loss of batches, gives the same up to the rounding of f32.
    struct Plain<'a>(&'a NetworkModel);
    impl Model for Plain<'_> {
        fn params(&self) -> &BTreeMap<String, Var> {
            self.0.params()
        }
        fn loss(&self, batch: &Batch) -> Result<Tensor> {
            self.0.loss(batch)
        }
    }
    assert!((Plain(&model).scores(&table)?.loss - scores.loss).abs() < 1e-5);
    assert_eq!(
        model.predict_batch(&[[0.0; 2]]).unwrap_err().to_string(),
        "row 0 has 2 features, the model needs 3"
    );
    let error = model.predict_batch(&[[0.0; 3], [0.0, f32::NAN, 0.0]]).unwrap_err();
    assert_eq!(error.to_string(), "row 1, column 1 is NaN, not a finite number");
    assert!(model.predict_batch(&[[0.0; 3]; 0])?.is_empty());
    Ok(())
}

#[tokio::test]
async fn weights_of_another_architecture_are_refused_with_the_name() -> Result<()> {
    let weights =
        Artifact::new(Architecture::Linear { inputs: 2 }.init(0)?.weights()?.to_tensors()?);
    let architecture = Architecture::Linear { inputs: 3 };
    let network = Network { identifier: "line".to_owned(), architecture, weights };
    let error = network.predict_value(&[0.0; 3]).await.unwrap_err();
    let text =
        "`candle.Network/line`: parameter `l1.weight` has shape [1, 2], the model needs [1, 3]";
    assert_eq!(error.to_string(), text);
    assert_eq!(network.kind(), "candle.Network");
    let stored = r#"{"type":"linear","inputs":3}"#;
    assert_eq!(serde_json::to_string(&network.architecture)?, stored);
    Ok(())
}
