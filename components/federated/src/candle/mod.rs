//! Networks of `superduper-candle` over many sites. Needs the feature `candle`.

mod network;
mod predict;
mod table;

pub use network::FederatedNetwork;
pub use table::TableData;
