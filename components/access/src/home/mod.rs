//! Sites that decide in a database of their own.

mod carrier;
mod executor;

mod worker;

pub use worker::{SiteWorker, Working, at_home};
