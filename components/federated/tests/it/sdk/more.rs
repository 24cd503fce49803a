//! A second `impl` block of an executor, in a file of its own.

use super::types::Custom;
use superduper::{Result as Outcome, source};
use superduper_federated::Reply;

#[source]
impl Custom {
    /// Adds the metric, where there is one.
    pub(super) fn measured(&self, mut reply: Reply) -> Outcome<Reply> {
        if let Some(value) = self.metric {
            reply.metrics.insert("custom".into(), value);
        }
        Ok(reply)
    }
}
