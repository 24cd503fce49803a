//! The head of an audit under the signature of the site.

use super::keys::{PublicKey, SigningKey};
use serde::{Deserialize, Serialize};
use superduper::{
    Error, Result,
    store::{LogHead, Timestamp},
};
use superduper_federated::Answer;

/// How long the audit of a site was at a time, and the hash of its last entry, under the signature of
/// the site.
///
/// The answers of a governed site carry one, so that others hold it. An audit that was cut off or
/// rewritten since then does not fit it; see [`Access::verify_audit`](crate::Access::verify_audit).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SignedHead {
    /// The site.
    pub site: String,
    /// The number of the last entry, and its hash.
    pub head: LogHead,
    /// When it was signed, by the clock of the site.
    pub at: Timestamp,
    /// The minisign signature of all of this.
    pub signature: String,
}

impl SignedHead {
    pub(crate) fn new(key: &SigningKey, site: &str, head: LogHead) -> Result<Self> {
        let mut signed = SignedHead {
            site: site.to_owned(),
            head,
            at: Timestamp::now(),
            signature: String::new(),
        };
        signed.signature = key.sign(&signed.text())?;
        Ok(signed)
    }

    fn text(&self) -> String {
        let (seq, hash) = (self.head.seq, self.head.hash.to_hex());
        serde_json::json!(["superduper audit head 1", self.site, seq, hash, self.at.0]).to_string()
    }

    /// The head that came with the answer of a site; `None` if the site does not sign.
    ///
    /// # Errors
    /// `Decode` for what is no head.
    pub fn of_answer(answer: &Answer) -> Result<Option<SignedHead>> {
        let statement = answer.statement.clone();
        statement.map(serde_json::from_value).transpose().map_err(|error| {
            Error::new(superduper::ErrorKind::Decode, format!("the head of an audit: {error}"))
        })
    }

    /// Check that the site has signed it. Returns the head, for
    /// [`Access::verify_audit`](crate::Access::verify_audit).
    ///
    /// # Errors
    /// `PermissionDenied` for a signature by another key, or of something else.
    pub fn verify(&self, key: &PublicKey) -> Result<LogHead> {
        key.check(&self.text(), &self.signature)
            .map_err(|error| error.context(format_args!("the audit of site `{}`", self.site)))?;
        Ok(self.head)
    }
}
