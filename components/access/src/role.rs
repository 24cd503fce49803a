//! Roles: sets of rights under a name.

use crate::right::Right;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use superduper::{Error, Result};

/// The role whose holder can run any code at a site.
pub const SUPER_MODELLER: &str = "super_modeller";
/// The role whose holder can run listed models, and others whose digest is granted.
pub const GENERAL_MODELLER: &str = "general_modeller";
/// The role whose holder can read metrics.
pub const DATA_READER: &str = "data_reader";
/// The role that a site's owner has there, without a grant.
pub const OWNER: &str = "owner";

/// A role of a site's own, beside the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Role {
    /// Its rights.
    pub rights: BTreeSet<Right>,
    /// Names of roles whose rights it has, too.
    pub includes: Vec<String>,
}

/// The rights of the built-in roles.
fn built_in(name: &str) -> Option<Vec<Right>> {
    use Right::{ReadMetrics, Request, RunAny, RunBuiltin, RunModel, RunSandboxed, View};
    Some(match name {
        SUPER_MODELLER => vec![View, Request, RunBuiltin, RunModel, RunSandboxed, RunAny],
        GENERAL_MODELLER => vec![View, Request, RunBuiltin, RunModel, RunSandboxed],
        DATA_READER => vec![View, ReadMetrics],
        OWNER => Right::ALL.to_vec(),
        _ => return None,
    })
}

/// The roles of a site by name: the built-in ones and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(BTreeMap<String, Role>);

impl Roles {
    /// Add a role.
    ///
    /// # Errors
    /// `InvalidInput` for the name of a built-in role.
    pub fn with(mut self, name: impl Into<String>, role: Role) -> Result<Self> {
        let name = name.into();
        if built_in(&name).is_some() {
            return Err(Error::invalid(format!("the role `{name}` is built in"))
                .with_hint("choose another name, and let it include the built-in role"));
        }
        self.0.insert(name, role);
        Ok(self)
    }

    /// The rights of a role, those of the roles that it includes among them.
    ///
    /// # Errors
    /// `NotFound` for a role that does not exist.
    pub fn rights(&self, name: &str) -> Result<BTreeSet<Right>> {
        let (mut rights, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut next = vec![name];
        while let Some(name) = next.pop() {
            if !seen.insert(name) {
                continue;
            }
            match (built_in(name), self.0.get(name)) {
                (Some(known), _) => rights.extend(known),
                (None, Some(role)) => {
                    rights.extend(&role.rights);
                    next.extend(role.includes.iter().map(String::as_str));
                }
                (None, None) => {
                    return Err(Error::not_found(format!("there is no role `{name}`"))
                        .with_hint(format!("there are {}", self.names().join(", "))));
                }
            }
        }
        Ok(rights)
    }

    /// Refuse roles that include each other, or one that does not exist.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.keys().try_for_each(|name| self.rights(name).map(|_| ()))?;
        // What is left after all roles that include only others that are gone have gone.
        let mut left: Vec<&String> = self.0.keys().collect();
        loop {
            let before = left.len();
            let includes_one = |name: &&String, left: &[&String]| {
                self.0[*name].includes.iter().any(|other| left.contains(&other))
            };
            let all = left.clone();
            left.retain(|name| includes_one(name, &all));
            if left.is_empty() {
                return Ok(());
            }
            if left.len() == before {
                return Err(self.circle(&left));
            }
        }
    }

    /// A circle among roles each of which includes another of them.
    fn circle(&self, among: &[&String]) -> Error {
        let mut path: Vec<&str> = vec![among[0]];
        loop {
            let last = path[path.len() - 1];
            let includes =
                self.0.get(last).map(|role| role.includes.as_slice()).unwrap_or_default();
            let own = includes.iter().find(|name| among.contains(name));
            let Some(next) = own else { return Error::invalid("roles include each other") };
            if let Some(begin) = path.iter().position(|name| name == next) {
                let circle: Vec<&str> = path[begin..].iter().copied().chain([&**next]).collect();
                let text = format!("roles include each other: {}", circle.join(" → "));
                return Error::invalid(text);
            }
            path.push(next);
        }
    }

    fn names(&self) -> Vec<&str> {
        let built_in = [SUPER_MODELLER, GENERAL_MODELLER, DATA_READER, OWNER];
        built_in.into_iter().chain(self.0.keys().map(String::as_str)).collect()
    }
}
