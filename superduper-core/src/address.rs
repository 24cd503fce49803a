//! Names of components: `Kind/identifier`, with `@3` for a version and `@3.2` for a revision.

use crate::{
    component::ComponentType,
    error::{Error, Result},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A version and, optionally, one revision of it; both count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionRef {
    /// The version.
    pub version: u32,
    /// The revision of that version; the newest where absent.
    pub revision: Option<u32>,
}

impl From<u32> for VersionRef {
    fn from(version: u32) -> Self {
        VersionRef { version, revision: None }
    }
}

impl From<(u32, u32)> for VersionRef {
    fn from((version, revision): (u32, u32)) -> Self {
        VersionRef { version, revision: Some(revision) }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision {
            Some(revision) => write!(f, "{}.{revision}", self.version),
            None => self.version.fmt(f),
        }
    }
}

/// The address of a component: `Kind/identifier`, `Kind/identifier@3`, `Kind/identifier@3.2`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The wire name of the component's type, such as `my_crate.Model`.
    pub kind: String,
    /// The user's name for the component.
    pub identifier: String,
    /// The version; the newest where absent.
    pub version: Option<VersionRef>,
}

impl Address {
    /// The address of the newest version.
    pub fn new(kind: impl Into<String>, identifier: impl Into<String>) -> Self {
        Address { kind: kind.into(), identifier: identifier.into(), version: None }
    }

    /// The address of the newest version of a component of type `T`.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::prelude::*;
    ///
    /// #[derive(Component)]
    /// #[component(kind = "acme.Model")]
    /// struct Model {
    ///     identifier: String,
    /// }
    ///
    /// assert_eq!(Address::of::<Model>("churn").to_string(), "acme.Model/churn");
    /// assert_eq!(Address::of::<Model>("churn").at(3).to_string(), "acme.Model/churn@3");
    /// ```
    ///
    /// [`Locator::of`](crate::Locator::of) reads a version or a label from the name too.
    pub fn of<T: ComponentType>(identifier: impl Into<String>) -> Self {
        Address::new(T::__kind(), identifier)
    }

    /// The same component at one version.
    pub fn at(&self, version: u32) -> Self {
        Address { version: Some(VersionRef { version, revision: None }), ..self.clone() }
    }

    /// The same component, whatever its version.
    pub fn unversioned(&self) -> Self {
        Address { version: None, ..self.clone() }
    }

    /// `Kind/identifier`, without the version.
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind, self.identifier)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.identifier)?;
        match self.version {
            Some(VersionRef { version, revision: Some(revision) }) => {
                write!(f, "@{version}.{revision}")
            }
            Some(VersionRef { version, revision: None }) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

/// The same text as [`Display`](fmt::Display).
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!(
                "`{}` is not the address of a component: {why}",
                text.escape_debug()
            ))
            .with_hint("write `Kind/identifier`, `Kind/identifier@3` for a version")
        };
        let (kind, rest) = text.split_once('/').ok_or_else(|| bad("there is no `/`"))?;
        if kind.is_empty() {
            return Err(bad("the kind is empty"));
        }
        let (identifier, version) = match rest.split_once('@') {
            Some((identifier, version)) => (
                identifier,
                Some(parse_version(version).ok_or_else(|| bad("the version is not a number"))?),
            ),
            None => (rest, None),
        };
        check_identifier(identifier).map_err(|error| bad(&error.to_string()))?;
        Ok(Address { kind: kind.to_owned(), identifier: identifier.to_owned(), version })
    }
}

pub(crate) fn parse_version(text: &str) -> Option<VersionRef> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain { text.parse().ok() } else { None }
    };
    match text.split_once('.') {
        Some((version, revision)) => {
            Some(VersionRef { version: number(version)?, revision: Some(number(revision)?) })
        }
        None => Some(VersionRef { version: number(text)?, revision: None }),
    }
}

impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Check that a text can be an identifier: not empty, at most 255 bytes, no `/`, no `@`, no control
/// characters.
///
/// # Errors
/// `InvalidInput` that says what is wrong.
pub fn check_identifier(identifier: &str) -> Result<()> {
    let wrong = if identifier.is_empty() {
        "it is empty".to_owned()
    } else if identifier.len() > 255 {
        format!("it has {} bytes, at most 255 are allowed", identifier.len())
    } else if let Some(bad) = identifier.chars().find(|c| matches!(c, '/' | '@') || c.is_control())
    {
        format!("it contains `{}`", bad.escape_debug())
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "identifier `{}` is not usable: {wrong}",
        identifier.escape_debug()
    ))
    .with_hint("an identifier is any text without `/`, `@` and control characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["a.B/c", "a.B/c d@0", "a.B/c@3.2"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in [
            "",
            "a",
            "/a",
            "k/",
            "k/a@",
            "k/a@x",
            "k/a@1.",
            "k/a@+1",
            "k/a/b",
            "k/a@99999999999",
            "k/a\n",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
