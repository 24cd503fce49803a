//! Secrets: fields that hold where a value is, never the value.

use crate::{
    encode::RawKey,
    error::{Error, ErrorKind, Result},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use std::{fmt, str::FromStr, sync::OnceLock};

/// A reference to a secret: `env:NAME` for an environment variable, `file:path` for a file.
///
/// Only the reference is stored, and plans show `***` for it. The value is in no document, plan or
/// `Debug` text: it is read when it is first asked for, and read once, to see that it is there,
/// before `setup` runs. A changed reference is an update of its component, never a new version; a
/// changed value is no change at all.
///
/// # Guarantees
/// From the moment when a process has read the value, `***` stands for it in what the jobs of that
/// process leave on record: lines of logs, those of `tracing` too; failures with their causes, and
/// texts of panics; reasons why a job waits; strings in results and in messages. The lines that a
/// job process prints are masked in its log.
///
/// # Assumptions
/// - The value has at least 4 bytes; a shorter one is not masked. Of a value with several lines,
///   each line of at least 8 bytes is masked by itself too. A process remembers the 1024 values
///   that it has read last.
/// - The value appears as it is, or as text in quotes, where `"` or a line end is escaped. Another
///   form of it, as in base64 or in another case, is not found, and a number in a result is no
///   string.
/// - Not masked are outputs, artifacts, checkpoints, inputs of spawned jobs, names of metrics and
///   keys of maps in results: they are data, which is read back as it was written. Nor is what a
///   job process prints masked on its way to the terminal of its parent.
///
/// ```
/// # use superduper_core as superduper;
/// use superduper::Secret;
///
/// let path: Secret<String> = Secret::env("PATH");
/// assert!(!path.reveal()?.is_empty());
/// assert_eq!(format!("{path:?}"), "Secret(env:PATH)");
/// # Ok::<(), superduper::Error>(())
/// ```
pub struct Secret<T> {
    place: Place,
    value: OnceLock<T>,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Env(String),
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Env(name) => write!(f, "env:{name}"),
            Place::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl<T> Secret<T> {
    /// The value of an environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Secret { place: Place::Env(name.into()), value: OnceLock::new() }
    }

    /// The content of a file, without a line end at its end.
    pub fn file(path: impl Into<String>) -> Self {
        Secret { place: Place::File(path.into()), value: OnceLock::new() }
    }
}

impl<T: FromStr> Secret<T> {
    /// The value, read when it is first asked for.
    ///
    /// # Errors
    /// `NotFound` where there is no such variable or file; `InvalidInput` where its text is no `T`.
    /// The text is in neither.
    pub fn reveal(&self) -> Result<&T> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let missing =
            || Error::new(ErrorKind::NotFound, format!("secret `{}` cannot be read", self.place));
        let text = match &self.place {
            Place::Env(name) => std::env::var(name).map_err(|_| {
                missing().with_hint(format!("set the environment variable `{name}`"))
            })?,
            Place::File(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| missing().with_source(error))?;
                text.strip_suffix('\n')
                    .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line))
                    .to_owned()
            }
        };
        crate::secret_mask::remember(&text);
        let value = text.parse().map_err(|_| {
            Error::invalid(format!(
                "secret `{}` is not a `{}`",
                self.place,
                std::any::type_name::<T>()
            ))
        })?;
        Ok(self.value.get_or_init(|| value))
    }
}

/// Read the secrets of a document and forget them: before `setup`, so that a missing one is named
/// before user code runs.
pub(crate) fn check_all(component: &str, secrets: &[(String, String)]) -> Result<()> {
    for (path, place) in secrets {
        let secret: Secret<String> = place.parse()?;
        secret
            .reveal()
            .map_err(|error| error.context(format_args!("field `{path}` of `{component}`")))?;
    }
    Ok(())
}

impl<T> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Secret { place: self.place.clone(), value: OnceLock::new() }
    }
}

impl<T> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.place)
    }
}

impl<T> FromStr for Secret<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Secret::env(name)),
            Some(("file", path)) if !path.is_empty() => Ok(Secret::file(path)),
            // The text is not repeated: it may be the secret itself.
            _ => Err(Error::invalid("this is not a reference to a secret")
                .with_hint("write `env:NAME` or `file:path`, never the value")),
        }
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&RawKey("$secret"), &self.place.to_string())?;
        map.end()
    }
}

impl<'de, T> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Reference {
            #[serde(rename = "$secret")]
            place: String,
        }
        let reference = Reference::deserialize(deserializer)?;
        reference.place.parse().map_err(D::Error::custom)
    }
}
