//! Reading the parameters that a case gives to a worker.

use serde_json::Value;

/// A number among a worker's parameters; 0 where there is none.
pub(super) fn number(parameters: &Value, name: &str) -> usize {
    parameters[name].as_u64().unwrap_or(0) as usize
}

/// A text among a worker's parameters; empty where there is none.
pub(super) fn text<'a>(parameters: &'a Value, name: &str) -> &'a str {
    parameters[name].as_str().unwrap_or_default()
}
