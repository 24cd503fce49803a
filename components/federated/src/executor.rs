//! What a site runs: the [`ClientExecutor`] and what it is given.

use crate::{class::HasClass, model::entry, site_context::SiteContext};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, fmt::Debug};
use superduper::{Result, Tensors};

/// What a site is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// `train`, `swag`, `test` or `predict`; other names are for executors of your own.
    pub name: String,
    /// The round, from 0. For `swag` and `test` the number of rounds done.
    pub round: u64,
}

/// How a task ended at a site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ReturnCode {
    /// It was done.
    #[default]
    Ok,
    /// The executor failed or panicked.
    ExecutionException,
    /// The executor does not know the task.
    TaskUnknown,
    /// The task was cancelled.
    TaskAborted,
    /// The answer cannot be used: a NaN, an infinity, no tensors.
    BadTaskData,
    /// The site's gate denied it.
    NotPermitted,
    /// It took too long.
    Timeout,
    /// The process of the site was lost.
    ProcessLost,
    /// The site has left the training.
    Left,
}

impl ReturnCode {
    /// The name in JSON, such as `EXECUTION_EXCEPTION`.
    pub fn name(self) -> &'static str {
        match self {
            ReturnCode::Ok => "OK",
            ReturnCode::ExecutionException => "EXECUTION_EXCEPTION",
            ReturnCode::TaskUnknown => "TASK_UNKNOWN",
            ReturnCode::TaskAborted => "TASK_ABORTED",
            ReturnCode::BadTaskData => "BAD_TASK_DATA",
            ReturnCode::NotPermitted => "NOT_PERMITTED",
            ReturnCode::Timeout => "TIMEOUT",
            ReturnCode::ProcessLost => "PROCESS_LOST",
            ReturnCode::Left => "LEFT",
        }
    }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an executor answers.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// How the task ended.
    pub code: ReturnCode,
    /// Why the task was not done; empty for `Ok`.
    pub reason: String,
    /// The number of rows that the site used. It is the weight of this site in the mean.
    pub samples: u64,
    /// The weights, for `train`; the means of the weights, for `swag`. They have the names, shapes
    /// and types of the global model. For `predict`, what the model predicts for each row.
    pub tensors: Option<Tensors>,
    /// The means of the squared weights, for `swag`, in the same layout.
    pub second: Option<Tensors>,
    /// Metrics by name.
    pub metrics: BTreeMap<String, f64>,
}

impl Reply {
    /// An answer with this code instead of a result.
    pub fn failed(code: ReturnCode, reason: impl Into<String>) -> Self {
        Reply { code, reason: reason.into(), ..Reply::default() }
    }
}

/// What a site runs for a task. The field of a training is named `executor`; core's `Executor` says
/// where a job runs.
///
/// An executor of your own derives `Debug`, `Serialize` and `Deserialize`, and its implementation is
/// marked `#[typetag::serde(name = "my_crate.MyExecutor")]`. It runs on a thread that may block.
///
/// An executor may replace a part and leave the rest to [`DefaultExecutor`]:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use superduper::prelude::*;
/// use superduper_federated::{ClientExecutor, DefaultExecutor, Reply, SiteContext, Task};
///
/// /// Counts the rows of each site as a metric.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Counting {}
///
/// #[typetag::serde(name = "doc.Counting")]
/// impl ClientExecutor for Counting {
///     fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
///         let rows = ctx.data()?.rows();
///         let mut reply = DefaultExecutor {}.execute(task, tensors, ctx)?;
///         reply.metrics.insert("rows".into(), rows as f64);
///         Ok(reply)
///     }
/// }
/// ```
#[typetag::serde(tag = "type")]
pub trait ClientExecutor: HasClass + Debug + Send + Sync {
    /// Do a task. `tensors` are the weights to start from, in the layout of the global model.
    ///
    /// # Errors
    /// Any. After a retryable error the task is tried again, up to `retries` of the site's
    /// [`SiteJobs`](crate::SiteJobs) times. `Cancelled` counts as the answer TASK_ABORTED, and any
    /// other error as EXECUTION_EXCEPTION.
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply>;
}

/// Calls the model's own methods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultExecutor {}

#[typetag::serde(name = "federated.DefaultExecutor")]
impl ClientExecutor for DefaultExecutor {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        let model = ctx.model.clone();
        let model = &*model;
        let entry = entry(model.kind())?;
        match task.name.as_str() {
            "train" => {
                let trained = (entry.train)(model, tensors, ctx)?;
                Ok(Reply {
                    samples: trained.samples,
                    tensors: Some(trained.weights),
                    metrics: trained.metrics,
                    ..Reply::default()
                })
            }
            "swag" => {
                let moments = (entry.moments)(model, tensors, ctx)?;
                Ok(Reply {
                    samples: moments.samples,
                    tensors: Some(moments.first),
                    second: Some(moments.second),
                    ..Reply::default()
                })
            }
            "test" => {
                let tested = (entry.test)(model, tensors, ctx)?;
                let (samples, metrics) = (tested.samples, tested.metrics);
                Ok(Reply { samples, metrics, ..Reply::default() })
            }
            "predict" => {
                let tensors = Some((entry.predict)(model, tensors, ctx)?);
                Ok(Reply { samples: ctx.data()?.rows(), tensors, ..Reply::default() })
            }
            other => Ok(Reply::failed(
                ReturnCode::TaskUnknown,
                format!("the default executor does not know the task `{other}`"),
            )),
        }
    }
}
