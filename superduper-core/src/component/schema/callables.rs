//! The callables of this program, for schemas.

use crate::component::callable::FunctionEntry;
use std::sync::OnceLock;

/// Their names, in order.
pub(super) fn callables() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names: Vec<&str> =
            inventory::iter::<FunctionEntry>.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    })
}
