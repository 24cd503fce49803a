//! The handle of a database, and the calls that need no file of their own.

use super::{Apply, DbBuilder, DbInner};
use crate::{
    component::AsComponent,
    plan::Plan,
    store::{Actor, ArtifactStore, MetadataStore},
};
use std::{fmt, sync::Arc};

/// A component database: metadata in rows, artifacts in blobs, jobs on record.
///
/// A handle; clones share one database. Open one with `Db::open` of the facade crate, or with
/// [`Db::builder`].
///
/// # Guarantees
/// - What `apply` stores and the jobs it plans commit in one transaction, before any user code
///   runs.
/// - A job's result is durable before anything that depends on it starts.
/// - Several processes may use one database at the same time.
///
/// # Assumptions
/// It is used inside a tokio runtime with time enabled.
#[derive(Clone)]
pub struct Db {
    inner: Arc<DbInner>,
    /// The actor of its writes.
    actor: Option<Arc<Actor>>,
}

impl Db {
    /// Choose stores, registry and limits by hand.
    pub fn builder() -> DbBuilder {
        DbBuilder::default()
    }

    pub(crate) fn from_inner(inner: Arc<DbInner>) -> Self {
        Db { inner, actor: None }
    }

    pub(crate) fn with_actor(&self, actor: Arc<Actor>) -> Self {
        Db { inner: self.inner.clone(), actor: Some(actor) }
    }

    pub(crate) fn actor(&self) -> Option<&Arc<Actor>> {
        self.actor.as_ref()
    }

    pub(crate) fn inner(&self) -> &Arc<DbInner> {
        &self.inner
    }

    /// Make a component exist: store what is new or changed, and run its jobs.
    ///
    /// Awaited, it waits for the jobs; `.detach()` gives a [`Run`](super::Run) instead. See
    /// [`Apply`] for the options.
    pub fn apply(&self, component: impl AsComponent) -> Apply {
        let apply = Apply::new(self.clone(), component.as_component());
        apply.drop_given(component);
        apply
    }

    /// Apply a plan made before.
    ///
    /// It is refused as a conflict, naming what moved, where the state is no longer the one it was
    /// made from.
    pub fn apply_plan(&self, plan: Plan) -> Apply {
        Apply::of_plan(self.clone(), plan)
    }

    /// What `apply` would do. Writes nothing.
    ///
    /// # Errors
    /// `Encode`, `InvalidInput` or `UnknownKind` for a component that cannot be stored; `Conflict`
    /// while it is being removed.
    pub async fn plan(&self, component: impl AsComponent) -> crate::error::Result<Plan> {
        let apply = Apply::new(self.clone(), component.as_component());
        apply.drop_given(component);
        apply.plan().await
    }

    /// Where documents, versions, runs and jobs are.
    pub fn metadata(&self) -> &Arc<dyn MetadataStore> {
        &self.inner.metadata
    }

    /// Where blobs are.
    pub fn artifact_store(&self) -> &Arc<dyn ArtifactStore> {
        &self.inner.artifacts
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.inner.metadata.location())
    }
}
