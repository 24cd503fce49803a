//! What is said of a version that is being removed.

use crate::{address::Address, error::Error};

/// The error of whatever would make use of a version that is being removed.
pub fn being_removed(address: &Address) -> Error {
    Error::conflict(format!("`{address}` is being removed")).with_hint(
        "wait until it is gone; `db.resume()` finishes a removal that was interrupted, \
        and `db.remove` tries one again whose `cleanup` failed",
    )
}
