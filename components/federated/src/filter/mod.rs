//! Filters: what is done to an update before it leaves its site.

mod clip_norm;
mod contract;
mod exclude_vars;
mod gaussian_noise;

pub use clip_norm::ClipNorm;
pub use contract::{Filter, apply_filters};
pub use exclude_vars::ExcludeVars;
pub use gaussian_noise::GaussianNoise;
