//! Drift: what is outside, compared with what is declared, and the plan that mends it.

use super::{
    Db,
    planning::{Intent, plan_tree},
    read::decode_stored,
};
use crate::{
    address::Address,
    component::{Component, observed::Sight},
    encode::{DecodeEnv, encode_tree},
    error::{Error, Result},
    job::{Caught, Identity, JobContext, setup_tree},
    locator::Locator,
    plan::{Plan, Repair, Repairs},
    store::StoredVersion,
};
use serde_json::Value;
use std::{collections::HashMap, fmt, sync::Arc};

/// A field that is not outside as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The field, as [`FieldSpec::path`](crate::schema::FieldSpec::path) names it.
    pub field: String,
    /// What the component declares.
    pub declared: Value,
    /// What `observe` saw.
    pub observed: Value,
}

/// A component that is not outside as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Drifted {
    /// Kind, identifier, version and revision.
    pub component: Address,
    /// Whether it is not there at all.
    pub missing: bool,
    /// The fields that differ.
    pub differences: Vec<Difference>,
}

/// What [`Db::refresh`] found. Print it; give its plan to [`Db::apply_plan`] to mend what drifted.
#[derive(Debug, Clone)]
pub struct Drift {
    /// The components that drifted, children first; empty where all is as declared.
    pub components: Vec<Drifted>,
    /// The components whose types look outside, drifted or not.
    pub looked_at: Vec<Address>,
    /// What mends it: `on_create` and the triggers of what is missing, and the triggers that watch
    /// or require a field that differs, with what depends on them. A trigger whose outputs are on
    /// record does not run again. Nothing is stored anew.
    pub plan: Plan,
}

impl Drift {
    /// Whether all that can be seen is as declared.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no drift in {} observed components", self.looked_at.len());
        }
        for drifted in &self.components {
            if drifted.missing {
                writeln!(f, "{} is missing", drifted.component)?;
            }
            for Difference { field, declared, observed } in &drifted.differences {
                writeln!(
                    f,
                    "{}: `{field}` is {observed}, declared is {declared}",
                    drifted.component
                )?;
            }
        }
        write!(f, "{}", self.plan)
    }
}

