//! Networks that are trained on a table which belongs to no component: tensors in, tensors out.

#[path = "table/digits.rs"]
mod table;

use superduper::{Dtype, ErrorKind, Result, Tensors};
use superduper_candle::{
    AdamW, Architecture, CnnSpec, Convolution, Mlp, MlpSpec, Model, NetworkModel, Optimizer, Table,
    TrainLoop, go_on,
};
use table::digits;

fn sizes() -> MlpSpec {
    MlpSpec { inputs: 64, hidden: vec![16], classes: 10, ..MlpSpec::default() }
}

fn train(model: &dyn Model, rows: &Table, seed: u64) -> Result<()> {
    let optimizer = AdamW { learning_rate: 0.01, ..AdamW::default() };
    let training = TrainLoop { epochs: 3, batch: 32, seed, ..TrainLoop::default() };
    training.run(model, rows, &optimizer, &mut optimizer.init(), |_| go_on())?;
    Ok(())
}

#[tokio::test]
async fn a_network_is_trained_from_tensors_to_tensors() -> Result<()> {
    let (rows, kept_aside) = digits()?.split(1, 0.5)?;
    let architecture = Architecture::Mlp(sizes());
    let given = architecture.init(7)?.to_tensors()?;
    let before = architecture.with_tensors(&given).await?;

    // Another network of these sizes takes the parameters, learns, and gives them back.
    let network = architecture.init(99)?;
    network.set_tensors(&given).await?;
    assert_eq!(network.weights()?, before.weights()?);
    train(&network, &rows, 3)?;
    let learned = network.to_tensors()?;

    // The same bits as a perceptron that was made with the seed.
    let plain = Mlp::init(sizes(), 7)?;
    train(&plain, &rows, 3)?;
    let after = architecture.with_tensors(&learned).await?;
    assert_eq!(after.weights()?, plain.weights()?);
    let (first, last) = (before.evaluate(&kept_aside)?, after.evaluate(&kept_aside)?);
    assert!(first.accuracy < 0.4 && last.accuracy > 0.85, "{first:?} {last:?}");
    assert!(last.cross_entropy < first.cross_entropy);
    Ok(())
}

#[tokio::test]
async fn a_model_knows_its_architecture() -> Result<()> {
    let image = CnnSpec {
        image: [1, 8, 8],
        convolutions: vec![Convolution { filters: 2, kernel: 3, padding: 1, pool: 2 }],
        classes: 3,
        ..CnnSpec::default()
    };
    for architecture in
        [Architecture::Mlp(sizes()), Architecture::Cnn(image), Architecture::Linear { inputs: 3 }]
    {
        let model: NetworkModel = architecture.init(1)?;
        assert_eq!(model.architecture(), architecture);
        let tensors = model.to_tensors()?;
        assert!(tensors.names().eq(architecture.parameters().keys()), "{tensors:?}");
        for (name, shape) in architecture.parameters() {
            let info = tensors.info(&name).unwrap();
            assert_eq!((info.dtype, &info.shape), (Dtype::F32, &shape), "{name}");
        }
        assert_eq!(architecture.with_tensors(&tensors).await?.weights()?, model.weights()?);
    }
    Ok(())
}

#[tokio::test]
async fn tensors_of_another_network_are_refused_by_name_and_change_nothing() -> Result<()> {
    let network = Architecture::Mlp(sizes()).init(1)?;
    let before = network.weights()?;
    let given = || Architecture::Mlp(sizes()).init(2)?.to_tensors();
    let refused = async |tensors: Tensors| {
        let error = network.set_tensors(&tensors).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(network.weights().unwrap(), before, "{error}");
        error.to_string()
    };
    assert_eq!(
        refused(given()?.with("l2.bias", &[9], &[0_f32; 9])?).await,
        "tensor `l2.bias` is F32[9], the model needs F32[10]"
    );
    assert_eq!(
        refused(given()?.with("l2.bias", &[10], &[0_f64; 10])?).await,
        "tensor `l2.bias` is F64[10], the model needs F32[10]"
    );
    assert_eq!(
        refused(given()?.with("l3.bias", &[1], &[0_f32])?).await,
        "the model has no tensor `l3.bias`"
    );
    let mut few = given()?;
    assert!(few.remove("l1.weight"));
    assert_eq!(refused(few).await, "tensor `l1.weight`, F32[16, 64], is missing");
    let mut broken = [0_f32; 10];
    broken[4] = f32::NAN;
    assert_eq!(
        refused(given()?.with("l2.bias", &[10], &broken)?).await,
        "parameter `l2.bias` has the value NaN at place 4"
    );
    network.set_tensors(&given()?).await?;
    assert_ne!(network.weights()?, before);
    Ok(())
}
