//! What is on record of a training: outputs of the component, and the results of its jobs.

use crate::executor::ReturnCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};
use superduper::{Artifact, Tensors};

/// The state of a training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum State {
    /// Not started.
    #[default]
    Initial,
    /// Rounds are under way.
    Ongoing,
    /// The sites report moments for SWAG.
    SwagRound,
    /// All rounds are done.
    Completed,
    /// It cannot go on by itself. Applying the training again repeats what failed.
    Error,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Initial => "INITIAL",
            State::Ongoing => "ONGOING",
            State::SwagRound => "SWAG_ROUND",
            State::Completed => "COMPLETED",
            State::Error => "ERROR",
        })
    }
}

/// Where a training stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The state, but for ERROR, which is a property of the training's run.
    pub state: State,
    /// How many rounds are done, which is also the number of the round under way.
    pub round: u64,
    /// The uuid of the global model in notifications.
    pub model_uuid: String,
    /// When the round under way was opened, in milliseconds since 1970.
    #[serde(default)]
    pub opened_at: Option<i64>,
    /// The metrics of the last model test: means over the sites, weighted by rows.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// The best value of the metric that `keep.best` names, and the number of rounds it was
    /// reached after.
    #[serde(default)]
    pub best: Option<(f64, u64)>,
}

/// The hashes of a training at its last start, as 64 hexadecimal digits each.
///
/// An apply with a larger `num_rounds` starts the training again, and replaces both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Started {
    /// The [hash of the preview](crate::Preview::hash): of the document and the captured source.
    pub preview_hash: String,
    /// A digest of the captured source of model, executor and persistor, in the program that ran
    /// the start.
    pub source_digest: String,
}

/// A global model on record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptModel {
    /// After how many rounds.
    pub round: u64,
    /// Its weights.
    pub weights: Artifact<Tensors>,
}

/// The newest global model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GlobalModel {
    /// After how many rounds.
    pub round: u64,
    /// The weights.
    pub weights: Artifact<Tensors>,
    /// The state of the server's optimizer.
    #[serde(default)]
    pub optimizer: Option<Artifact<Tensors>>,
    /// The first moments of the weights, with SWAG.
    #[serde(default)]
    pub first_moment: Option<Artifact<Tensors>>,
    /// The second moments of the weights, with SWAG.
    #[serde(default)]
    pub second_moment: Option<Artifact<Tensors>>,
    /// Earlier models that `keep` asks for, oldest first.
    #[serde(default)]
    pub kept: Vec<KeptModel>,
}

/// Where a local update waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// In the memory of the process with this token.
    Memory(String),
    /// In a [`LocalModel`](crate::LocalModel) with this identifier.
    Stored(String),
}

/// The recorded result of a site's job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// How the task ended.
    pub code: ReturnCode,
    /// Why the task was not done; empty for `Ok`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The number of rows that the site used.
    #[serde(default)]
    pub samples: u64,
    /// Metrics by name. Those of embedded sites that are NaN or infinite are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The values that the executor or the model set with
    /// [`SiteContext::set_public`](crate::SiteContext::set_public). Empty for a remote site.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// What the gate of an embedded site adds ([`Gate::statement`](crate::Gate::statement)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Value>,
    /// Where its tensors wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

impl Answer {
    pub(crate) fn failed(code: ReturnCode, reason: impl Into<String>) -> Self {
        let (metrics, properties) = (BTreeMap::new(), Map::new());
        let (statement, held) = (None, None);
        Answer { code, reason: reason.into(), samples: 0, metrics, properties, statement, held }
    }
}

/// A job of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskRef {
    pub(crate) site: String,
    /// The run that has the job.
    pub(crate) run: i64,
    /// The key of its job.
    pub(crate) key: String,
    /// The round it was asked in.
    pub(crate) round: u64,
}

/// An answer that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) task: TaskRef,
    pub(crate) samples: u64,
    pub(crate) held: Held,
}

/// What a job of a phase is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseInput {
    /// The round, or the number of rounds done.
    pub(crate) round: u64,
    /// The run that the phase was first planned in.
    pub(crate) run: i64,
    /// The site jobs to look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tasks: Vec<TaskRef>,
    /// The answers to aggregate, or to start from in a daisy-chained round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) answers: Vec<Counted>,
    /// Late sites whose jobs go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pending: Vec<TaskRef>,
    /// Local updates that are not needed any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spent: Vec<Counted>,
    /// How often the round was begun again. It is part of the keys of its jobs: a run drops a job
    /// whose key it has already.
    #[serde(default)]
    pub(crate) again: u32,
    /// Whether this run told the sites of the training's start.
    #[serde(default)]
    pub(crate) first: bool,
    /// When to act, in milliseconds since 1970, for a timer.
    #[serde(default)]
    pub(crate) at: Option<i64>,
}

impl PhaseInput {
    /// The key of a job of this round, such as `r3/gather`, or `r3~1/gather` when it was begun again.
    pub(crate) fn key(&self, phase: &str) -> String {
        let round = self.round;
        match self.again {
            0 => format!("r{round}/{phase}"),
            again => format!("r{round}~{again}/{phase}"),
        }
    }
}

/// What a site's job is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskInput {
    pub(crate) name: String,
    pub(crate) site: String,
    pub(crate) round: u64,
    /// The local update to start from, in a daisy-chained round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Counted>,
    /// The process that will aggregate, if it is the one that asks.
    pub(crate) process: String,
    /// Store the update, wherever it is made.
    #[serde(default)]
    pub(crate) store: bool,
}
