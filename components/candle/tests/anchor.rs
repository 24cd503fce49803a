//! A training that stays close to given parameters (FedProx).

#[path = "table/digits.rs"]
mod table;

use superduper::{ErrorKind, Result};
use superduper_candle::{
    AdamW, Anchor, Architecture, Array, ClipNorm, GradientHook, MlpSpec, NetworkModel, Optimizer,
    OptimizerState, Sgd, Table, TrainLoop, Weights, go_on, stop,
};
use table::digits;

/// `w x + b` with these parameters.
fn line(w: f32, b: f32) -> Result<Weights> {
    Ok(Weights::from_iter([
        ("l1.weight".to_owned(), Array::new([1, 1], vec![w])?),
        ("l1.bias".to_owned(), Array::new([1], vec![b])?),
    ]))
}

fn values(weights: &Weights) -> Vec<f32> {
    weights.iter().flat_map(|(_, array)| array.data().to_vec()).collect()
}

#[test]
fn the_gradient_is_that_of_the_loss_with_the_distance() -> Result<()> {
    let (x, y) = ([1.0_f64, 2.0, -0.5, 3.0], [2.0_f64, 3.5, -2.0, 7.0]);
    let rows = Table::of_values(1, x.map(|x| x as f32).to_vec(), y.map(|y| y as f32).to_vec())?;
    let ((w, b), (anchor_w, anchor_b), mu, rate) = ((0.5, -1.0), (2.0, 0.25), 0.8, 0.1);
    let at = line(anchor_w as f32, anchor_b as f32)?;
    // One step of plain descent, of one batch and of two parts.
    for (batch, accumulate) in [(4, 1), (2, 2)] {
        let network =
            Architecture::Linear { inputs: 1 }.with_weights(&line(w as f32, b as f32)?)?;
        let optimizer = Sgd { learning_rate: rate, ..Sgd::default() };
        let anchor = Some(Anchor { mu, weights: &at });
        let training = TrainLoop { epochs: 1, batch, accumulate, anchor, ..TrainLoop::default() };
        let history =
            training.run(&network, &rows, &optimizer, &mut optimizer.init(), |_| go_on())?;

        // By hand: d/dw Σ (w x + b - y)² / n = 2/n Σ (w x + b - y) x.
        let errors: Vec<f64> = x.iter().zip(y).map(|(x, y)| w * x + b - y).collect();
        let slope_w = errors.iter().zip(x).map(|(error, x)| error * x).sum::<f64>() / 2.0;
        let slope_b = errors.iter().sum::<f64>() / 2.0;
        let moved_w = w - rate * (slope_w + mu * (w - anchor_w));
        let moved_b = b - rate * (slope_b + mu * (b - anchor_b));
        let found = values(&network.weights()?);
        assert!((f64::from(found[0]) - moved_b).abs() < 1e-6, "{found:?} {moved_b}");
        assert!((f64::from(found[1]) - moved_w).abs() < 1e-6, "{found:?} {moved_w}");
        let distance = (w - anchor_w).powi(2) + (b - anchor_b).powi(2);
        let loss =
            errors.iter().map(|error| error * error).sum::<f64>() / 4.0 + mu / 2.0 * distance;
        assert!((f64::from(history.losses[0]) - loss).abs() < 1e-5, "{history:?} {loss}");
    }
    Ok(())
}

fn network() -> Result<NetworkModel> {
    let sizes = MlpSpec { inputs: 64, hidden: vec![16], classes: 10, ..MlpSpec::default() };
    Architecture::Mlp(sizes).init(1)
}

/// The parameters after 3 epochs, in two runs if `at` is given.
fn trained(rows: &Table, anchor: Option<Anchor<'_>>, at: Option<u64>) -> Result<Vec<f32>> {
    let hooks: [Box<dyn GradientHook>; 1] = [Box::new(ClipNorm { max: 5.0 })];
    let (network, optimizer) = (network()?, AdamW { learning_rate: 0.01, ..AdamW::default() });
    let training = TrainLoop { epochs: 3, hooks: &hooks, anchor, ..TrainLoop::default() };
    let mut state: OptimizerState = optimizer.init();
    training.run(&network, rows, &optimizer, &mut state, |step| {
        if Some(step.step) == at { stop() } else { go_on() }
    })?;
    training.run(&network, rows, &optimizer, &mut state, |_| go_on())?;
    Ok(values(&network.weights()?))
}

#[test]
fn a_stronger_pull_keeps_the_parameters_closer() -> Result<()> {
    let (rows, _) = digits()?.split(1, 0.7)?;
    let at = network()?.weights()?;
    let pulled = |mu| trained(&rows, Some(Anchor { mu, weights: &at }), None);
    let distance = |found: &[f32]| {
        let squares = found.iter().zip(values(&at)).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let free = trained(&rows, None, None)?;
    assert_eq!(pulled(0.0)?, free, "no pull, the same bits");
    let (weak, strong) = (pulled(0.1)?, pulled(10.0)?);
    assert!(distance(&strong) < 0.5 * distance(&weak), "{}", distance(&strong));
    assert!(distance(&weak) < distance(&free), "{} {}", distance(&weak), distance(&free));
    // In the middle of an epoch: 539 rows make 17 steps.
    let anchor = Anchor { mu: 0.1, weights: &at };
    assert_eq!(trained(&rows, Some(anchor), Some(20))?, weak, "continued with the same bits");
    Ok(())
}

#[test]
fn an_anchor_that_does_not_fit_is_refused() -> Result<()> {
    let (rows, _) = digits()?.split(1, 0.9)?;
    let at = network()?.weights()?;
    let refused = |mu: f64, weights: &Weights| {
        let error = trained(&rows, Some(Anchor { mu, weights }), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    assert_eq!(refused(-1.0, &at), "the `mu` of an anchor is at least 0, not -1");
    assert!(refused(f64::NAN, &at).ends_with("not NaN"));
    let mut other = at.clone();
    other.insert("l3.bias", Array::zeros([1]));
    assert_eq!(refused(1.0, &other), "anchor: the model has no parameter `l3.bias`");
    other = at.clone();
    other.insert("l1.bias", Array::zeros([17]));
    assert_eq!(
        refused(1.0, &other),
        "the anchor of parameter `l1.bias` has shape [17], the model needs [16]"
    );
    other.remove("l1.bias");
    assert_eq!(refused(0.0, &other), "the anchor has no values for parameter `l1.bias`");
    Ok(())
}
