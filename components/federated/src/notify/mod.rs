//! What sites and the owner of a training are told.

mod endpoint;
#[cfg(feature = "http")]
mod http;
mod notification;

pub use endpoint::{Delivery, Endpoint};
#[cfg(feature = "http")]
pub use http::HttpEndpoint;
pub use notification::{Notification, NotificationBody, NotificationType};
