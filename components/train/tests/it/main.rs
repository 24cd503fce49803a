//! Acceptance tests of training and prediction jobs, by case id, in both isolations.

mod checkpoints;
mod config;
mod costs;
mod crashes;
mod elsewhere;
mod extremes;
mod failures;
mod jobs;
mod kept;
mod modules;
mod open;
mod out_of_memory;
mod paths;
#[cfg(feature = "plot")]
mod plot;
mod predictions;
#[cfg(feature = "progress")]
mod progress;
mod retention;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod s3_server;
mod search;
mod steering;
mod support;
mod train_or_resume;
