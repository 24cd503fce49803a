//! `it HOME TRAININGS SITE`: the worker of a site, until it is killed.

#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
mod far;

use std::path::Path;
use superduper::prelude::*;
use superduper_access::SiteWorker;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [home, trainings, site] = args.as_slice() else {
        return Err(Error::invalid("usage: it HOME TRAININGS SITE"));
    };
    let home = far::builder(Path::new(home)).build().await?;
    let worker = SiteWorker::new(site, &home);
    let trainings = worker.executor_for(far::builder(Path::new(trainings))).build().await?;
    let _working = worker.start(&trainings).await?;
    std::future::pending::<()>().await;
    Ok(())
}