impl Db {
    /// Ask a component, and those it holds, what they see outside; compare it with what is stored
    /// and plan the repair.
    ///
    /// Types say what they see in [`Lifecycle::observe`](crate::Lifecycle::observe); others count
    /// as they are declared. `setup` runs first, on a loaded copy. Writes nothing.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` where `observe` names a field that its type does not store; those
    /// of `setup` and `observe`.
    pub async fn refresh(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Drift> {
        let db = self.inner();
        crate::runtime_check::current()?;
        let address = self.resolve(target).await?;
        self.refuse_older(&address).await?;
        let address = address.unversioned();
        let stored = db.metadata.tree(address.clone()).await?;
        let newest =
            stored.first().ok_or_else(|| Error::not_found(format!("no component `{address}`")))?;
        let rows: HashMap<String, StoredVersion> =
            stored.iter().map(|stored| (stored.address.path(), stored.clone())).collect();
        for row in rows.values() {
            crate::component::secret::check_all(
                &row.address.path(),
                &crate::encode::secrets(&row.document),
            )?;
        }
        let entry = *db.registry.entry(&address.kind)?;
        let component = decode_stored(db, stored.clone(), |document| (entry.decode)(document))?;
        let tree = encode_tree(&*component)?;
        let tree = Arc::new(super::apply::finish(tree).await?);
        let sights = self.sights(newest, component).await?;
        let (drifted, looked_at, repairs) = self.drifted(&rows, sights)?;
        let (plan, _) =
            plan_tree(db, &tree, &Intent { repairs, stored: Some(&stored), ..Intent::default() })
                .await?;
        Ok(Drift { components: drifted, looked_at, plan })
    }

    /// Refuse a version that is not the newest one.
    async fn refuse_older(&self, address: &Address) -> Result<()> {
        let Some(at) = address.version else { return Ok(()) };
        let versions = self.versions(address.clone()).await?;
        if versions.last().is_some_and(|newest| newest.version() != at.version) {
            return Err(Error::invalid(format!("`{address}` is not the newest version"))
                .with_hint(format!("refresh `{}`", address.path())));
        }
        Ok(())
    }

    /// What a loaded component and those that it holds see outside, by `Kind/identifier`.
    async fn sights(
        &self,
        newest: &StoredVersion,
        component: Box<dyn Component>,
    ) -> Result<Vec<(String, Sight)>> {
        let db = self.inner();
        let address = newest.address.unversioned();
        let identity = Identity {
            target: newest.address.clone(),
            uuid: newest.uuid,
            run: None,
            job: None,
            attempt: 1,
            key: None,
            input: None,
            owner: None,
        };
        let env = Arc::new(DecodeEnv::new(db.registry.clone(), Some(db.artifacts.clone())));
        let ctx = JobContext::new(
            identity,
            Arc::downgrade(db),
            env,
            HashMap::new(),
            Arc::default(),
            db.notes.clone(),
        );
        // In a task of its own: hooks are user code and may panic.
        let sights =
            tokio::spawn(Caught::new(async move { ctx.scope(look(&*component, &ctx)).await }));
        let sights = sights.await.map_err(|error| {
            Error::internal(format!("refreshing `{address}`")).with_source(error)
        })?;
        sights.map_err(|panic| {
            panic.to_error(crate::error::ErrorKind::User, format_args!("refreshing `{address}`"))
        })?
    }

    /// The components that drifted, those that look outside, and what mends the drift.
    fn drifted(
        &self,
        rows: &HashMap<String, StoredVersion>,
        sights: Vec<(String, Sight)>,
    ) -> Result<(Vec<Drifted>, Vec<Address>, Repairs)> {
        let (mut found, mut looked_at) = (Vec::new(), Vec::new());
        let mut repairs = Repairs::default();
        for (path, sight) in sights {
            let Some(row) = rows.get(&path) else { continue };
            if sight == Sight::Nothing || looked_at.contains(&row.address) {
                continue;
            }
            looked_at.push(row.address.clone());
            let Some(drifted) = self.compare(row, sight)? else { continue };
            let keys = drifted.differences.iter().map(|difference| difference.field.clone());
            let repair = match drifted.missing {
                true => Repair::Missing,
                false => Repair::Keys(keys.collect()),
            };
            repairs.0.insert(path, repair);
            found.push(drifted);
        }
        Ok((found, looked_at, repairs))
    }

    fn compare(&self, row: &StoredVersion, sight: Sight) -> Result<Option<Drifted>> {
        let drifted = |missing, differences| {
            Some(Drifted { component: row.address.clone(), missing, differences })
        };
        let fields = match sight {
            Sight::Nothing => return Ok(None),
            Sight::Missing => return Ok(drifted(true, Vec::new())),
            Sight::Present(fields) => fields,
        };
        let spec = self.inner().registry.entry(&row.address.kind)?.spec;
        let mut differences = Vec::new();
        for (name, observed) in fields {
            let field =
                spec.fields.iter().find(|field| field.is_exactly(&name)).ok_or_else(|| {
                    let known: Vec<String> = spec
                        .fields
                        .iter()
                        .map(|field| format!("`{}`", field.source_name()))
                        .collect();
                    Error::invalid(format!(
                        "`{}` observed a field `{name}` that it does not have",
                        row.address.path()
                    ))
                    .with_hint(format!("its fields are {}", known.join(", ")))
                })?;
            let declared = row.document.get(field.key).cloned().unwrap_or(Value::Null);
            if declared != observed {
                differences.push(Difference { field: field.path(), declared, observed });
            }
        }
        Ok(if differences.is_empty() { None } else { drifted(false, differences) })
    }
}

/// Set the tree up and ask each of its components, children first.
async fn look(root: &dyn Component, ctx: &JobContext) -> Result<Vec<(String, Sight)>> {
    setup_tree(root, ctx).await?;
    let mut order: Vec<&dyn Component> = Vec::new();
    let mut stack = vec![root];
    while let Some(component) = stack.pop() {
        order.push(component);
        component.__visit_children(&mut |child| stack.push(child));
    }
    let mut sights = Vec::new();
    for component in order.into_iter().rev().filter(|component| component.__has_lifecycle()) {
        let path = format!("{}/{}", component.kind(), component.identifier());
        let seen = component
            .__observe(ctx)
            .await
            .map_err(|error| error.context(format_args!("observing `{path}`")))?;
        sights.push((path, seen.0));
    }
    Ok(sights)
}
