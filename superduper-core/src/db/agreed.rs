//! Carrying out a plan that was agreed on before: today's plan must be the same one.

use super::DbInner;
use crate::{
    address::Address,
    digest::Digest,
    error::{Error, Result},
    plan::Plan,
};
use std::{collections::BTreeSet, sync::Arc};

/// So many components are named by the error.
const NAMED: usize = 3;

/// Refuse a plan that is another one than was agreed on.
///
/// # Errors
/// `Conflict`, which names what was read and when it was changed last.
pub(crate) async fn check_agreed(
    db: &Arc<DbInner>,
    plan: &Plan,
    agreed: Option<Digest>,
) -> Result<()> {
    let Some(agreed) = agreed else { return Ok(()) };
    let today = plan.digest();
    if agreed == today {
        return Ok(());
    }
    let text = format!(
        "the plan for `{}` is not the one that was agreed on: {}",
        plan.root,
        what_is(db, plan).await?
    );
    let hint = format!(
        "look at today's plan and agree on its digest, {today}; the plan that was agreed on has the digest {agreed}"
    );
    Err(Error::conflict(text).with_hint(hint))
}

/// What is stored of the components of a plan, the newest change first.
async fn what_is(db: &Arc<DbInner>, plan: &Plan) -> Result<String> {
    let names: BTreeSet<Address> =
        plan.components.iter().map(|component| component.address.unversioned()).collect();
    let stored = db.metadata.snapshot(names.iter().cloned().collect()).await?.components;
    let mut found: Vec<_> = stored.values().collect();
    found.sort_by(|a, b| (b.updated_at, &a.address).cmp(&(a.updated_at, &b.address)));
    let mut parts: Vec<String> = found
        .iter()
        .take(NAMED)
        .map(|version| format!("`{}` is on record since {}", version.address, version.updated_at))
        .collect();
    let absent: Vec<String> = names
        .iter()
        .map(Address::path)
        .filter(|path| !stored.contains_key(path))
        .map(|path| format!("`{path}`"))
        .take(NAMED)
        .collect();
    if !absent.is_empty() {
        parts.push(format!("{} is not stored", absent.join(", ")));
    }
    Ok(parts.join(", "))
}
