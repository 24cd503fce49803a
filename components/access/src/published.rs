//! Published models: an owner, a name, and versions that count from 1.

use crate::{access::Access, principal::check_name};
use serde::{Deserialize, Serialize};
use std::{
    future::IntoFuture,
    sync::atomic::{AtomicU32, Ordering},
};
use superduper::{Address, Artifact, BoxFuture, Error, ErrorKind, Result, Tensors, prelude::*};
use superduper_federated::{Class, FederatedModel};

/// A version of a published model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublishedVersion {
    /// Its number, from 1.
    pub number: u32,
    /// The digest of the model's captured source.
    pub digest: String,
    /// The captured source.
    pub source: String,
    /// Weights that belong to it.
    #[serde(default)]
    pub weights: Option<Artifact<Tensors>>,
}

/// A model under the name of its owner.
#[derive(Component, Clone)]
#[component(kind = "superduper.PublishedModel")]
pub struct PublishedModel {
    identifier: String,
    /// Who published it.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// The kind of its component.
    pub kind: String,
    /// Whether only the owner can see it.
    pub private: bool,
    /// What it is.
    #[component(default)]
    pub description: String,
    /// Where there is more about it.
    #[component(default)]
    pub link: Option<String>,
    /// Its versions.
    #[component(default)]
    pub versions: Vec<PublishedVersion>,
}

impl PublishedModel {
    pub(crate) fn address(owner: &str, name: &str) -> Address {
        Address::of::<PublishedModel>(format!("{}-{owner}-{name}", owner.len()))
    }

    /// The number of the version with this source; a new version where there is none, or where one
    /// is wanted.
    fn number_of(&mut self, digest: &str, source: &str, new_version: bool) -> u32 {
        let known = self.versions.iter().find(|version| version.digest == digest);
        if let Some(version) = known.filter(|_| !new_version) {
            return version.number;
        }
        let number = self.versions.last().map_or(1, |version| version.number + 1);
        let (digest, source) = (digest.to_owned(), source.to_owned());
        self.versions.push(PublishedVersion { number, digest, source, weights: None });
        number
    }
}

impl Access {
    /// Publish a model under the name of this user. A new model is private. A model that was made
    /// public stays public, with all later versions.
    ///
    /// Code with the digest of any version that is published gives the number of that version, and
    /// writes nothing. Other code gives the next version.
    ///
    /// ```
    /// # use superduper::prelude::*;
    /// # use superduper_access::Access;
    /// # use superduper_federated::FederatedModel;
    /// # async fn example<Net: FederatedModel>(alice: &Access) -> Result<()> {
    /// let number = alice.publish::<Net>("MyNet").description("finds tumours").await?;
    /// println!("alice/MyNet:{number}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not an identifier, for a model without captured source, for
    /// `public` without `confirm`, and for the name of a model of another kind.
    pub fn publish<M: FederatedModel>(&self, name: impl Into<String>) -> Publish {
        Publish {
            access: self.clone(),
            name: name.into(),
            kind: M::__kind(),
            class: Class::of::<M>(),
            description: None,
            link: None,
            public: false,
            new_version: false,
            confirmed: false,
        }
    }

    /// Attach weights to a version of a model of this user.
    ///
    /// # Errors
    /// `NotFound` for a model or version that does not exist, and for a private model of another
    /// user; `PermissionDenied` for a public model of another user.
    pub async fn attach_weights(
        &self,
        owner: &str,
        name: &str,
        version: u32,
        weights: Tensors,
    ) -> Result<()> {
        let model = self.published(owner, name).await?;
        if model.owner != self.who().user {
            let text = format!("only `{owner}` may attach weights to `{owner}/{name}`");
            return Err(Error::new(ErrorKind::PermissionDenied, text));
        }
        version_of(&model, Some(version))?;
        let address = PublishedModel::address(owner, name);
        self.change::<PublishedModel>(address, None, |model| {
            for known in model.versions.iter_mut().filter(|known| known.number == version) {
                known.weights = Some(Artifact::new(weights.clone()));
            }
            Ok(())
        })
        .await
        .map(|_| ())
    }

