//! Naming a stored version by its number or by a label: `Kind/identifier@3`, `Kind/identifier@prod`.

use crate::{Address, Error, Result};
use std::{fmt, str::FromStr};

/// The label that every component has: its newest version.
pub(crate) const LATEST: &str = "latest";

/// Which stored version is meant: an [`Address`], or one with a label in place of the version, `Kind/identifier@prod`.
///
/// ```
/// # use superduper_core as superduper;
/// use superduper::Locator;
///
/// let production: Locator = "acme.Model/churn@prod".parse()?;
/// assert_eq!(production.label.as_deref(), Some("prod"));
/// assert!("acme.Model/churn@3".parse::<Locator>()?.label.is_none());
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locator {
    /// Kind and identifier; the version too where there is no label.
    pub address: Address,
    /// The label.
    pub label: Option<String>,
}

impl From<Address> for Locator {
    fn from(address: Address) -> Self {
        Locator { address, label: None }
    }
}

impl From<&Address> for Locator {
    fn from(address: &Address) -> Self {
        Locator { address: address.clone(), label: None }
    }
}

impl FromStr for Locator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((path, label)) = text.split_once('@')
            && check_label(label).is_ok()
        {
            let address: Address = path.parse()?;
            return Ok(Locator { address, label: Some(label.to_owned()) });
        }
        text.parse().map(|address| Locator { address, label: None })
    }
}

impl TryFrom<&str> for Locator {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&String> for Locator {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{}@{label}", self.address.path()),
            None => self.address.fmt(f),
        }
    }
}

/// Check that a text can be a label: a letter or `_`, then letters, digits, `_`, `-`, `.`; at most 64 bytes.
///
/// # Errors
/// `InvalidInput` that says what is wrong.
pub(crate) fn check_label(label: &str) -> Result<()> {
    let starts = label.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    let fits = label.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if starts && fits && label.len() <= 64 {
        return Ok(());
    }
    Err(Error::invalid(format!("`{}` is not usable as a label", label.escape_debug()))
        .with_hint("a label begins with a letter and has letters, digits, `_`, `-` and `.` only, at most 64 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locators_round_trip() {
        for (text, label) in
            [("a.B/c@prod", Some("prod")), ("a.B/c@3", None), ("a.B/c@3.2", None), ("a.B/c", None), ("k/c@v1.2-rc", Some("v1.2-rc"))]
        {
            let locator: Locator = text.parse().expect(text);
            assert_eq!((locator.to_string().as_str(), locator.label.as_deref()), (text, label));
        }
    }

    #[test]
    fn bad_labels_are_refused() {
        for text in ["k/a@", "k/a@-x", "k/a@a b", "k/a@a/b", "k/a@a@b", "k/a@1x", "a@prod", &format!("k/a@{}", "x".repeat(65))] {
            assert!(text.parse::<Locator>().is_err(), "{text}");
        }
    }
}
