//! A component whose job goes on until it is cancelled.

use std::time::Duration;
use superduper::prelude::*;

/// Has a trigger that ends when it is cancelled.
#[derive(Component, Clone)]
#[component(kind = "support.Busy")]
pub(crate) struct Busy {
    pub(crate) identifier: String,
}

#[triggers]
impl Busy {
    #[trigger("apply")]
    async fn wait(&self, ctx: &JobContext) -> Result<()> {
        loop {
            ctx.check_cancelled()?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
