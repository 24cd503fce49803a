//! What a person may do at a site.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use superduper::{Error, Result};

/// Something that a person may do at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Right {
    /// Know that the site exists.
    View,
    /// Ask for access.
    Request,
    /// Run the models and executors that the site lists.
    RunBuiltin,
    /// Run another model, if its digest is granted.
    RunModel,
    /// Run a model in the sandbox, if its digest is granted.
    RunSandboxed,
    /// Run any code.
    RunAny,
    /// Read metrics.
    ReadMetrics,
    /// Give rights to others.
    Grant,
    /// Take weights out.
    ExportWeights,
}

impl Right {
    /// All rights.
    pub const ALL: [Right; 9] = [
        Right::View,
        Right::Request,
        Right::RunBuiltin,
        Right::RunModel,
        Right::RunSandboxed,
        Right::RunAny,
        Right::ReadMetrics,
        Right::Grant,
        Right::ExportWeights,
    ];

    /// The name, such as `run_model`.
    pub fn name(self) -> &'static str {
        match self {
            Right::View => "view",
            Right::Request => "request",
            Right::RunBuiltin => "run_builtin",
            Right::RunModel => "run_model",
            Right::RunSandboxed => "run_sandboxed",
            Right::RunAny => "run_any",
            Right::ReadMetrics => "read_metrics",
            Right::Grant => "grant",
            Right::ExportWeights => "export_weights",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Right {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Right::ALL.into_iter().find(|right| right.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Right::ALL.iter().map(|right| right.name()).collect();
            Error::invalid(format!("there is no right `{text}`"))
                .with_hint(format!("the rights are {}", known.join(", ")))
        })
    }
}
