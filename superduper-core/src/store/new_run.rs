//! A run that is about to be recorded.

use super::{
    actor::Actor,
    rows::{RunPurpose, Timestamp},
};
use crate::address::Address;
use serde_json::Value;

/// A run to record.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// What it is for.
    pub purpose: RunPurpose,
    /// The component, with its version.
    pub root: Address,
    /// Data that the purpose needs.
    pub data: Value,
    /// The person or program that records it.
    pub actor: Option<Actor>,
    /// When.
    pub at: Timestamp,
}

impl NewRun {
    /// A run without data and without an actor.
    pub fn new(purpose: RunPurpose, root: Address, at: Timestamp) -> Self {
        NewRun { purpose, root, data: Value::Null, actor: None, at }
    }

    /// Data that the purpose needs.
    pub fn data(self, data: Value) -> Self {
        NewRun { data, ..self }
    }
}
