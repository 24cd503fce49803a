//! A user at a database: what the user sees, governs, and reads in the record.

use crate::{
    audit::{self, AuditEntry, AuditRecord, Outcome},
    decide::Standing,
    gate::find,
    principal::Principal,
    right::Right,
    site::{GovernedSite, Permissions},
};
use superduper::{
    Actor, Address, ComponentType, Db, Error, ErrorKind, Result,
    store::{ComponentFilter, LogHead, Timestamp},
};
use superduper_federated::{Submitter, wake_site};

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
}

impl Access {
    /// Act as this user.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not an identifier.
    pub fn acting(db: &Db, who: Principal) -> Result<Self> {
        who.check()?;
        Ok(Access { db: db.acting_as(Actor::new(who.user.as_str())), who })
    }

    /// The user.
    pub fn who(&self) -> &Principal {
        &self.who
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// What a training says of who submits it, and what for.
    pub fn submitter(&self, purpose: impl Into<String>) -> Submitter {
        let Principal { user, organisation } = self.who.clone();
        Submitter { user, organisation, purpose: purpose.into() }
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
        let unknown = || Error::not_found(format!("site `{site}` was not found"));
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
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let filter = ComponentFilter::new().kind(T::__kind());
            let page = self.db.component_lines(filter).after(cursor.take()).await?;
            for line in &page.lines {
                found.extend(find::<T>(&self.db, line.address.unversioned()).await?);
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// Change a component that others may change at the same time.
    pub(crate) async fn change<T: ComponentType + Clone>(
        &self,
        address: Address,
        new: Option<T>,
        edit: impl Fn(&mut T) -> Result<()>,
    ) -> Result<T> {
        for _ in 0..64 {
            let stored = match self.db.load_with_address::<T>(address.clone()).await {
                Ok(stored) => Some(stored),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let from = stored.as_ref().map(|stored| stored.address().clone());
            let value = stored.map(|stored| T::clone(&stored)).or_else(|| new.clone());
            let mut value = value
                .ok_or_else(|| Error::not_found(format!("there is no `{}`", address.identifier)))?;
            edit(&mut value)?;
            let plan = self.db.plan(&value).await?;
            let is_from = |planned: &superduper::plan::PlannedComponent| {
                planned.address.path() != address.path() || planned.from == from
            };
            if !plan.components().iter().all(is_from) {
                continue; // it has moved since it was loaded
            }
            match self.db.apply_plan(plan).detach().await {
                Ok(_) => return Ok(value),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("`{address}` changes all the time")))
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
