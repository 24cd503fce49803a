//! Signed requests: what a user asks to run, at which site, and until when this may be handed in.

use super::keys::{PublicKey, SigningKey};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use superduper::{Error, ErrorKind, Result, store::Timestamp};

/// So far may the clocks of a user and of a site be apart.
const CLOCKS: i64 = 5 * 60 * 1000;

/// A request of a user under the signature of the user's key.
///
/// It is for one site and one digest of code. It can be handed in once, until it expires: by one
/// training for all its rounds, or by one request for access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SignedRequest {
    /// The user.
    pub user: String,
    /// The site.
    pub site: String,
    /// The digest of the code.
    pub digest: String,
    /// What for.
    pub purpose: String,
    /// What it is for: the terms of a training, or `access` for a request for access.
    pub terms: String,
    /// A random text, other than that of any other request.
    pub nonce: String,
    /// When it was signed, by the clock of the user.
    pub signed_at: Timestamp,
    /// Until when it can be handed in.
    pub expires: Timestamp,
    /// The minisign signature of all of this.
    pub signature: String,
}

/// What a request has to be about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) user: &'a str,
    pub(crate) site: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) purpose: &'a str,
    /// The terms of a training, or [`ACCESS`].
    pub(crate) terms: &'a str,
}

/// In the place of terms: a request for access.
pub(crate) const ACCESS: &str = "access";

impl SignedRequest {
    /// Sign a request that can be handed in for so long from now.
    pub(crate) fn new(
        key: &SigningKey,
        about: Expected<'_>,
        valid_for: Duration,
    ) -> Result<SignedRequest> {
        let now = Timestamp::now();
        let valid_for = i64::try_from(valid_for.as_millis()).unwrap_or(i64::MAX);
        let mut request = SignedRequest {
            user: about.user.to_owned(),
            site: about.site.to_owned(),
            digest: about.digest.to_owned(),
            purpose: about.purpose.to_owned(),
            terms: about.terms.to_owned(),
            nonce: uuid::Uuid::new_v4().simple().to_string(),
            signed_at: now,
            expires: Timestamp(now.0.saturating_add(valid_for)),
            signature: String::new(),
        };
        request.signature = key.sign(&request.text())?;
        Ok(request)
    }

    /// The text that is signed: a JSON list, so that no part can pass for another one.
    fn text(&self) -> String {
        let SignedRequest { user, site, digest, purpose, terms, nonce, .. } = self;
        let (signed_at, expires) = (self.signed_at, self.expires);
        let version = "superduper access request 1";
        let times = [signed_at.0, expires.0];
        serde_json::json!([version, user, site, digest, purpose, terms, nonce, times]).to_string()
    }

    /// Check the signature, and that the request is about this. Not the times, and not the nonce.
    ///
    /// # Errors
    /// `PermissionDenied`, each with the reason.
    pub(crate) fn check(&self, key: &PublicKey, expected: Expected<'_>) -> Result<()> {
        let refused = |what: &str, signed: &str, wanted: &str| {
            let text = format!("the request was signed for the {what} `{signed}`, not `{wanted}`");
            Err(Error::new(ErrorKind::PermissionDenied, text))
        };
        key.check(&self.text(), &self.signature)?;
        for (what, signed, wanted) in [
            ("user", &self.user, expected.user),
            ("site", &self.site, expected.site),
            ("digest", &self.digest, expected.digest),
            ("purpose", &self.purpose, expected.purpose),
            ("terms", &self.terms, expected.terms),
        ] {
            if signed != wanted {
                return refused(what, signed, wanted);
            }
        }
        Ok(())
    }

    /// Check that the request can be handed in at this time.
    ///
    /// # Errors
    /// `PermissionDenied` after it has expired, and for one that was signed in the future.
    pub(crate) fn check_times(&self, now: Timestamp) -> Result<()> {
        let refused = |text: String| Err(Error::new(ErrorKind::PermissionDenied, text));
        if now >= self.expires {
            return refused(format!("the signed request has expired at {}", self.expires));
        }
        if self.signed_at.0 > now.0.saturating_add(CLOCKS) {
            return refused(format!(
                "the request was signed at {}, but it is {now} here: one of the clocks is wrong",
                self.signed_at
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p23_the_times_of_a_request_are_checked_and_are_under_the_signature() -> Result<()> {
        const MINUTE: i64 = 60_000;
        let key = SigningKey::generate()?;
        let about =
            Expected { user: "alice", site: "b", digest: "0", purpose: "study", terms: ACCESS };
        let request = SignedRequest::new(&key, about, Duration::from_secs(3600))?;
        let at = |minutes: i64| Timestamp(request.signed_at.0 + minutes * MINUTE);
        for fine in [0, 59, -4] {
            request.check_times(at(fine))?;
        }
        // A minute after its expiry, and a clock that is off by an hour.
        let late = request.check_times(at(61)).map_err(|error| error.to_string());
        assert!(late.is_err_and(|text| text.contains("has expired at")));
        let early = request.check_times(at(-60)).map_err(|error| error.to_string());
        assert!(early.is_err_and(|text| text.contains("one of the clocks is wrong")));
        request.check(&key.public(), about)?;
        let moved = SignedRequest { signed_at: at(-30), ..request };
        assert!(moved.check(&key.public(), about).is_err());
        Ok(())
    }
}
