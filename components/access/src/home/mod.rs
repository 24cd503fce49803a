//! Sites that decide in a database of their own.

mod carrier;
mod executor;
mod homes;
mod listing;

mod worker;

pub(crate) use homes::deciding;
pub use listing::SiteListing;
pub use worker::{SiteWorker, Working, at_home};
