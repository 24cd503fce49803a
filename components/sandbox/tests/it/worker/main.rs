//! The program of job processes: one job of a database in a folder.

use std::sync::Arc;
use superduper::prelude::*;
use superduper_object::ObjectStore;
use superduper_sandbox as _;
use superduper_sqlite::SqliteStore;

#[tokio::main]
async fn main() -> Result<()> {
    superduper::job_process(async |stores: superduper::store::StoreLocations| {
        let folder = std::path::PathBuf::from(&stores.metadata);
        let metadata = SqliteStore::open(&folder)?;
        let artifacts = ObjectStore::folder(folder.join("artifacts"))?;
        Db::builder().metadata(Arc::new(metadata)).artifacts(Arc::new(artifacts)).build().await
    })
    .await?;
    Err(Error::invalid("this program runs jobs of other programs"))
}
