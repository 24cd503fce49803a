//! Naming a stored version by its number or by a label: `Kind/identifier@3`,
//! `Kind/identifier@prod`.

use crate::{
    address::{Address, parse_version},
    component::{Component, ComponentType},
    db::Applied,
    error::{Error, Result},
};
use std::{fmt, str::FromStr};

/// The label that every component has: its newest version.
pub(crate) const LATEST: &str = "latest";

/// Which stored version is meant: an [`Address`], or one with a label in place of the version,
/// `Kind/identifier@prod`.
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
///
/// Each call of [`Db`](crate::Db) that takes an address or a label takes whatever a locator can be
/// made of: an `Address` or `&Address`, a text, a component that was loaded or built (`&model`: its
/// newest version), what an apply gave (`&applied`: that version). A call that is typed, such as
/// `db.load::<Model>("churn@prod")`, takes the name without the kind too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locator {
    /// Kind and identifier; the version too where there is no label. The kind is empty if the text
    /// had none: only typed calls take that.
    pub address: Address,
    /// The label.
    pub label: Option<String>,
}

impl Locator {
    /// A component of type `T` by its name: `churn`, `churn@3`, `churn@prod`. Also whatever else a
    /// locator can be made of, if it is of the kind of `T`.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::{Locator, prelude::*};
    ///
    /// #[derive(Component)]
    /// #[component(kind = "acme.Model")]
    /// struct Model {
    ///     identifier: String,
    /// }
    ///
    /// assert_eq!(Locator::of::<Model>("churn@prod")?.to_string(), "acme.Model/churn@prod");
    /// assert!(Locator::of::<Model>("other.Kind/churn").is_err());
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for what is no name, or of another kind.
    pub fn of<T: ComponentType>(
        name: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Self> {
        let mut locator: Locator = name.try_into().map_err(Into::into)?;
        let kind = &locator.address.kind;
        if kind.is_empty() {
            locator.address.kind = T::__kind().to_owned();
        } else if kind != T::__kind() && !T::SPEC.aliases.contains(&kind.as_str()) {
            let text = format!(
                "`{locator}` is not a `{}`, which is of kind `{}`",
                std::any::type_name::<T>(),
                T::__kind()
            );
            return Err(Error::invalid(text));
        }
        Ok(locator)
    }
}

/// Where a component of a known type is: at its newest version.
#[doc(hidden)]
pub fn locator_of<T: ComponentType>(component: &T) -> Locator {
    Address::new(T::__kind(), component.__identifier()).into()
}

impl From<&dyn Component> for Locator {
    fn from(component: &dyn Component) -> Self {
        Address::new(component.kind(), component.identifier()).into()
    }
}

impl From<&Box<dyn Component>> for Locator {
    fn from(component: &Box<dyn Component>) -> Self {
        (&**component).into()
    }
}

/// The version that was applied.
impl From<&Applied> for Locator {
    fn from(applied: &Applied) -> Self {
        (&applied.address).into()
    }
}

impl From<&Locator> for Locator {
    fn from(locator: &Locator) -> Self {
        locator.clone()
    }
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
            let address = if path.contains('/') { path.parse()? } else { Address::new("", path) };
            return Ok(Locator { address, label: Some(label.to_owned()) });
        }
        if text.contains('/') {
            return text.parse().map(|address| Locator { address, label: None });
        }
        let (identifier, version) = match text.split_once('@') {
            Some((identifier, version)) => {
                let version = parse_version(version).ok_or_else(|| {
                    let text = text.escape_debug();
                    let text = format!("`{text}` names no component: what follows `@` is neither a version nor a label");
                    Error::invalid(text).with_hint("write `name@3` or `name@prod`")
                })?;
                (identifier, Some(version))
            }
            None => (text, None),
        };
        Ok(Locator { address: Address { version, ..Address::new("", identifier) }, label: None })
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

impl TryFrom<String> for Locator {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) if self.address.kind.is_empty() => {
                write!(f, "{}@{label}", self.address.identifier)
            }
            Some(label) => write!(f, "{}@{label}", self.address.path()),
            None if self.address.kind.is_empty() => {
                f.write_str(&self.address.identifier)?;
                self.address.version.map_or(Ok(()), |version| write!(f, "@{version}"))
            }
            None => fmt::Display::fmt(&self.address, f),
        }
    }
}

/// Check that a text can be a label: a letter or `_`, then letters, digits, `_`, `-`, `.`; at most
/// 64 bytes.
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
        for (text, label) in [
            ("a.B/c@prod", Some("prod")),
            ("a.B/c@3", None),
            ("a.B/c@3.2", None),
            ("a.B/c", None),
            ("k/c@v1.2-rc", Some("v1.2-rc")),
            ("c", None),
            ("c@3.2", None),
            ("c@prod", Some("prod")),
        ] {
            let locator: Locator = text.parse().expect(text);
            assert_eq!((locator.to_string().as_str(), locator.label.as_deref()), (text, label));
        }
    }

    #[test]
    fn bad_labels_are_refused() {
        for text in [
            "k/a@",
            "k/a@-x",
            "k/a@a b",
            "k/a@a/b",
            "k/a@a@b",
            "k/a@1x",
            "a@-x",
            &format!("k/a@{}", "x".repeat(65)),
        ] {
            assert!(text.parse::<Locator>().is_err(), "{text}");
        }
    }
}
