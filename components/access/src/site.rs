//! What is on record of a site: its owner, its policy, and what each user was given.

use crate::{
    identity::{PublicKey, SigningKey},
    policy::SitePolicy,
    principal::Principal,
    role::Roles,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use superduper::{Address, Secret, prelude::*, store::Timestamp};
use superduper_federated::SiteData;

/// A site under governance, in the database that its gate is asked in.
///
/// Its identifier is the name of the site.
#[derive(Component, Debug, Clone)]
#[component(kind = "superduper.GovernedSite")]
pub struct GovernedSite {
    identifier: String,
    /// Who decides about the site.
    pub owner: Principal,
    /// For each right, who may have it at all.
    pub policy: SitePolicy,
    /// Roles of the site's own.
    #[component(default)]
    pub roles: Roles,
    /// Kinds of models that are built in here: everything else is custom code. A model that is
    /// listed is built in only with the default executor and persistor.
    #[component(default)]
    pub builtin: Vec<String>,
    /// Whether code that runs in the sandbox needs no grant: the right `run_sandboxed` is enough.
    #[component(default)]
    pub allow_sandboxed: bool,
    /// The data of the site, for trainings that name the site: [`Access::fit`](crate::Access::fit).
    #[component(default)]
    pub data: Option<Arc<dyn SiteData>>,
    /// The key of the owner. With it, trainings of the owner have to be signed, too.
    #[component(default)]
    pub owner_key: Option<PublicKey>,
    /// Whether users without a key on record are denied.
    #[component(default)]
    pub requires_keys: bool,
    /// The key that the site signs the head of its audit with; it goes with each answer.
    #[component(default)]
    pub signing_key: Option<Secret<SigningKey>>,
}

impl GovernedSite {
    /// A site whose policy leaves everything to roles and grants.
    pub fn new(name: impl Into<String>, owner: Principal) -> Self {
        GovernedSite {
            identifier: name.into(),
            owner,
            policy: SitePolicy::open(),
            roles: Roles::default(),
            builtin: Vec::new(),
            allow_sandboxed: false,
            data: None,
            owner_key: None,
            requires_keys: false,
            signing_key: None,
        }
    }

    /// Let trainings that name the site use this data.
    #[must_use]
    pub fn data(mut self, data: impl SiteData + 'static) -> Self {
        self.data = Some(Arc::new(data));
        self
    }

    /// The name of the site.
    pub fn name(&self) -> &str {
        &self.identifier
    }
}

impl Lifecycle for GovernedSite {
    fn postinit(&mut self) -> Result<()> {
        self.owner.check()?;
        self.roles.check()
    }
}

/// Something that a user was given, for a purpose, until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Given {
    /// The role, or the digest of the code.
    pub what: String,
    /// What for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// When it ends; `None`: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who gave it.
    pub by: String,
}

impl Given {
    /// Whether it holds at this time.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What a user was given at a site: roles, and digests of code.
#[derive(Component, Debug, Clone)]
#[component(kind = "superduper.Permissions")]
pub struct Permissions {
    identifier: String,
    /// The site.
    pub site: String,
    /// The user.
    pub user: String,
    /// The organisation of the user, as the owner of the site has it. What a user says of it does
    /// not count.
    #[component(default)]
    pub organisation: Option<String>,
    /// The key of the user, as the owner of the site has it. With it, requests of the user have to be
    /// signed.
    #[component(default)]
    pub key: Option<PublicKey>,
    /// Roles.
    #[component(default)]
    pub roles: Vec<Given>,
    /// Digests of code.
    #[component(default)]
    pub models: Vec<Given>,
}

impl Permissions {
    /// Nothing was given yet.
    pub(crate) fn none(site: &str, who: &Principal) -> Self {
        Permissions {
            identifier: Permissions::name_of(site, &who.user),
            site: site.to_owned(),
            user: who.user.clone(),
            organisation: who.organisation.clone(),
            key: None,
            roles: Vec::new(),
            models: Vec::new(),
        }
    }

    /// The identifier. The length keeps names with `-` apart.
    fn name_of(site: &str, user: &str) -> String {
        format!("{}-{site}-{user}", site.len())
    }

    pub(crate) fn address(site: &str, user: &str) -> Address {
        Address::of::<Permissions>(Permissions::name_of(site, user))
    }
}
