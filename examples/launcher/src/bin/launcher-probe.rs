//! The program that runs the jobs of the acceptance tests.

use superduper::Result;
use superduper_conformance as _;

#[tokio::main]
async fn main() -> Result<()> {
    superduper_launcher::run_if_asked().await
}
