//! Everything about a training before it is applied: its files, its sites' answers, its jobs.

mod bundle;
mod export;
mod files;
mod graph;
mod scripts;
mod show;

pub use export::ExportedTraining;
pub use files::{Preview, PreviewFile};
pub use graph::PreviewJob;
pub use show::{SiteAnswer, SitePreview};
