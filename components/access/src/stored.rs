//! All stored components of a type.

use crate::gate::find;
use superduper::{ComponentType, Db, Result, store::ComponentFilter};

/// All components of a type, at their newest version.
pub(crate) async fn all<T: ComponentType>(db: &Db) -> Result<Vec<T>> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let filter = ComponentFilter::new().kind(T::__kind());
        let page = db.component_lines(filter).after(cursor.take()).await?;
        for line in &page.lines {
            found.extend(find::<T>(db, line.address.unversioned()).await?);
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(found),
        }
    }
}
