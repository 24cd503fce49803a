//! Trainings of the custom classes.

use super::types::{Custom, Int8Head, Net};
use crate::support::rows;
use superduper::prelude::*;
use superduper_federated::{ClipNorm, FedAvg, FederatedTraining, ModelConfig, Site};

/// A training of [`Net`] over two sites, whose rows are 0 and 1.
pub(crate) fn net(name: &str) -> FederatedTraining {
    FederatedTraining::new(name, ModelConfig::new::<Net>(), FedAvg {})
        .sites([Site::new("a", rows(&[0.0, 0.0])), Site::new("b", rows(&[1.0, 1.0]))])
}

/// The default executor, but for a mark.
pub(crate) fn custom() -> Custom {
    Custom { rows: None, metric: None, heads: Vec::new() }
}

/// A training with a custom executor and a custom persistor.
pub(crate) fn exported(name: &str) -> FederatedTraining {
    let mut training = net(name);
    training.executor = Box::new(Custom { metric: Some(1.5), ..custom() });
    training.persistor = Box::new(Int8Head { folder: "heads".into() });
    training.config.extra.insert("mixup".into(), json!(0.2));
    training.sites[0].filters.push(Box::new(ClipNorm { max: 1.0 }));
    training
}
