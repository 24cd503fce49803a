//! A site: data that stays where it is, and how its jobs run.

use crate::{
    gate::{Decision, Gate, ProgramGate, Request},
    notify::Endpoint,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{any::Any, fmt::Debug, sync::Arc, time::Duration};
use superduper::{BoxFuture, Db, Error, JobPolicy, Result};

/// The data of a site. Models downcast it to the type that they can read.
///
/// A type of your own derives `Debug`, `Serialize` and `Deserialize`, and its implementation is
/// marked `#[typetag::serde(name = "my_crate.Rows")]`.
#[typetag::serde(tag = "type")]
pub trait SiteData: Debug + Send + Sync {
    /// The number of rows.
    fn rows(&self) -> u64;

    /// The columns, each with its type.
    fn columns(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The number of classes of its labels; `None` where there are none, or it is not known.
    fn classes(&self) -> Option<usize> {
        None
    }

    /// The shape of a row as a model sees it, without the number of rows: `[width]` of a table. Empty
    /// where it is not known.
    fn input_shape(&self) -> Vec<usize> {
        Vec::new()
    }

    /// The value, for downcasts.
    fn as_any(&self) -> &dyn Any;

    /// For data that is somewhere else, and that this value only describes: read it, at the start of
    /// a site's job, after the gates have allowed the job. `None`, which is the default: this value is
    /// the data.
    ///
    /// # Errors
    /// Any; the site then has no answer in this round.
    fn load<'a>(
        &'a self,
        db: &'a Db,
        site: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn SiteData>>>> {
        let _ = (db, site);
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// How the jobs of a site run. What is not set is as for other jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteJobs {
    /// The name of the executor: `threads`, `process`, or one of the program's own.
    pub executor: Option<String>,
    /// A pool, and how many of its jobs may run at once.
    pub pool: Option<(String, usize)>,
    /// Tries beyond the first.
    pub retries: Option<u32>,
    /// The time limit of an attempt, in seconds.
    pub timeout: Option<f64>,
    /// The most memory of a job process, in bytes.
    pub memory: Option<u64>,
    /// The most processor time of a job process, in seconds.
    pub cpu: Option<f64>,
}

impl SiteJobs {
    pub(crate) fn check(&self) -> Result<()> {
        for (name, time) in [("timeout", self.timeout), ("cpu", self.cpu)] {
            let fits = |time: f64| time > 0.0 && Duration::try_from_secs_f64(time).is_ok();
            if let Some(time) = time.filter(|time| !fits(*time)) {
                return Err(Error::invalid(format!("`jobs.{name}` is {time} seconds"))
                    .with_hint("use a number above 0"));
            }
        }
        match &self.pool {
            Some((pool, 0)) => Err(Error::invalid(format!("the pool `{pool}` has no places"))
                .with_hint("use at least 1")),
            _ => Ok(()),
        }
    }

    pub(crate) fn policy(&self, stall: Option<f64>) -> JobPolicy {
        let time = |seconds: Option<f64>| seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
        JobPolicy {
            executor: self.executor.clone(),
            pool: self.pool.clone(),
            retries: self.retries,
            timeout: time(self.timeout),
            stall: time(stall),
            memory: self.memory,
            cpu: time(self.cpu),
            ..JobPolicy::default()
        }
    }
}

/// A participant of a federated training.
///
/// A site with `data` is embedded: its jobs run in the processes of this database. A site without is
/// remote: it is told by notifications at its `endpoint`, and its answers arrive through
/// [`ModelTrainer::receive_update`](crate::ModelTrainer::receive_update). `jobs`, `gate` and `filters`
/// are for embedded sites; a remote site does these things itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Site {
    /// Its name, unique in the training.
    pub name: String,
    /// Its data, for an embedded site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<dyn SiteData>>,
    /// How the jobs of an embedded site run.
    #[serde(default)]
    pub jobs: SiteJobs,
    /// Asked at the start of each attempt of an embedded site's jobs whether the site takes part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Box<dyn Gate>>,
    /// Where notifications for it go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Box<dyn Endpoint>>,
    /// What is done to the updates of an embedded site before they leave it, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Box<dyn crate::Filter>>,
}

impl Site {
    /// An embedded site with this data.
    pub fn new(name: impl Into<String>, data: impl SiteData + 'static) -> Self {
        Site { data: Some(Box::new(data)), ..Site::remote(name) }
    }

    /// A site somewhere else.
    pub fn remote(name: impl Into<String>) -> Self {
        Site {
            name: name.into(),
            data: None,
            jobs: SiteJobs::default(),
            gate: None,
            endpoint: None,
            filters: Vec::new(),
        }
    }

    /// Send its notifications to this endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Endpoint + 'static) -> Self {
        self.endpoint = Some(Box::new(endpoint));
        self
    }

    /// Ask this gate whether the site takes part.
    #[must_use]
    pub fn gate(mut self, gate: impl Gate + 'static) -> Self {
        self.gate = Some(Box::new(gate));
        self
    }

    /// Run its jobs in this way.
    #[must_use]
    pub fn jobs(mut self, jobs: SiteJobs) -> Self {
        self.jobs = jobs;
        self
    }

    /// Add a filter; the last one added is the last that changes an update.
    #[must_use]
    pub fn filter(mut self, filter: impl crate::Filter + 'static) -> Self {
        self.filters.push(Box::new(filter));
        self
    }

    /// Ask its own gate, then the gates of the program. The first decision that does not allow
    /// counts. The first statement of a gate goes with it. `request` is called if there is a gate.
    pub(crate) async fn ask_gates(
        &self,
        db: &Db,
        request: impl FnOnce() -> Result<Request>,
    ) -> Result<(Decision, Option<Value>)> {
        let own = self.gate.as_deref();
        let is_other =
            |gate: &&ProgramGate| own.is_none_or(|own| own.typetag_name() != gate.same_as);
        let all = inventory::iter::<ProgramGate>.into_iter();
        let of_program: Vec<Box<dyn Gate>> =
            all.filter(is_other).map(|gate| (gate.gate)()).collect();
        if own.is_none() && of_program.is_empty() {
            return Ok((Decision::Allow, None));
        }
        let (request, mut statement) = (request()?, None);
        for gate in own.into_iter().chain(of_program.iter().map(|gate| &**gate)) {
            let decision = gate.allow(db, &request).await?;
            if statement.is_none() && !request.is_preview {
                statement = gate.statement(db, &request).await?;
            }
            if decision != Decision::Allow {
                return Ok((decision, statement));
            }
        }
        Ok((Decision::Allow, statement))
    }

    /// Whether its jobs run in the processes of this database.
    pub fn is_embedded(&self) -> bool {
        self.data.is_some()
    }
}