    /// A model that this user may see.
    pub(crate) async fn published(&self, owner: &str, name: &str) -> Result<PublishedModel> {
        // The same words for one that does not exist and one that is private.
        let unknown = || Error::not_found(format!("model `{owner}/{name}` was not found"));
        check_name(owner).and_then(|()| check_name(name)).map_err(|_| unknown())?;
        let found =
            crate::stored::find::<PublishedModel>(self.db(), PublishedModel::address(owner, name))
                .await?;
        found.filter(|model| !model.private || model.owner == self.who().user).ok_or_else(unknown)
    }
}

/// The version of a number, or the newest.
pub(crate) fn version_of(model: &PublishedModel, number: Option<u32>) -> Result<&PublishedVersion> {
    let last = model.versions.last().map_or(0, |version| version.number);
    let wanted = number.unwrap_or(last);
    model.versions.iter().find(|version| version.number == wanted).ok_or_else(|| {
        let (owner, name) = (&model.owner, &model.name);
        Error::not_found(format!("model `{owner}/{name}` has no version {wanted}"))
            .with_hint(format!("it has versions 1–{last}"))
    })
}

/// A publication under construction; await it for the number of the version.
#[must_use = "nothing is published until it is awaited"]
pub struct Publish {
    access: Access,
    name: String,
    kind: &'static str,
    class: Class,
    description: Option<String>,
    link: Option<String>,
    public: bool,
    new_version: bool,
    confirmed: bool,
}

impl Publish {
    /// Say what the model is.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Where there is more about the model: a paper, a repository.
    pub fn link(mut self, link: impl Into<String>) -> Self {
        self.link = Some(link.into());
        self
    }

    /// Let everybody see the model. It needs [`confirm`](Publish::confirm).
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Make a new version in any case.
    pub fn new_version(mut self) -> Self {
        self.new_version = true;
        self
    }

    /// Confirm that everybody may read the source.
    pub fn confirm(mut self) -> Self {
        self.confirmed = true;
        self
    }

    async fn run(self) -> Result<u32> {
        let Publish { access, name, kind, class, public, new_version, confirmed, .. } = self;
        let (description, link) = (self.description, self.link);
        let owner = access.who().user.clone();
        check_name(&name).map_err(|error| error.context("the name of a model"))?;
        if class.sources.is_empty() {
            return Err(Error::invalid(format!("the source of `{}` is not captured", class.path))
                .with_hint(
                    "add `source` to its `#[component(…)]`, and `#[source]` to its `impl` blocks",
                ));
        }
        let address = PublishedModel::address(&owner, &name);
        let digest = class.digest().to_hex();
        let source: Vec<&str> = class.sources.iter().map(|source| source.text).collect();
        let source = source.join("\n\n");
        let new = PublishedModel {
            identifier: address.identifier.clone(),
            owner: owner.clone(),
            name: name.clone(),
            kind: kind.to_owned(),
            private: true,
            description: String::new(),
            link: None,
            versions: Vec::new(),
        };
        let number = AtomicU32::new(0);
        access
            .change::<PublishedModel>(address, Some(new), |model| {
                if model.kind != kind {
                    let text =
                        format!("`{owner}/{name}` is of kind `{}`, not `{kind}`", model.kind);
                    return Err(Error::invalid(text).with_hint("publish it under another name"));
                }
                if let Some(description) = &description {
                    model.description.clone_from(description);
                }
                if link.is_some() {
                    model.link.clone_from(&link);
                }
                let before = model.versions.len();
                number.store(model.number_of(&digest, &source, new_version), Ordering::SeqCst);
                // A public model stays public, so that a new version of it is read by everybody too.
                if (public || !model.private && model.versions.len() > before) && !confirmed {
                    let text = format!("anyone can read the source of `{owner}/{name}`");
                    return Err(
                        Error::invalid(text).with_hint("call `.confirm()` if that is meant")
                    );
                }
                model.private &= !public;
                Ok(())
            })
            .await?;
        Ok(number.load(Ordering::SeqCst))
    }
}

impl IntoFuture for Publish {
    type Output = Result<u32>;
    type IntoFuture = BoxFuture<'static, Result<u32>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
