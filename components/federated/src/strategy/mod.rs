//! Strategies: how the updates of a round become the next global model.

mod adaptive;
mod contract;
mod distances;
mod fed_avg;
mod fed_avg_m;
mod fed_dc;
mod fed_prox;
mod krum;
mod mean;
mod network;
mod robust;
mod round;
mod server_step;
mod settings;
mod trimmed;

pub(crate) use mean::{Weighting, mean};
pub(crate) use round::Round;

pub use adaptive::{FedAdam, FedYogi};
pub use contract::{Aggregated, ClientSettings, Strategy};
pub use fed_avg::FedAvg;
pub use fed_avg_m::FedAvgM;
pub use fed_dc::FedDC;
pub use fed_prox::FedProx;
pub use krum::{Krum, MultiKrum};
pub use robust::{CoordinateMedian, TrimmedMean};
