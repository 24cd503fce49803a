//! The phases of a round. Each is the body of a job.
//!
//! Order: open → train × sites → gather → aggregate → (swag × sites → swag) → test × sites → decide
//! → open of the next round, or (predict × sites → collect →) finish. In a round that needs fewer answers than there are sites,
//! a job `heard` follows each site's job, and decides whether to gather.

mod aggregate;
mod deliver;
mod gather;
mod jobs;
mod open;
mod predict;
mod quorum;
mod report;
mod site;
mod start;
mod swag;
mod test;

pub(crate) use deliver::{unblock, wake_jobs};
pub(crate) use jobs::RoundJobs;
pub(crate) use start::{is_of_version, no_participants};
