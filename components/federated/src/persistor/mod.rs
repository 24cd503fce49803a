//! Where global models come from and go to, beside the database.

mod contract;
mod folder;
mod report;

pub use contract::{ModelPersistor, PersistContext};
pub use folder::DefaultPersistor;
pub use report::{RoundReport, SiteReport};
