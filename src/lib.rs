//! Plain structs become components: applied, versioned, and their triggers run as durable jobs.

pub use superduper_core::*;

#[doc(hidden)]
pub use superduper_core::__private;
