//! Notifications as HTTP POST requests.

use super::{Delivery, Endpoint, Notification};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use superduper::{BoxFuture, Error, ErrorKind, Result};

/// Posts notifications as JSON to a URL, with the header `Idempotency-Key`.
///
/// A status from 200 to 299 accepts the notification, one from 400 to 499 rejects it. Any other
/// status and a failed connection is an error, after which it is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpEndpoint {
    /// The URL. Only `http://` is built in.
    pub url: String,
    /// The time limit of one request, in seconds.
    #[serde(default = "half_a_minute")]
    pub timeout: f64,
}

fn half_a_minute() -> f64 {
    30.0
}

impl HttpEndpoint {
    /// This URL, with a time limit of 30 seconds.
    pub fn new(url: impl Into<String>) -> Self {
        HttpEndpoint { url: url.into(), timeout: half_a_minute() }
    }

    fn post(&self, notification: &Notification) -> Result<Delivery> {
        let timeout = Duration::try_from_secs_f64(self.timeout).map_err(|_| {
            Error::invalid(format!("the time limit {} is no time", self.timeout)).fatal()
        })?;
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .build();
        let body = serde_json::to_vec(notification)?;
        let sent = ureq::Agent::new_with_config(config)
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &notification.idempotency_key)
            .send(&body[..]);
        let failed = |what: String| {
            Error::new(ErrorKind::User, format!("`{}` could not be told: {what}", self.url))
                .retryable()
        };
        let status = sent.map_err(|error| failed(error.to_string()))?.status().as_u16();
        match status {
            200..=299 => Ok(Delivery::Accepted),
            400..=499 => Ok(Delivery::Rejected(format!("`{}` answered {status}", self.url))),
            _ => Err(failed(format!("it answered {status}"))),
        }
    }
}

#[typetag::serde(name = "federated.Http")]
impl Endpoint for HttpEndpoint {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(async move {
            let (endpoint, notification) = (self.clone(), notification.clone());
            let sent = tokio::task::spawn_blocking(move || endpoint.post(&notification)).await;
            sent.map_err(|error| Error::internal(error.to_string()))?
        })
    }
}
