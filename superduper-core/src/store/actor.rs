//! Who makes a write.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The person or program that makes the writes of a handle: see [`Db::acting_as`].
///
/// [`Db::acting_as`]: crate::Db::acting_as
///
/// ```
/// # extern crate superduper_core as superduper;
/// let actor = superduper::Actor::new("maria").origin("dashboard, 10.0.0.7").note("ticket 4711");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A person or a program.
    pub name: String,
    /// From where: a host, an address, a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Actor {
    /// An actor with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Actor { name: name.into(), origin: None, note: None }
    }

    /// From where.
    pub fn origin(self, origin: impl Into<String>) -> Self {
        Actor { origin: Some(origin.into()), ..self }
    }

    /// Why.
    pub fn note(self, note: impl Into<String>) -> Self {
        Actor { note: Some(note.into()), ..self }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let details: Vec<&str> =
            [&self.origin, &self.note].into_iter().flatten().map(|text| &**text).collect();
        if details.is_empty() { Ok(()) } else { write!(f, " ({})", details.join("; ")) }
    }
}
