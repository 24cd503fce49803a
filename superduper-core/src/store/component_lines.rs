//! Lines of components: which to list, and what a person sees of each.

use super::rows::{ComponentId, JobRole, JobState, Timestamp};
use crate::address::Address;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which components to list; the fields that are set must all match.
///
/// ```
/// # use superduper_core as superduper;
/// use superduper::{ store::{ComponentFilter, Health}};
///
/// let broken = ComponentFilter::new().kind("acme.Model").health(Health::Degraded);
/// let named = ComponentFilter::new().text("churn").label("prod");
/// # let _ = (broken, named);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentFilter {
    /// `Kind/identifier` has this text in it. The case of ASCII letters does not matter.
    pub text: Option<String>,
    /// Components of this kind.
    pub kind: Option<String>,
    /// Components that have this label.
    pub label: Option<String>,
    /// Components that are doing like this. A store need not look at it:
    /// [`Db::component_lines`](crate::Db::component_lines) does.
    pub health: Option<Health>,
}

impl ComponentFilter {
    /// All components.
    pub fn new() -> Self {
        ComponentFilter::default()
    }

    /// Only those with this text in `Kind/identifier`. The case of ASCII letters does not matter.
    pub fn text(self, text: impl Into<String>) -> Self {
        ComponentFilter { text: Some(text.into()), ..self }
    }

    /// Only those of this kind.
    pub fn kind(self, kind: impl Into<String>) -> Self {
        ComponentFilter { kind: Some(kind.into()), ..self }
    }

    /// Only those that have this label.
    pub fn label(self, label: impl Into<String>) -> Self {
        ComponentFilter { label: Some(label.into()), ..self }
    }

    /// Only those that are doing like this.
    pub fn health(self, health: Health) -> Self {
        ComponentFilter { health: Some(health), ..self }
    }

    /// Whether a component of this name can match, by its kind and its text.
    pub fn names(&self, kind: &str, identifier: &str) -> bool {
        let has = |text: &String| {
            format!("{kind}/{identifier}").to_ascii_lowercase().contains(&text.to_ascii_lowercase())
        };
        self.kind.as_ref().is_none_or(|wanted| wanted == kind) && self.text.as_ref().is_none_or(has)
    }
}

/// How a component is doing, in a word: [`Status`](crate::Status) without the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Health {
    /// All its jobs and those of its children succeeded.
    Ready,
    /// Some of its jobs, or of its children's, are not final.
    Pending,
    /// Some of its jobs, or of its children's, failed, were cancelled or skipped.
    Degraded,
    /// It was applied without its jobs.
    OwesJobs,
    /// It is being removed.
    Removing,
}

impl Health {
    const ALL: [Health; 5] =
        [Health::Ready, Health::Pending, Health::Degraded, Health::OwesJobs, Health::Removing];

    /// The lowercase name.
    pub fn name(self) -> &'static str {
        match self {
            Health::Ready => "ready",
            Health::Pending => "pending",
            Health::Degraded => "degraded",
            Health::OwesJobs => "owes_jobs",
            Health::Removing => "removing",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Health::ALL.into_iter().find(|health| health.name() == name)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Jobs of one trigger or hook that did not succeed, counted by their state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnhealthyJobs {
    /// The kind of the component: the one of the line, or one that it holds.
    pub kind: String,
    /// What the jobs do.
    pub role: JobRole,
    /// The trigger or hook.
    pub method: String,
    /// The state of all of them.
    pub state: JobState,
    /// How many there are.
    pub jobs: u64,
}

impl UnhealthyJobs {
    /// So many jobs of a trigger or hook in this state.
    pub fn new(
        kind: impl Into<String>,
        role: JobRole,
        method: impl Into<String>,
        state: JobState,
        jobs: u64,
    ) -> Self {
        UnhealthyJobs { kind: kind.into(), role, method: method.into(), state, jobs }
    }
}

/// A component in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentLine {
    /// The component.
    pub component: ComponentId,
    /// Kind and identifier, with the newest version and revision.
    pub address: Address,
    /// How many versions are stored.
    pub versions: u64,
    /// Its labels and the versions they point at, by label.
    pub labels: Vec<(String, u32)>,
    /// Version of the type that wrote the newest document.
    pub type_version: u32,
    /// Whether the component is being removed with all its versions.
    pub removing: bool,
    /// Whether its newest version was applied without its jobs.
    pub owes_jobs: bool,
    /// When its first stored version was made.
    pub created_at: Timestamp,
    /// When its newest revision was made.
    pub updated_at: Timestamp,
    /// The newest jobs that did not succeed, of the component and of what it holds, as
    /// [`MetadataStore::health`](super::MetadataStore::health) tells them, counted.
    pub unhealthy: Vec<UnhealthyJobs>,
}

impl ComponentLine {
    /// A component without labels whose jobs succeeded.
    pub fn new(component: ComponentId, address: Address, at: Timestamp) -> Self {
        ComponentLine {
            component,
            address,
            versions: 1,
            labels: Vec::new(),
            type_version: 1,
            removing: false,
            owes_jobs: false,
            created_at: at,
            updated_at: at,
            unhealthy: Vec::new(),
        }
    }

    /// How it is doing. [`Db::status`](crate::Db::status) says with which jobs.
    pub fn health(&self) -> Health {
        if self.removing {
            Health::Removing
        } else if self.unhealthy.iter().any(|group| group.state.is_terminal()) {
            Health::Degraded
        } else if !self.unhealthy.is_empty() {
            Health::Pending
        } else if self.owes_jobs {
            Health::OwesJobs
        } else {
            Health::Ready
        }
    }
}

impl fmt::Display for ComponentLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.health())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_has_a_name() {
        for health in Health::ALL {
            assert_eq!(Health::from_name(health.name()), Some(health));
        }
    }
}
