//! Who holds a component.

use super::Db;
use crate::{
    error::{Error, Result},
    locator::Locator,
    store::Reference,
};

impl Db {
    /// The versions that hold a component in a field, with the path of that field; each at its
    /// newest revision.
    ///
    /// With a version or a label in the address, those that hold this very version. Old versions of
    /// a parent count: they can be loaded. A component that has parents can only be removed with
    /// them, or after them.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
    /// for reference in db.parents("acme.Encoder/text").await? {
    ///     println!("{} holds {} in `{}`", reference.parent, reference.child, reference.path);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` for what is not stored; `Store`.
    pub async fn parents(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Vec<Reference>> {
        let address = self.resolve(target).await?;
        let wanted = address.version.map(|at| at.version);
        let versions = self.versions(&address).await?;
        if wanted.is_some_and(|wanted| !versions.iter().any(|stored| stored.version() == wanted)) {
            return Err(self.not_found(&address.kind, &address.to_string()).await);
        }
        let child = wanted.map_or(address.unversioned(), |version| address.at(version));
        let mut found = self.inner().metadata.referrers(vec![child]).await?;
        found.retain(|reference| reference.current);
        found.sort_by(|a, b| (&a.parent, &a.path, &a.child).cmp(&(&b.parent, &b.path, &b.child)));
        Ok(found)
    }
}
