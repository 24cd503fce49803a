//! The mathematics of federated training: strategies, filters and uncertainty.

mod averages;
mod filters;
mod optimizers;
mod robust;
mod settings;
mod support;
mod uncertainty;
