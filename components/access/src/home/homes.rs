//! Which database decides about a site in this process.

use super::SiteListing;
use crate::gate::find;
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};
use superduper::{Db, Error, ErrorKind, Result};

/// The databases of the sites whose jobs this process runs, by site.
fn homes() -> MutexGuard<'static, HashMap<String, Db>> {
    static HOMES: LazyLock<Mutex<HashMap<String, Db>>> = LazyLock::new(Mutex::default);
    HOMES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn register(site: &str, home: &Db) {
    homes().insert(site.to_owned(), home.clone());
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
    match find::<SiteListing>(db, SiteListing::address(site)).await? {
        None => Ok(db.clone()),
        Some(_) => {
            let text = format!(
                "site `{site}` decides in a database of its own, which this process does not have"
            );
            Err(Error::new(ErrorKind::PermissionDenied, text).with_hint(format!(
                "let the site's own worker run its jobs: `at_home(Site::remote(\"{site}\"))`"
            )))
        }
    }
}
