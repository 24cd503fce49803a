//! What a check found, as data and as text.

use crate::{address::Address, digest::Digest};
use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// Something does not go on, or is not as it was recorded; what is stored can be read.
    Warning,
    /// Something that is stored is lost or damaged.
    Error,
}

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The component, with version and revision, if it concerns one; the first one that names a
    /// blob.
    pub address: Option<Address>,
    /// The field or output in it.
    pub field: Option<String>,
    /// The blob, if it concerns one.
    pub digest: Option<Digest>,
    /// What was found, and what can be done.
    pub what: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// What [`Db::verify`](crate::Db::verify) looked at and found. Print it to read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many components there are.
    pub components: usize,
    /// How many versions they have.
    pub versions: usize,
    /// How many blobs are referred to.
    pub blobs: usize,
    /// The sum of their sizes.
    pub bytes: u64,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Finding {
    pub(super) fn new(severity: Severity, what: impl Into<String>) -> Self {
        Finding {
            severity,
            address: None,
            field: None,
            digest: None,
            what: what.into(),
            repaired: false,
        }
    }

    pub(super) fn at(self, address: &Address) -> Self {
        Finding { address: Some(address.clone()), ..self }
    }

    pub(super) fn field(self, field: impl Into<String>) -> Self {
        Finding { field: Some(field.into()), ..self }
    }

    pub(super) fn blob(self, digest: Digest) -> Self {
        Finding { digest: Some(digest), ..self }
    }
}

impl VerifyReport {
    /// Whether nothing is lost or damaged: no finding is an error that was not repaired.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error || finding.repaired)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if let Some(digest) = self.digest {
            write!(f, "blob {digest}: ")?;
        }
        if let Some(address) = &self.address {
            write!(f, "`{address}`: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "`{field}`: ")?;
        }
        write!(f, "{}{}", self.what, if self.repaired { " (repaired)" } else { "" })
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} components, {} versions, {} blobs of {} bytes",
            self.components, self.versions, self.blobs, self.bytes
        )?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        let count = |severity| {
            self.findings
                .iter()
                .filter(|finding| finding.severity == severity && !finding.repaired)
                .count()
        };
        match (count(Severity::Error), count(Severity::Warning)) {
            (0, 0) => writeln!(f, "sound"),
            (errors, warnings) => writeln!(f, "{errors} errors, {warnings} warnings"),
        }
    }
}
