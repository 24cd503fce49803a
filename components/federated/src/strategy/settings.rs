//! The checks of settings that several strategies share.

use superduper::{Error, Result};

/// Refuse a setting that is not in its range; `range` is how the range reads.
pub(super) fn in_range(
    strategy: &str,
    setting: &str,
    value: f64,
    range: &str,
    inside: bool,
) -> Result<()> {
    if inside && value.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(format!("{strategy}: `{setting}` must be {range}, not {value}")).fatal())
}

/// Refuse a setting that is not above 0.
pub(super) fn positive(strategy: &str, setting: &str, value: f64) -> Result<()> {
    in_range(strategy, setting, value, "above 0", value > 0.0)
}

/// Refuse a setting that is no part of the past: from 0 to below 1.
pub(super) fn decay(strategy: &str, setting: &str, value: f64) -> Result<()> {
    in_range(strategy, setting, value, "at least 0 and below 1", (0.0..1.0).contains(&value))
}
