//! References to published models.

use crate::{
    access::Access, decide::short, principal::check_name, published::version_of,
    schema::DataSchema, structure::DataStructure,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, str::FromStr};
use superduper::{Artifact, Error, Result, Tensors};
use superduper_federated::{ModelConfig, Site, class_of_model};

/// A published model by owner, name and version: `alice/MyNet:2`. Without an owner it is the user's
/// own; without a version it is the newest.
///
/// ```
/// use superduper_access::ModelReference;
///
/// let reference: ModelReference = "alice/MyNet:2".parse()?;
/// assert_eq!(reference.model_version, Some(2));
/// assert_eq!(reference.to_string(), "alice/MyNet:2");
/// assert_eq!("MyNet".parse::<ModelReference>()?.username, None);
/// assert!("alice/".parse::<ModelReference>().is_err());
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelReference {
    /// The owner; the user who resolves it, if not given.
    pub username: Option<String>,
    /// The name.
    pub model_ref: String,
    /// The version; the newest, if not given.
    pub model_version: Option<u32>,
    /// Fields of the model by name.
    pub hyperparameters: Map<String, Value>,
    /// Which columns of the sites the model uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastructure: Option<DataStructure>,
    /// The columns that the sites must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<DataSchema>,
    /// Weights to use instead of those of the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Artifact<Tensors>>,
}

impl ModelReference {
    /// The newest version of a model of one's own.
    pub fn new(name: impl Into<String>) -> Self {
        ModelReference { model_ref: name.into(), ..ModelReference::default() }
    }

    /// Set the owner.
    #[must_use]
    pub fn of(mut self, owner: impl Into<String>) -> Self {
        self.username = Some(owner.into());
        self
    }

    /// Set the version.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.model_version = Some(version);
        self
    }

    /// Set a field of the model. Names and types are checked when a training is planned.
    #[must_use]
    pub fn hyperparameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.hyperparameters.insert(name.into(), value.into());
        self
    }

    /// Use these columns of the sites.
    #[must_use]
    pub fn datastructure(mut self, columns: DataStructure) -> Self {
        self.datastructure = Some(columns);
        self
    }

    /// Expect these columns of the sites.
    #[must_use]
    pub fn schema(mut self, columns: DataSchema) -> Self {
        self.schema = Some(columns);
        self
    }

    /// Use these weights instead of those of the version.
    #[must_use]
    pub fn weights(mut self, weights: Tensors) -> Self {
        self.weights = Some(Artifact::new(weights));
        self
    }

    /// Compare structure and schema with the columns of sites.
    pub(crate) fn check_data(&self, sites: &[Site]) -> Result<()> {
        let schema = self.schema.as_ref().map_or(Ok(()), |schema| schema.check(sites));
        let structure =
            self.datastructure.as_ref().map_or(Ok(()), |structure| structure.check(sites));
        match (schema, structure) {
            (Err(one), Err(other)) => Err(Error::invalid(format!("{one}; {other}"))),
            (one, other) => one.and(other),
        }
    }

    /// Find the version, and the model of this program that it is.
    ///
    /// # Errors
    /// `NotFound` for a model that does not exist or that the user may not see, in the same words,
    /// and for a version that it does not have; `UnknownKind` for a kind that this program does not
    /// link; `Conflict` if this program has other source for the model, with both digests.
    pub async fn resolve(&self, access: &Access) -> Result<Resolved> {
        let owner = self.username.as_deref().unwrap_or(&access.who().user);
        let model = access.published(owner, &self.model_ref).await?;
        let version = version_of(&model, self.model_version)?;
        let mut config = ModelConfig::class(model.kind.as_str())?;
        let here = class_of_model(&model.kind)?.digest().to_hex();
        if here != version.digest {
            let text = format!(
                "this program has another `{}`: its source has the digest {}, that of \
                 `{owner}/{}:{}` is {}",
                model.kind,
                short(&here),
                self.model_ref,
                version.number,
                short(&version.digest)
            );
            return Err(Error::new(superduper::ErrorKind::Conflict, text)
                .with_hint("build the program with the source of that version"));
        }
        config.model_args = self.hyperparameters.clone();
        Ok(Resolved {
            owner: owner.to_owned(),
            name: self.model_ref.clone(),
            version: version.number,
            digest: version.digest.clone(),
            model: config,
            weights: version.weights.clone(),
        })
    }
}

/// A model reference whose version is known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resolved {
    /// The owner.
    pub owner: String,
    /// The name.
    pub name: String,
    /// The version.
    pub version: u32,
    /// The digest of the model's source.
    pub digest: String,
    /// The model, for a training.
    pub model: ModelConfig,
    /// Weights that its owner has attached to the version.
    pub weights: Option<Artifact<Tensors>>,
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.owner, self.name, self.version)
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(owner) = &self.username {
            write!(f, "{owner}/")?;
        }
        f.write_str(&self.model_ref)?;
        match self.model_version {
            Some(version) => write!(f, ":{version}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ModelReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("`{text}` is no reference to a model"))
                .with_hint("write `owner/name:version`; owner and version may be left out")
        };
        let (owner, rest) = match text.split_once('/') {
            Some((owner, rest)) => (Some(owner), rest),
            None => (None, text),
        };
        let (name, version) = match rest.split_once(':') {
            Some((name, version)) => (name, Some(version.parse().map_err(|_| wrong())?)),
            None => (rest, None),
        };
        for name in owner.iter().copied().chain([name]) {
            check_name(name).map_err(|_| wrong())?;
        }
        Ok(ModelReference {
            username: owner.map(str::to_owned),
            model_ref: name.to_owned(),
            model_version: version,
            ..ModelReference::default()
        })
    }
}
