//! Roles and grants: given and taken by the owner of a site.

use super::Access;
use crate::{
    decide::short,
    identity::PublicKey,
    principal::Principal,
    right::Right,
    role::{GENERAL_MODELLER, OWNER},
    site::{Given, Permissions},
};
use std::future::IntoFuture;
use superduper::{BoxFuture, Error, Result, store::Timestamp};

impl Access {
    /// Give a user a role at a site. The organisation of the user is recorded with it, and counts for
    /// the policy: `Principal::user("alice").of("acme")`.
    ///
    /// # Errors
    /// `PermissionDenied` for a site of another owner; `NotFound` for a role that the site does not
    /// have; `InvalidInput` for a role with the right `run_any` without `confirm`.
    pub fn grant_role(
        &self,
        site: impl Into<String>,
        user: impl Into<Principal>,
        role: impl Into<String>,
    ) -> GrantRole {
        let given = Given {
            what: role.into(),
            purpose: String::new(),
            until: None,
            by: self.who.user.clone(),
        };
        GrantRole {
            access: self.clone(),
            site: site.into(),
            user: user.into(),
            given,
            key: None,
            confirmed: false,
        }
    }

    /// Take a role from a user. What runs goes on to the end of its step; the next attempt of a job
    /// is denied. What a coordinator was given before is not taken back.
    ///
    /// # Errors
    /// `PermissionDenied` for a site of another owner; `NotFound` for a role that the user was not
    /// given; `Store`.
    pub async fn revoke_role(&self, site: &str, user: &str, role: &str) -> Result<()> {
        let subject = format!("the role `{role}` of `{user}`");
        self.owned(site, &subject).await?;
        let address = Permissions::address(site, user);
        self.change::<Permissions>(address, None, |permissions| {
            let before = permissions.roles.len();
            permissions.roles.retain(|given| given.what != role);
            was_there(permissions.roles.len() < before, &subject)
        })
        .await?;
        self.note(site, Right::Grant, &format!("revoked: {subject}"), "the owner", "").await?;
        self.wake(site).await
    }

    /// Take the grant of some code from a user, as [`revoke_role`](Access::revoke_role) takes a role.
    ///
    /// # Errors
    /// As for [`revoke_role`](Access::revoke_role).
    pub async fn revoke_model(&self, site: &str, user: &str, digest: &str) -> Result<()> {
        let subject = format!("the grant of {} to `{user}`", short(digest));
        self.owned(site, &subject).await?;
        let address = Permissions::address(site, user);
        // It stays on record as ended, so that a job is denied and does not wait.
        let now = Timestamp::now();
        self.change::<Permissions>(address, None, |permissions| {
            let mut found = false;
            for given in permissions.models.iter_mut().filter(|given| given.what == digest) {
                found |= given.holds(now);
                given.until = Some(given.until.map_or(now, |until| until.min(now)));
            }
            was_there(found, &subject)
        })
        .await?;
        self.note(site, Right::Grant, &format!("revoked: {subject}"), "the owner", "").await?;
        self.wake(site).await
    }
}

/// A grant of a role, under construction; await it.
#[must_use = "a grant does nothing until it is awaited"]
pub struct GrantRole {
    access: Access,
    site: String,
    user: Principal,
    given: Given,
    key: Option<PublicKey>,
    confirmed: bool,
}

impl GrantRole {
    /// Record the key of the user. From then on the site denies what the user has not signed with it.
    /// A key that was recorded before is replaced.
    pub fn key(mut self, key: PublicKey) -> Self {
        self.key = Some(key);
        self
    }

    /// What for.
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.given.purpose = purpose.into();
        self
    }

    /// When it ends.
    pub fn until(mut self, until: Timestamp) -> Self {
        self.given.until = Some(until);
        self
    }

    /// Confirm a role whose holder can run any code.
    pub fn confirm(mut self) -> Self {
        self.confirmed = true;
        self
    }

    async fn run(self) -> Result<()> {
        let GrantRole { access, site, user, given, key, confirmed } = self;
        let subject = format!("the role `{}` to {user}", given.what);
        let governed = access.owned(&site, &subject).await?;
        user.check()?;
        if given.what == OWNER {
            return Err(Error::invalid("the role `owner` is not granted")
                .with_hint("the record of a site says who owns it"));
        }
        let rights = governed.roles.rights(&given.what)?;
        if rights.contains(&Right::RunAny) && !confirmed {
            let text = format!("`{}` can run any code at `{site}` as `{}`", user.user, given.what);
            return Err(Error::invalid(text).with_hint(format!(
                "call `.confirm()` if that is meant; `{}` needs a grant for each model",
                GENERAL_MODELLER
            )));
        }
        // On record before it holds.
        let any = rights.contains(&Right::RunAny);
        let rule = if any { "the owner, confirmed" } else { "the owner" };
        let subject = match &key {
            Some(key) => format!("{subject}, with the key {key}"),
            None => subject,
        };
        access.note(&site, Right::Grant, &subject, rule, &given.purpose).await?;
        let address = Permissions::address(&site, &user.user);
        let none = Permissions::none(&site, &user);
        access
            .change::<Permissions>(address, Some(none), |permissions| {
                permissions.organisation.clone_from(&user.organisation);
                if key.is_some() {
                    permissions.key.clone_from(&key);
                }
                permissions.roles.retain(|known| known.what != given.what);
                permissions.roles.push(given.clone());
                Ok(())
            })
            .await?;
        access.wake(&site).await
    }
}

impl IntoFuture for GrantRole {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

fn was_there(found: bool, subject: &str) -> Result<()> {
    match found {
        true => Ok(()),
        false => Err(Error::not_found(format!("{subject} is not on record"))),
    }
}
