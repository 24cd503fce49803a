//! Requests for access.

use crate::{
    identity::{ACCESS, Expected, SignedRequest},
    principal::Principal,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use superduper::{Address, Digest, prelude::*, store::Timestamp};

/// Where a request stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum RequestState {
    /// The owner has not decided.
    #[default]
    Pending,
    /// The owner has granted it.
    Granted,
    /// The owner has rejected it.
    Rejected {
        /// Why.
        reason: String,
    },
    /// Who asked has taken it back.
    Withdrawn,
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestState::Pending => f.write_str("pending"),
            RequestState::Granted => f.write_str("granted"),
            RequestState::Rejected { reason } => write!(f, "rejected: {reason}"),
            RequestState::Withdrawn => f.write_str("withdrawn"),
        }
    }
}

/// A request of a user to run some code at a site.
#[derive(Component, Debug, Clone)]
#[component(kind = "superduper.AccessRequest")]
pub struct AccessRequest {
    identifier: String,
    /// Who asks.
    pub who: Principal,
    /// The site.
    pub site: String,
    /// The kind of the model.
    pub model: String,
    /// The digest of the code.
    pub digest: String,
    /// What for.
    pub purpose: String,
    /// The captured source, for the owner to read.
    #[component(default)]
    pub source: String,
    /// The request under the signature of the user, if the user has signed it.
    #[component(default)]
    pub signed: Option<SignedRequest>,
    /// Where it stands.
    #[component(default)]
    pub state: RequestState,
    /// How often the user has asked. A user may ask again after a grant has ended.
    #[component(default)]
    pub asks: u64,
    /// When it was decided last.
    #[component(default)]
    pub decided_at: Option<Timestamp>,
}

impl AccessRequest {
    /// A new request. The owner has not decided on it yet.
    pub(crate) fn new(
        who: Principal,
        site: &str,
        (model, digest): (&str, &str),
        purpose: &str,
        source: String,
    ) -> Self {
        AccessRequest {
            identifier: AccessRequest::name_of(site, &who.user, digest),
            who,
            site: site.to_owned(),
            model: model.to_owned(),
            digest: digest.to_owned(),
            purpose: purpose.to_owned(),
            source,
            signed: None,
            state: RequestState::Pending,
            asks: 1,
            decided_at: None,
        }
    }

    /// The identifier: the same for the same user, site and code.
    pub(crate) fn name_of(site: &str, user: &str, digest: &str) -> String {
        let all = format!("{}\0{site}\0{user}\0{digest}", site.len());
        Digest::of(all.as_bytes()).to_hex()[..32].to_owned()
    }

    pub(crate) fn address_of(site: &str, user: &str, digest: &str) -> Address {
        Address::of::<AccessRequest>(AccessRequest::name_of(site, user, digest))
    }

    /// Whether its id is that of its user, site and code. Whoever can open a database may have written
    /// it.
    pub(crate) fn is_consistent(&self) -> bool {
        self.identifier == AccessRequest::name_of(&self.site, &self.who.user, &self.digest)
            && self.who.check().is_ok()
    }

    /// What its signature has to be about.
    pub(crate) fn expected(&self) -> Expected<'_> {
        let (user, site) = (self.who.user.as_str(), self.site.as_str());
        let purpose = self.purpose.trim();
        Expected { user, site, digest: &self.digest, purpose, terms: ACCESS }
    }

    /// The id, for [`Access::grant`](crate::Access::grant) and
    /// [`Access::reject`](crate::Access::reject).
    pub fn id(&self) -> &str {
        &self.identifier
    }
}
