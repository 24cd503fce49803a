//! What a persistor is told of a round.

use crate::executor::ReturnCode;
use std::collections::BTreeMap;

/// How a part of a round ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RoundReport {
    /// The number of rounds done, this one included: 1 for the first round.
    pub rounds: u64,
    /// The task of the sites: `train` or `test`.
    pub task: String,
    /// The sites that were asked, in the order of the training. In a test the coordinator comes
    /// last, if the training has `central`.
    pub sites: Vec<SiteReport>,
    /// The mean of each metric over the sites that answered with `OK`, weighted by samples. A site
    /// with 0 samples has the weight 1. Metrics of the coordinator are not in these means: they
    /// stand under `central/<name>`.
    pub metrics: BTreeMap<String, f64>,
}

/// How a task ended at a site.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SiteReport {
    /// The name of the site.
    pub site: String,
    /// How the task ended. A site whose job was still running has `Timeout`.
    pub code: ReturnCode,
    /// Why the task was not done; empty for `Ok`.
    pub reason: String,
    /// The number of rows that the site used; 0 if the task was not done.
    pub samples: u64,
    /// The metrics of the site by name.
    pub metrics: BTreeMap<String, f64>,
}
