//! The cases, and the workers that they start.

mod access;
mod apply;
mod artifact;
mod case;
mod cold;
mod crash;
mod dag;
mod doors;
mod federated;
mod hooks;
mod learn;
mod lines;
mod many;
mod parameters;
mod race;
mod recover;
mod schema;
mod train;
mod train_facts;
mod train_module;
mod tree;
mod upkeep;
mod worker;

pub(crate) use case::{CASES, Case, choose};
use parameters::{number, text};
pub(crate) use worker::work;
