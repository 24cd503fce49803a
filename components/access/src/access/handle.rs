//! A user at a database: what the user sees, governs, and reads in the record.

use crate::{
    audit::{self, AuditEntry, AuditRecord, Outcome},
    decide::Standing,
    home::at_home,
    identity::{Expected, SignedRequest, SigningKey},
    listing::SiteListing,
    principal::Principal,
    right::Right,
    site::{GovernedSite, Permissions},
    site_data::{DataOfSite, no_data},
    stored::{all, find},
    update::update,
};
use std::time::Duration;
use superduper::{
    Actor, Address, ComponentType, Db, Encoded, Error, ErrorKind, Result,
    store::{LogHead, Timestamp},
};
use superduper_federated::{FederatedTraining, Site, Submitter, wake_site};

/// A database with the eyes and hands of one user.
///
/// It trusts the name that it is given: who may open the database decides who may call this. Each
/// decision is in the audit of its site, allowed or denied.
///
/// ```
/// # use superduper::prelude::*;
/// use superduper_access::{Access, GENERAL_MODELLER, GovernedSite, Principal};
///
/// # async fn example(db: &Db) -> Result<()> {
/// let owner = Access::acting(db, Principal::user("dr_a").of("north"))?;
/// owner.govern(GovernedSite::new("north", owner.who().clone())).await?;
/// owner.grant_role("north", "alice", GENERAL_MODELLER).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Access {
    pub(super) db: Db,
    pub(super) who: Principal,
    pub(super) key: Option<SigningKey>,
}

impl Access {
    /// Act as this user.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not an identifier.
    pub fn acting(db: &Db, who: Principal) -> Result<Self> {
        who.check()?;
        Ok(Access { db: db.acting_as(Actor::new(who.user.as_str())), who, key: None })
    }

