//! The policy of a site: for each right, who may have it at all.
//!
//! The grammar is that of NVFlare's authorization policies. A rule is `any`, `none`, `o:` with the
//! name of an organisation, `n:` with the name of a user, or one of these after `not`. Of a list, one
//! rule that holds permits the right; a rule with `not` that holds blocks it, whatever the others
//! say. A right without rules is denied.

use crate::{
    principal::{Principal, check_name},
    right::Right,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};
use superduper::{Error, Result};

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whom {
    Any,
    None,
    Organisation(String),
    Name(String),
}

/// A rule: `any`, `none`, `o:acme`, `n:alice`, or one of these after `not`.
///
/// ```
/// use superduper_access::{Principal, Rule};
///
/// let rule: Rule = "o:acme".parse()?;
/// assert!(rule.holds_for(&Principal::user("alice").of("acme")));
/// assert!(!rule.holds_for(&Principal::user("bob")));
/// assert!("o:".parse::<Rule>().is_err());
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    blocks: bool,
    whom: Whom,
}

impl Rule {
    /// Whether the rule is about this user. For a rule with `not`: whether it blocks this user.
    pub fn holds_for(&self, principal: &Principal) -> bool {
        match &self.whom {
            Whom::Any => true,
            Whom::None => false,
            Whom::Organisation(name) => principal.organisation.as_ref() == Some(name),
            Whom::Name(name) => principal.user == *name,
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let (blocks, rest) = match text.strip_prefix("not ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let named = |name: &str| {
            check_name(name)
                .map(|()| name.to_owned())
                .map_err(|error| error.context(format_args!("the rule `{text}`")))
        };
        let whom = match rest.split_once(':') {
            None if rest == "any" => Whom::Any,
            None if rest == "none" => Whom::None,
            Some(("o", name)) => Whom::Organisation(named(name)?),
            Some(("n", name)) => Whom::Name(named(name)?),
            _ => {
                return Err(Error::invalid(format!("`{text}` is not a rule")).with_hint(
                    "write `any`, `none`, `o:` and an organisation, or `n:` and a user; `not ` \
                     before it blocks",
                ));
            }
        };
        Ok(Rule { blocks, whom })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.blocks { "not " } else { "" })?;
        match &self.whom {
            Whom::Any => f.write_str("any"),
            Whom::None => f.write_str("none"),
            Whom::Organisation(name) => write!(f, "o:{name}"),
            Whom::Name(name) => write!(f, "n:{name}"),
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

/// For each right, the rules of who may have it at all. A user also needs a role with the right.
///
/// ```
/// use superduper_access::{Principal, Right, SitePolicy};
///
/// let policy = SitePolicy::open().rules(Right::RunModel, ["any", "not o:acme"])?;
/// let of_acme = Principal::user("alice").of("acme");
/// assert_eq!(policy.verdict(Right::RunModel, &of_acme), Err("not o:acme".to_owned()));
/// assert!(policy.verdict(Right::RunModel, &Principal::user("bob")).is_ok());
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SitePolicy(BTreeMap<Right, Vec<Rule>>);

impl SitePolicy {
    /// A policy without rules: everything is denied, but to the owner.
    pub fn closed() -> Self {
        SitePolicy::default()
    }

    /// A policy that leaves everything to roles and grants.
    pub fn open() -> Self {
        let any = || vec![Rule { blocks: false, whom: Whom::Any }];
        SitePolicy(Right::ALL.into_iter().map(|right| (right, any())).collect())
    }

    /// Replace the rules of a right.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is not a rule.
    pub fn rules<'a>(
        mut self,
        right: Right,
        rules: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let rules: Result<Vec<Rule>> = rules.into_iter().map(str::parse).collect();
        self.0.insert(right, rules?);
        Ok(self)
    }

    /// Whether this user may have this right: the rule that permits it, or why not.
    ///
    /// # Errors
    /// The rule that blocks, or a text that no rule permits it. It is not a failure.
    pub fn verdict(
        &self,
        right: Right,
        principal: &Principal,
    ) -> std::result::Result<&Rule, String> {
        let rules = self.0.get(&right).map(Vec::as_slice).unwrap_or_default();
        let mut permits = None;
        for rule in rules.iter().filter(|rule| rule.holds_for(principal)) {
            if rule.blocks {
                return Err(rule.to_string());
            }
            permits = permits.or(Some(rule));
        }
        permits.ok_or_else(|| format!("no rule permits `{right}`"))
    }
}
