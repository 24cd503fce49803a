//! The JSON form of a notification. It is that of DLR's `fl_server_ai`, with an idempotency key.

use serde::{Deserialize, Serialize};

/// What a notification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum NotificationType {
    /// The training begins.
    TrainingStart,
    /// A round begins: train and send the update.
    UpdateRoundStart,
    /// Report the moments of the weights.
    SwagRoundStart,
    /// Test the global model and send the metrics.
    ModelTestRound,
    /// The training is over.
    TrainingFinished,
    /// A site takes no part any more.
    ClientRemoved,
}

impl NotificationType {
    /// The name in JSON, such as `UPDATE_ROUND_START`.
    pub fn name(self) -> &'static str {
        match self {
            NotificationType::TrainingStart => "TRAINING_START",
            NotificationType::UpdateRoundStart => "UPDATE_ROUND_START",
            NotificationType::SwagRoundStart => "SWAG_ROUND_START",
            NotificationType::ModelTestRound => "MODEL_TEST_ROUND",
            NotificationType::TrainingFinished => "TRAINING_FINISHED",
            NotificationType::ClientRemoved => "CLIENT_REMOVED",
        }
    }
}

/// The members of a notification that depend on its type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationBody {
    /// The number of rounds done, for the types that end in `_ROUND` or `_ROUND_START`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u64>,
    /// The global model. It has one uuid for the whole training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_model_uuid: Option<String>,
    /// The site that was removed, for `CLIENT_REMOVED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// A message to a site, or to the owner of the training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// What it says.
    pub notification_type: NotificationType,
    /// The members that depend on the type.
    pub body: NotificationBody,
    /// The training.
    pub training_uuid: String,
    /// The same for each try of one notification. A receiver that has seen it before ignores it.
    pub idempotency_key: String,
}
