//! A change of a component that others may change at the same time.

use superduper::{Address, ComponentType, Db, Error, ErrorKind, Result};

/// Load a component, edit it, and write it. If somebody else has changed it meanwhile, it is loaded and
/// edited again. `new` is edited if nothing is stored.
///
/// # Errors
/// `NotFound` where nothing is stored and there is no `new`; those of `edit`; `Conflict` if others
/// change it all the time; those of [`Db::apply`].
pub(crate) async fn update<T: ComponentType + Clone>(
    db: &Db,
    address: Address,
    new: Option<T>,
    edit: impl Fn(&mut T) -> Result<()>,
) -> Result<T> {
    for _ in 0..64 {
        let stored = match db.load_with_address::<T>(address.clone()).await {
            Ok(stored) => Some(stored),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let from = stored.as_ref().map(|stored| stored.address().clone());
        let value = stored.map(|stored| T::clone(&stored)).or_else(|| new.clone());
        let mut value = value
            .ok_or_else(|| Error::not_found(format!("there is no `{}`", address.identifier)))?;
        edit(&mut value)?;
        let plan = db.plan(&value).await?;
        let is_from = |planned: &superduper::plan::PlannedComponent| {
            planned.address.path() != address.path() || planned.from == from
        };
        if !plan.components().iter().all(is_from) {
            continue; // it has moved since it was loaded
        }
        match db.apply_plan(plan).detach().await {
            Ok(_) => return Ok(value),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("`{address}` changes all the time")))
}
