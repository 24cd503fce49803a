//! Settings: as documents, their ranges, and what strategies and filters say of themselves.

use crate::support::*;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, ErrorKind, Result, Tensors};
use superduper_federated::{
    ClientSettings, ClipNorm, ExcludeVars, FedAdam, FedAvgM, FedDC, FedProx, FedYogi, Filter,
    GaussianNoise, Strategy, Update,
};

/// A filter of the tests that hides the updates of single sites.
#[derive(Debug, Serialize, Deserialize)]
struct Masked {}

#[typetag::serde(name = "test.Masked")]
impl Filter for Masked {
    fn name(&self) -> &'static str {
        "Masked"
    }
    fn hides_single_updates(&self) -> bool {
        true
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn apply<'a>(
        &'a self,
        _round: u64,
        _global: &'a Tensors,
        update: Update,
        _seed: u64,
    ) -> BoxFuture<'a, Result<Update>> {
        Box::pin(async move { Ok(update) })
    }
}

#[test]
fn g40_strategies_say_whether_they_need_single_updates() {
    let need: Vec<&str> = strategies()
        .iter()
        .filter(|strategy| strategy.needs_single_updates())
        .map(|strategy| strategy.name())
        .collect();
    assert_eq!(need, ["CoordinateMedian", "TrimmedMean", "Krum", "MultiKrum"]);
    let filters: [Box<dyn Filter>; 4] = [
        Box::new(Masked {}),
        Box::new(ExcludeVars { names: vec!["w".to_owned()] }),
        Box::new(ClipNorm { max: 1.0 }),
        Box::new(GaussianNoise { sigma: 1.0, clip: 1.0 }),
    ];
    let hide = filters.map(|filter| filter.hides_single_updates());
    assert_eq!(hide, [true, false, false, false]);
}

#[test]
fn g19_sites_are_told_what_to_do_differently() {
    for strategy in strategies() {
        let client = strategy.client();
        let wanted = match strategy.name() {
            "FedProx" => ClientSettings { proximal_mu: 0.1, daisy_chain_period: 0 },
            "FedDC" => ClientSettings { proximal_mu: 0.0, daisy_chain_period: 4 },
            _ => ClientSettings::default(),
        };
        assert_eq!(client, wanted, "{strategy:?}");
    }
}

#[test]
fn g19_strategies_are_documents() {
    for strategy in strategies() {
        let text = serde_json::to_string(&strategy).unwrap();
        let name = strategy.name();
        assert!(text.contains(&format!(r#""type":"federated.{name}""#)), "{text}");
        let again: Box<dyn Strategy> = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{again:?}"), format!("{strategy:?}"));
        let odd = text.replacen('{', r#"{"surplus":1,"#, 1);
        assert!(serde_json::from_str::<Box<dyn Strategy>>(&odd).is_err(), "{odd}");
    }
    let parse =
        |text: &str| format!("{:?}", serde_json::from_str::<Box<dyn Strategy>>(text).unwrap());
    assert_eq!(
        parse(r#"{"type": "federated.FedAdam"}"#),
        "FedAdam { eta: 0.1, beta1: 0.9, beta2: 0.99, tau: 0.001 }"
    );
    assert_eq!(
        parse(r#"{"type": "federated.FedYogi"}"#),
        "FedYogi { eta: 0.01, beta1: 0.9, beta2: 0.99, tau: 0.001 }"
    );
    assert_eq!(
        parse(r#"{"type": "federated.FedAvgM"}"#),
        "FedAvgM { server_learning_rate: 1.0, momentum: 0.9 }"
    );
    assert_eq!(parse(r#"{"type": "federated.TrimmedMean"}"#), "TrimmedMean { beta: 0.2 }");
    assert!(serde_json::from_str::<Box<dyn Strategy>>(r#"{"type": "federated.FedProx"}"#).is_err());
    let filter = r#"{"type": "federated.GaussianNoise", "sigma": 0.5, "clip": 2.0}"#;
    let filter: Box<dyn Filter> = serde_json::from_str(filter).unwrap();
    assert_eq!(format!("{filter:?}"), "GaussianNoise { sigma: 0.5, clip: 2.0 }");
}

#[test]
fn g19_settings_outside_of_their_ranges_are_refused() {
    for strategy in strategies() {
        strategy.check(7, 7).unwrap();
    }
    let bad: Vec<(Box<dyn Strategy>, &str)> = vec![
        (Box::new(FedProx { mu: -0.1 }), "`mu` must be at least 0, not -0.1"),
        (Box::new(FedProx { mu: f64::INFINITY }), "`mu` must be at least 0, not inf"),
        (Box::new(FedDC { daisy_chain_period: 0 }), "`daisy_chain_period` must be at least 1"),
        (
            Box::new(FedAvgM { momentum: 1.0, ..FedAvgM::default() }),
            "`momentum` must be at least 0",
        ),
        (
            Box::new(FedAvgM { server_learning_rate: 0.0, ..FedAvgM::default() }),
            "`server_learning_rate` must be above 0",
        ),
        (Box::new(FedAdam { eta: f64::NAN, ..FedAdam::default() }), "`eta` must be above 0"),
        (Box::new(FedAdam { beta1: 1.0, ..FedAdam::default() }), "`beta1` must be at least 0 and"),
        (Box::new(FedYogi { beta2: -0.5, ..FedYogi::default() }), "`beta2` must be at least 0 and"),
        (Box::new(FedYogi { tau: 0.0, ..FedYogi::default() }), "`tau` must be above 0"),
    ];
    for (strategy, text) in bad {
        let error = strategy.check(7, 7).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = FedDC { daisy_chain_period: 2 }.check(1, 1).unwrap_err();
    assert!(error.to_string().contains("a single site"), "{error}");
}
