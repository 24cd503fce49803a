//! Stored components: one, if it is there, or all of a type.

use superduper::{Address, ComponentType, Db, ErrorKind, Result, store::ComponentFilter};

/// Whether a component is stored. The error of [`Db::load`] for one that is not names others, which
/// takes long where there are many; a gate looks for several that are usually not there.
pub(crate) async fn is_there(db: &Db, address: &Address) -> Result<bool> {
    Ok(!db.metadata().versions(address.clone()).await?.is_empty())
}

/// A component, if it is stored.
pub(crate) async fn find<T: ComponentType>(db: &Db, address: Address) -> Result<Option<T>> {
    if !is_there(db, &address).await? {
        return Ok(None);
    }
    match db.load::<T>(address).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A component, if it is stored, with the address that says what was seen: with the version, or
/// without one where nothing was there.
pub(crate) async fn seen<T: ComponentType>(
    db: &Db,
    address: Address,
) -> Result<(Option<T>, Address)> {
    if !is_there(db, &address).await? {
        return Ok((None, address));
    }
    match db.load_with_address::<T>(address.clone()).await {
        Ok(stored) => {
            let address = stored.address().clone();
            Ok((Some(stored.into_inner()), address))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((None, address)),
        Err(error) => Err(error),
    }
}

/// All components of a type, at their newest version.
///
/// # Errors
/// `Decode` for one that cannot be read; `Store`.
pub(crate) async fn all<T: ComponentType>(db: &Db) -> Result<Vec<T>> {
    collect(db, false).await
}

/// As [`all`], without those that cannot be read: others can write what they like.
///
/// # Errors
/// `Store`.
pub(crate) async fn all_readable<T: ComponentType>(db: &Db) -> Result<Vec<T>> {
    collect(db, true).await
}

async fn collect<T: ComponentType>(db: &Db, skips: bool) -> Result<Vec<T>> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let filter = ComponentFilter::new().kind(T::__kind());
        let page = db.component_lines(filter).after(cursor.take()).await?;
        for line in &page.lines {
            match find::<T>(db, line.address.unversioned()).await {
                Err(error) if skips && error.kind() != ErrorKind::Store => {}
                read => found.extend(read?),
            }
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(found),
        }
    }
}
