//! The two kinds of background job, as far as lookups and retention tell them apart.

use crate::{save_path::SavePath, spec::TrainSpec};
use std::path::PathBuf;
use superduper::{Address, Value};

/// A kind of background job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    Training,
    Prediction,
}

impl JobKind {
    pub(crate) fn what(self) -> &'static str {
        match self {
            JobKind::Training => "training",
            JobKind::Prediction => "prediction",
        }
    }

    /// The kind of the component, as it is stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            JobKind::Training => "superduper.Training",
            JobKind::Prediction => "superduper.Prediction",
        }
    }

    pub(crate) fn address(self, id: &str) -> Address {
        Address::new(self.name(), id)
    }

    /// Where a stored job of this kind writes files, by its document.
    pub(crate) fn path(self, document: &Value, id: &str) -> Option<SavePath> {
        match self {
            JobKind::Prediction => {
                Some(SavePath::Folder(PathBuf::from(document.get("folder")?.as_str()?).join(id)))
            }
            JobKind::Training => {
                let spec = document.get("spec")?;
                let text = |key: &str| spec.get(key).and_then(Value::as_str).map(str::to_owned);
                let extra =
                    spec.get("extra_path_args").and_then(Value::as_array).into_iter().flatten();
                let spec = TrainSpec {
                    save_path: serde_json::from_value(spec.get("save_path")?.clone()).ok()?,
                    save_with_id: spec
                        .get("save_with_id")
                        .and_then(Value::as_bool)
                        .unwrap_or(false),
                    model_name: text("model_name"),
                    extra_path_args: extra
                        .filter_map(|piece| piece.as_str().map(str::to_owned))
                        .collect(),
                    ..TrainSpec::default()
                };
                spec.artifact_path(id).ok().flatten()
            }
        }
    }
}
