//! Which database decides about a site in this process.

use crate::stored::is_there;
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};
use superduper::{Address, Db, Error, ErrorKind, Result};

/// The databases of the sites whose jobs this process runs, by site.
fn homes() -> MutexGuard<'static, HashMap<String, Db>> {
    static HOMES: LazyLock<Mutex<HashMap<String, Db>>> = LazyLock::new(Mutex::default);
    HOMES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn register(site: &str, home: &Db) {
    homes().insert(site.to_owned(), home.clone());
}

/// Whether this process has the database of a site's own.
pub(crate) fn is_home(site: &str) -> bool {
    homes().contains_key(site)
}

/// The database that decides about a site: its own, or the one that the job belongs to.
///
/// # Errors
/// `PermissionDenied` for a site that decides in a database of its own, which this process does not
/// have open; `Store`.
pub(crate) async fn deciding(db: &Db, site: &str) -> Result<Db> {
    if let Some(home) = homes().get(site).cloned() {
        return Ok(home);
    }
    // The kind of `SiteListing`, which is not needed to know that there is one.
    match is_there(db, &Address::new("superduper.SiteListing", site)).await? {
        false => Ok(db.clone()),
        true => {
            let text = format!(
                "site `{site}` decides in a database of its own, which this process does not have"
            );
            Err(Error::new(ErrorKind::PermissionDenied, text).with_hint(format!(
                "let the site's own worker run its jobs: `at_home(Site::remote(\"{site}\"))`"
            )))
        }
    }
}
