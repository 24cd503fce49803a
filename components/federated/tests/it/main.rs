//! The life cycle of federated trainings, by the cases of the acceptance list.

mod crash;
mod failures;
#[cfg(feature = "http")]
mod http;
mod lifecycle;
mod notifications;
mod processes;
mod quorum;
mod remote;
mod scale;
mod sdk;
mod strategies;
mod support;
mod trainings;
mod versions;
