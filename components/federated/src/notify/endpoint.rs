//! Where notifications go.

use super::Notification;
use std::fmt::Debug;
use superduper::{BoxFuture, Result};

/// What a receiver made of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It took it.
    Accepted,
    /// It does not want it; why. It is not tried again, and the site leaves the training.
    Rejected(String),
}

/// A way to deliver notifications.
///
/// With the feature `http` there is `HttpEndpoint`. An endpoint of your own derives `Debug`,
/// `Serialize` and `Deserialize`, and its implementation is marked
/// `#[typetag::serde(name = "my_crate.Mail")]`.
#[typetag::serde(tag = "type")]
pub trait Endpoint: crate::HasClass + Debug + Send + Sync {
    /// Deliver a notification. It may be called again for one that was delivered before, with the
    /// same idempotency key and equal content.
    ///
    /// # Errors
    /// Any, where the delivery failed; it is tried again after a pause.
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Result<Delivery>>;
}
