//! Whether a request comes from the user that it names.

use crate::{
    identity::{Expected, SignedRequest, take},
    site::{GovernedSite, Permissions},
};
use superduper::{Db, ErrorKind, Result};

/// What a site knows of the user, and what was handed in.
pub(crate) struct Proof<'a> {
    pub(crate) site: &'a GovernedSite,
    pub(crate) permissions: Option<&'a Permissions>,
    pub(crate) expected: Expected<'a>,
    /// The signed request, if there is one.
    pub(crate) signed: Option<&'a SignedRequest>,
    /// What hands it in: a training by its uuid, or a request for access by its id.
    pub(crate) by: &'a str,
    pub(crate) is_preview: bool,
    /// Whether users without a key on record are denied, the owner among them.
    pub(crate) requires_keys: bool,
}

impl Proof<'_> {
    /// Whether the user is who the request says; the inner error tells why not. A user whose key is on
    /// record has to sign. One without a key is trusted, unless the site asks for keys.
    ///
    /// # Errors
    /// `Store`.
    pub(crate) async fn check(&self, db: &Db) -> Result<std::result::Result<(), String>> {
        let user = self.expected.user;
        let key = match user == self.site.owner.user {
            true => self.site.owner_key.as_ref(),
            false => self.permissions.and_then(|given| given.key.as_ref()),
        };
        let Some(key) = key else {
            return Ok(match self.requires_keys {
                true => Err(format!("no key of `{user}` is on record")),
                false => Ok(()),
            });
        };
        let Some(signed) = self.signed else {
            return Ok(Err(format!("it is not signed, and a key of `{user}` is on record")));
        };
        let checked = match signed.check(key, self.expected) {
            Ok(()) => take(db, signed, self.by, self.is_preview).await,
            Err(error) => Err(error),
        };
        match checked {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }
}
