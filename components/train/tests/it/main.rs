//! Acceptance tests of training and prediction jobs, by case id, in both isolations.

mod checkpoints;
mod config;
mod crashes;
mod jobs;
mod modules;
mod open;
mod paths;
mod predictions;
mod retention;
mod steering;
mod support;
