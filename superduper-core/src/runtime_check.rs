//! That there is a tokio runtime, asked before something needs one: tokio itself panics.

use crate::error::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

/// Refuse to go on outside of a runtime; for stores.
///
/// # Errors
/// `Unsupported` outside of a runtime.
pub fn check_runtime() -> Result<()> {
    current().map(drop)
}

/// The runtime in which this is called.
///
/// # Errors
/// `Unsupported` outside of one.
pub(crate) fn current() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        Error::new(ErrorKind::Unsupported, "a database is used outside of a tokio runtime")
            .with_hint("mark the main function with `#[tokio::main]`, or use `superduper::blocking::Db`, which has a runtime of its own")
            .with_source(error)
            .fatal()
    })
}
