//! Searching for good settings: one training for each candidate, the best by a metric.

mod candidate;
#[cfg(feature = "progress")]
mod follow;
mod plan;
mod result;
mod run;
mod values;

pub use candidate::Candidate;
pub use plan::Search;
pub use result::{SearchResult, Trial};
pub use run::SearchRun;
pub use values::Values;