    /// Sign requests and trainings with this key. The owner of a site may ask for that; see
    /// [`GrantRole::key`](crate::GrantRole::key).
    #[must_use]
    pub fn with_key(mut self, key: SigningKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The user.
    pub fn who(&self) -> &Principal {
        &self.who
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// What a training says of who submits it, and what for, without a signature.
    pub fn submitter(&self, purpose: impl Into<String>) -> Submitter {
        let Principal { user, organisation } = self.who.clone();
        Submitter { user, organisation, purpose: purpose.into(), ..Submitter::default() }
    }

    /// What a training says of who submits it, and what for, with a signed request for each embedded
    /// site. It is for this training alone, and can be handed in within a day. Code,
    /// rounds, options, settings and filters of the training must not change afterwards.
    ///
    /// # Errors
    /// `InvalidInput` without a key; those of [`FederatedTraining::source_digest`].
    pub fn signed(
        &self,
        training: &FederatedTraining,
        purpose: impl Into<String>,
    ) -> Result<Submitter> {
        self.signed_for(training, purpose, Duration::from_secs(24 * 60 * 60))
    }

    /// As [`signed`](Access::signed), for as long as is given.
    ///
    /// # Errors
    /// As for [`signed`](Access::signed).
    pub fn signed_for(
        &self,
        training: &FederatedTraining,
        purpose: impl Into<String>,
        valid_for: Duration,
    ) -> Result<Submitter> {
        let key = self.key.as_ref().ok_or_else(|| {
            Error::invalid(format!("{} has no key here", self.who))
                .with_hint("call `with_key` with the key of the user")
        })?;
        let mut submitter = self.submitter(purpose);
        let digest = training.source_digest()?.to_hex();
        let all = training.sites.iter().chain(&training.central);
        for site in all.filter(|site| site.is_embedded()) {
            let terms = training.terms(site)?.to_hex();
            let about = Expected {
                user: &self.who.user,
                site: &site.name,
                digest: &digest,
                purpose: submitter.purpose.trim(),
                terms: &terms,
            };
            let signed = SignedRequest::new(key, about, valid_for)?;
            let proof = Encoded::of(&signed)?.value().clone();
            submitter.proofs.insert(site.name.clone(), proof);
        }
        Ok(submitter)
    }

    /// What a training says of who submits it: signed, if there is a key.
    pub(crate) fn submitter_of(
        &self,
        training: &FederatedTraining,
        purpose: String,
        valid_for: Duration,
    ) -> Result<Submitter> {
        match &self.key {
            Some(_) => self.signed_for(training, purpose, valid_for),
            None => Ok(self.submitter(purpose)),
        }
    }

    /// Put a site under governance, or change its policy, roles and list of built-in models.
    ///
    /// # Errors
    /// `PermissionDenied` for a site of another owner; those of [`Db::apply`].
    pub async fn govern(&self, site: GovernedSite) -> Result<()> {
        let stored = self.site_of(site.name()).await?;
        let owner = stored.as_ref().map_or(&site.owner, |stored| &stored.owner);
        if owner.user != self.who.user || site.owner.user != self.who.user {
            let subject = format!("the policy of `{}`", site.name());
            self.deny(site.name(), Right::Grant, &subject, "only the owner may").await?;
            return Err(denied(Right::Grant, site.name(), "only the owner may do this"));
        }
        let name = site.name().to_owned();
        let subject = format!("the policy of `{name}`");
        self.note(&name, Right::Grant, &subject, "the owner", "").await?;
        self.db.apply(site).detach().await?;
        self.wake(&name).await
    }

    /// The sites that this user may see.
    ///
    /// # Errors
    /// `Store`.
    pub async fn sites(&self) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        for site in self.all::<GovernedSite>().await? {
            let permissions =
                find::<Permissions>(&self.db, Permissions::address(site.name(), &self.who.user))
                    .await?;
            let standing = Standing::of(&site, &self.who, permissions.as_ref(), Timestamp::now());
            if standing.has(Right::View).is_ok() {
                seen.push(site.name().to_owned());
            }
        }
        for listing in self.all::<SiteListing>().await? {
            if listing.is_seen_by(&self.who.user) {
                seen.push(listing.name().to_owned());
            }
        }
        Ok(seen)
    }

    /// The decisions at a site, oldest first; for its owner.
    ///
    /// # Errors
    /// `NotFound` for a site that does not exist or that the user may not see; `PermissionDenied` for
    /// a site of another owner; `Integrity`; `Store`.
    pub async fn audit(&self, site: &str) -> Result<Vec<AuditEntry>> {
        self.owned(site, "the audit").await?;
        audit::entries(&self.db, site).await
    }

    /// Check the decisions at a site: none was changed, removed or exchanged. Returns the head. With a
    /// head that was kept elsewhere, also that none was cut off since then.
    ///
    /// # Errors
    /// `Integrity`, with the number of the first entry that is not as it was; else as for
    /// [`audit`](Access::audit).
    pub async fn verify_audit(&self, site: &str, known: Option<LogHead>) -> Result<LogHead> {
        self.owned(site, "the audit").await?;
        audit::verify(&self.db, site, known).await
    }

    /// Let the jobs that wait at a site look again.
    pub(super) async fn wake(&self, site: &str) -> Result<()> {
        wake_site(&self.db, site).await.map(|_| ())
    }

    pub(super) async fn site_of(&self, site: &str) -> Result<Option<GovernedSite>> {
        find::<GovernedSite>(&self.db, Address::of::<GovernedSite>(site)).await
    }

    /// A site that this user may see.
    pub(crate) async fn visible(&self, site: &str) -> Result<GovernedSite> {
        let unknown = || unknown_site(site);
        let governed = self.site_of(site).await?.ok_or_else(unknown)?;
        let permissions =
            find::<Permissions>(&self.db, Permissions::address(site, &self.who.user)).await?;
        let standing = Standing::of(&governed, &self.who, permissions.as_ref(), Timestamp::now());
        if standing.has(Right::View).is_err() {
            self.deny(site, Right::View, "the site", "it is not visible").await?;
            return Err(unknown());
        }
        Ok(governed)
    }

    /// A site of this user.
    pub(super) async fn owned(&self, site: &str, subject: &str) -> Result<GovernedSite> {
        let governed = self.visible(site).await?;
        if governed.owner.user != self.who.user {
            self.deny(site, Right::Grant, subject, "only the owner may").await?;
            return Err(denied(Right::Grant, site, "only the owner may do this"));
        }
        Ok(governed)
    }

    pub(super) async fn all<T: ComponentType>(&self) -> Result<Vec<T>> {
        all(&self.db).await
    }

    /// A site with a database of its own, if this user may see it; `None` for a site that has none.
    ///
    /// # Errors
    /// `NotFound` for one that the user may not see; `Store`.
    pub(crate) async fn listing(&self, site: &str) -> Result<Option<SiteListing>> {
        match find::<SiteListing>(&self.db, SiteListing::address(site)).await? {
            Some(listing) if !listing.is_seen_by(&self.who.user) => Err(unknown_site(site)),
            listing => Ok(listing),
        }
    }

    /// A site as a participant of a training, by its name.
    ///
    /// # Errors
    /// `NotFound` for a site that does not exist or that the user may not see; `InvalidInput` for a
    /// site without data.
    pub(crate) async fn participant(&self, site: &str) -> Result<Site> {
        match self.listing(site).await? {
            Some(listing) => {
                let data = listing.data.ok_or_else(|| no_data(site))?;
                Ok(at_home(Site::new(site, data)))
            }
            None => Ok(Site::new(site, DataOfSite::of(&self.visible(site).await?)?)),
        }
    }

    /// Change a component that others may change at the same time.
    pub(crate) async fn change<T: ComponentType + Clone>(
        &self,
        address: Address,
        new: Option<T>,
        edit: impl Fn(&mut T) -> Result<()>,
    ) -> Result<T> {
        update(&self.db, address, new, edit).await
    }

    pub(super) async fn note(
        &self,
        site: &str,
        right: Right,
        subject: &str,
        rule: &str,
        purpose: &str,
    ) -> Result<()> {
        self.put(site, right, subject, Outcome::Allow, rule, purpose).await
    }

    pub(super) async fn deny(
        &self,
        site: &str,
        right: Right,
        subject: &str,
        why: &str,
    ) -> Result<()> {
        self.put(site, right, subject, Outcome::Deny, why, "").await
    }

    async fn put(
        &self,
        site: &str,
        right: Right,
        subject: &str,
        outcome: Outcome,
        rule: &str,
        purpose: &str,
    ) -> Result<()> {
        let record = AuditRecord {
            site: site.to_owned(),
            who: self.who.to_string(),
            right,
            subject: subject.to_owned(),
            outcome,
            rule: rule.to_owned(),
            purpose: purpose.to_owned(),
            task: None,
        };
        audit::record(&self.db, &record).await
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({})", self.who)
    }
}

pub(crate) fn denied(right: Right, site: &str, why: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("`{right}` at site `{site}` is denied: {why}"))
        .with_hint(format!("ask the owner of `{site}`"))
}

/// The error for a site that does not exist, and for one that the user may not see.
fn unknown_site(site: &str) -> Error {
    Error::not_found(format!("site `{site}` was not found"))
}
