//! What an apply did.

use super::recorded::Recorded;
use crate::{
    address::Address,
    error::{Error, Result},
    job::Outcome,
    plan::{Action, LeftOut, Plan},
    store::{JobId, JobRow},
};
use std::fmt;

/// What an apply did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Applied {
    /// Kind, identifier, version and revision.
    pub address: Address,
    /// What happened to the component itself.
    pub action: Action,
    /// What happened to each component of the tree, children first.
    pub components: Vec<(Address, Action)>,
    /// The triggers that got no job, and why.
    pub left_out: Vec<LeftOut>,
    /// The run's outcome; `None` where there was nothing to run.
    pub outcome: Option<Outcome>,
    /// Jobs of the component that had succeeded before.
    pub(crate) earlier: Vec<(String, JobId)>,
    /// Their results, once the apply has ended.
    pub(crate) recorded: Recorded,
}

impl Applied {
    /// What a plan does, before its jobs have run.
    pub(crate) fn of_plan(plan: &Plan, address: Address, action: Action) -> Self {
        Applied {
            address,
            action,
            components: plan
                .components
                .iter()
                .map(|component| (component.address.clone(), component.action))
                .collect(),
            left_out: plan.left_out.clone(),
            outcome: None,
            earlier: Vec::new(),
            recorded: Recorded::default(),
        }
    }

    /// The version that is now the newest.
    pub fn version(&self) -> u32 {
        self.address.version.map_or(0, |at| at.version)
    }

    /// The revision of that version.
    pub fn revision(&self) -> u32 {
        self.address.version.and_then(|at| at.revision).unwrap_or(0)
    }

    /// The jobs that ran, in the order they were recorded.
    pub fn jobs(&self) -> &[JobRow] {
        self.outcome.as_ref().map_or(&[], |outcome| &outcome.jobs)
    }

    /// The job of a trigger of the component, where it ran in this apply.
    pub(crate) fn own_job(&self, trigger: &str) -> Option<&JobRow> {
        let path = self.address.path();
        self.jobs()
            .iter()
            .find(|job| job.key.is_none() && job.method == trigger && job.target.path() == path)
    }

    /// The result of a trigger of the component: of the job that ran, else the one on record. So an
    /// apply that changes nothing gives the results of the applies before.
    ///
    /// The result on record is that of the applied version, or of the version that its outputs were
    /// copied from. [`Db::result`](crate::Db::result) reads it of any version.
    ///
    /// # Errors
    /// `NotFound` where the trigger has not succeeded; `Decode` where the result is no `T`.
    pub fn result<T: serde::de::DeserializeOwned>(&self, trigger: &str) -> Result<T> {
        if self.own_job(trigger).is_none()
            && let Some(result) = self.recorded.result(trigger)
        {
            return result;
        }
        match &self.outcome {
            Some(outcome) => outcome.result(trigger),
            None => Err(self.no_result(trigger)),
        }
    }

    fn no_result(&self, trigger: &str) -> Error {
        let text =
            format!("`{trigger}` of `{}` did not run, and has no result on record", self.address);
        let error = Error::not_found(text);
        match crate::near::hint(trigger, self.recorded.names()) {
            Some(hint) => error.with_hint(hint),
            None => error.with_hint("`db.result(address, trigger)` reads the results of a version"),
        }
    }
}

/// One line: what was applied, what happened to it, and how its run ended.
impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.action.name())?;
        match &self.outcome {
            Some(outcome) => write!(f, ": {}", outcome.headline()),
            None => f.write_str(": nothing ran"),
        }
    }
}
