//! Nonces that were handed in.

use super::request::SignedRequest;
use crate::update::update;
use superduper::{Address, Db, Digest, Error, ErrorKind, prelude::*, store::Timestamp};

/// The nonce of a signed request that was handed in at a site.
#[derive(Component, Debug, Clone)]
#[component(kind = "superduper.TakenNonce")]
pub struct TakenNonce {
    identifier: String,
    /// The site.
    pub site: String,
    /// The user who signed.
    pub user: String,
    /// The nonce.
    pub nonce: String,
    /// What handed it in: a training by its uuid, or a request for access by its id.
    #[component(default)]
    pub taken_by: String,
}

impl TakenNonce {
    fn of(request: &SignedRequest) -> Self {
        let SignedRequest { site, user, nonce, .. } = request;
        let all = format!("{}\0{site}\0{}\0{user}\0{nonce}", site.len(), user.len());
        TakenNonce {
            identifier: Digest::of(all.as_bytes()).to_hex()[..32].to_owned(),
            site: site.clone(),
            user: user.clone(),
            nonce: nonce.clone(),
            taken_by: String::new(),
        }
    }

    fn address(&self) -> Address {
        Address::of::<TakenNonce>(self.identifier.as_str())
    }

    /// Let this hand the request in, unless something else has.
    fn hand_in(&mut self, request: &SignedRequest, by: &str) -> Result<()> {
        match self.taken_by.as_str() {
            "" => {
                request.check_times(Timestamp::now())?;
                by.clone_into(&mut self.taken_by);
                Ok(())
            }
            known if known == by => Ok(()),
            known => {
                let text = format!("the signed request was handed in before, by {known}");
                Err(Error::new(ErrorKind::PermissionDenied, text)
                    .with_hint("sign a request for each training"))
            }
        }
    }
}

/// Hand in a signed request: once, and before it expires. What handed it in may do so again, also
/// after it has expired. It is on record when this returns, unless this is a preview.
///
/// # Errors
/// `PermissionDenied` for a request that something else has handed in, and for one that has expired;
/// `Store`.
pub(crate) async fn take(
    db: &Db,
    request: &SignedRequest,
    by: &str,
    is_preview: bool,
) -> Result<()> {
    let new = TakenNonce::of(request);
    let address = new.address();
    if is_preview {
        let stored = crate::stored::find::<TakenNonce>(db, address).await?;
        return stored.unwrap_or(new).hand_in(request, by);
    }
    update::<TakenNonce>(db, address, Some(new), |nonce| nonce.hand_in(request, by))
        .await
        .map(|_| ())
}
