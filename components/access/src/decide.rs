//! The decision whether a user may run some code at a site. No IO.

use crate::{
    principal::Principal,
    request::RequestState,
    right::Right,
    role::OWNER,
    site::{GovernedSite, Permissions},
};
use std::collections::BTreeSet;
use superduper::store::Timestamp;

/// What somebody wants to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The kind of the model.
    pub(crate) model: &'a str,
    /// The digest of the code.
    pub(crate) digest: &'a str,
    /// Whether the digest covers all code that is not built in.
    pub(crate) source_is_whole: bool,
    /// Whether the site lists the model, and nothing else is custom.
    pub(crate) is_builtin: bool,
    /// Whether the model's code runs in a sandbox, and nothing else is custom.
    pub(crate) is_sandboxed: bool,
}

impl Asked<'_> {
    /// The right that is asked for.
    pub(crate) fn right(&self) -> Right {
        match (self.is_builtin, self.is_sandboxed) {
            // A listed model that carries code is not known by its kind.
            (_, true) => Right::RunSandboxed,
            (true, false) => Right::RunBuiltin,
            (false, false) => Right::RunModel,
        }
    }
}

/// How a decision came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is allowed, by this right and rule.
    Allow(Right, String),
    /// It is denied; the right and why.
    Deny(Right, String),
    /// The owner has not decided yet; the right and what is missing.
    Missing(Right, String),
}

/// The rights of a user at a site, by roles that hold now and by the policy.
pub(crate) struct Standing<'a> {
    site: &'a GovernedSite,
    who: Principal,
    permissions: Option<&'a Permissions>,
    roles: BTreeSet<String>,
    rights: BTreeSet<Right>,
    now: Timestamp,
}

impl<'a> Standing<'a> {
    /// Roles that the site does not have any more give nothing.
    pub(crate) fn of(
        site: &'a GovernedSite,
        who: &Principal,
        permissions: Option<&'a Permissions>,
        now: Timestamp,
    ) -> Self {
        let mut roles: BTreeSet<String> = permissions
            .iter()
            .flat_map(|given| &given.roles)
            .filter(|given| given.holds(now))
            .map(|given| given.what.clone())
            .collect();
        // Of which organisation a user is, the owner of the site says.
        let organisation = permissions.and_then(|given| given.organisation.clone());
        let who = Principal { user: who.user.clone(), organisation };
        if who.user == site.owner.user {
            roles.insert(OWNER.to_owned());
        }
        let mut rights = BTreeSet::new();
        for role in &roles {
            rights.extend(site.roles.rights(role).unwrap_or_default());
        }
        Standing { site, who, permissions, roles, rights, now }
    }

    /// Whether the user has a right: the rule, or why not. The owner needs no rule of the policy.
    pub(crate) fn has(&self, right: Right) -> std::result::Result<String, String> {
        if self.who.user == self.site.owner.user {
            return Ok("the owner".to_owned());
        }
        let rule = self.site.policy.verdict(right, &self.who)?;
        if !self.rights.contains(&right) {
            return Err(format!("no role of {} has the right `{right}`", self.who));
        }
        let roles: Vec<&str> = self.roles.iter().map(String::as_str).collect();
        Ok(format!("{rule}, {}", roles.join(" and ")))
    }

    /// Whether the user may run this code.
    pub(crate) fn run(&self, asked: Asked<'_>, request: Option<&RequestState>) -> Verdict {
        let right = asked.right();
        if let Ok(rule) = self.has(Right::RunAny)
            && (self.who.user == self.site.owner.user
                || self.site.policy.verdict(right, &self.who).is_ok())
        {
            return Verdict::Allow(Right::RunAny, rule);
        }
        let rule = match self.has(right) {
            Ok(rule) => rule,
            Err(why) => return Verdict::Deny(right, why),
        };
        if right == Right::RunBuiltin {
            return Verdict::Allow(right, rule);
        }
        if right == Right::RunSandboxed && self.site.allow_sandboxed {
            return Verdict::Allow(right, format!("{rule}, sandboxed code needs no grant"));
        }
        if !asked.source_is_whole {
            let why = format!(
                "not all custom code of `{}` is captured, so that its digest does not cover it",
                asked.model
            );
            return Verdict::Deny(right, why);
        }
        let grants = self.permissions.iter().flat_map(|given| &given.models);
        let mut of_digest = grants.filter(|given| given.what == asked.digest).peekable();
        let was_given = of_digest.peek().is_some();
        if let Some(given) = of_digest.find(|given| given.holds(self.now)) {
            return Verdict::Allow(right, format!("{rule}, granted by {}", given.by));
        }
        if was_given {
            let why = format!("the grant of {} has ended", short(asked.digest));
            return Verdict::Deny(right, why);
        }
        match request {
            Some(RequestState::Rejected { reason }) => {
                Verdict::Deny(right, format!("the owner has rejected it: {reason}"))
            }
            _ if self.has(Right::Request).is_err() => {
                let why = format!("it is not granted, and {} may not ask for it", self.who);
                Verdict::Deny(right, why)
            }
            _ => Verdict::Missing(
                right,
                format!(
                    "a grant of `{}` ({}) to `{}` at site `{}`",
                    asked.model,
                    short(asked.digest),
                    self.who.user,
                    self.site.name()
                ),
            ),
        }
    }
}

/// The beginning of a digest, for people.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
