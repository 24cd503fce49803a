//! Who asks.

use serde::{Deserialize, Serialize};
use std::fmt;
use superduper::{Error, Result, address::check_identifier};

/// A user, and the organisation that the user belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// The name of the user.
    pub user: String,
    /// The organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
}

impl Principal {
    /// A user of no organisation.
    pub fn user(name: impl Into<String>) -> Self {
        Principal { user: name.into(), organisation: None }
    }

    /// Let the user belong to an organisation.
    #[must_use]
    pub fn of(mut self, organisation: impl Into<String>) -> Self {
        self.organisation = Some(organisation.into());
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.user).map_err(|error| error.context("the name of a user"))?;
        self.organisation.iter().try_for_each(|name| {
            check_name(name).map_err(|error| error.context("the name of an organisation"))
        })
    }
}

/// Refuse what cannot be the name of a user, an organisation or a model: these stand in rules and
/// references, between spaces and colons.
pub(crate) fn check_name(name: &str) -> Result<()> {
    check_identifier(name)?;
    match name.chars().find(|letter| letter.is_whitespace() || *letter == ':') {
        Some(letter) => Err(Error::invalid(format!("`{name}` has the character {letter:?} in it"))),
        None => Ok(()),
    }
}

impl From<&str> for Principal {
    fn from(name: &str) -> Self {
        Principal::user(name)
    }
}

impl From<String> for Principal {
    fn from(name: String) -> Self {
        Principal::user(name)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.organisation {
            Some(organisation) => write!(f, "{} of {organisation}", self.user),
            None => f.write_str(&self.user),
        }
    }
}
