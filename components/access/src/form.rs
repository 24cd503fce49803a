//! The card of a published model, and the form that asks for access with it.

use crate::{
    access::Access,
    published::version_of,
    reference::{ModelReference, Resolved},
    request::AccessRequest,
};
use std::future::IntoFuture;
use superduper::{BoxFuture, Error, Result};
use superduper_federated::{FedAvg, FederatedTraining};

/// What somebody who may see a published model gets to see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelCard {
    /// Owner, name and version: `alice/MyNet:1`.
    pub reference: String,
    /// What the model is.
    pub description: String,
    /// Where there is more about it.
    pub link: Option<String>,
    /// The numbers of all versions.
    pub versions: Vec<u32>,
    /// The kind of its component.
    pub kind: String,
    /// The digest of the captured source.
    pub digest: String,
    /// The captured source.
    pub source: String,
    /// Whether weights are attached to the version.
    pub has_weights: bool,
    /// Whether only the owner can see it.
    pub private: bool,
}

impl Access {
    /// The card of a published model: of the version that the reference names, or the newest.
    ///
    /// # Errors
    /// `NotFound` for a model that does not exist or that the user may not see, in the same words, and
    /// for a version that it does not have.
    pub async fn card(&self, reference: &ModelReference) -> Result<ModelCard> {
        let owner = reference.username.as_deref().unwrap_or(&self.who().user);
        let model = self.published(owner, &reference.model_ref).await?;
        let version = version_of(&model, reference.model_version)?;
        Ok(ModelCard {
            reference: format!("{owner}/{}:{}", model.name, version.number),
            description: model.description.clone(),
            link: model.link.clone(),
            versions: model.versions.iter().map(|version| version.number).collect(),
            kind: model.kind.clone(),
            digest: version.digest.clone(),
            source: version.source.clone(),
            has_weights: version.weights.is_some(),
            private: model.private,
        })
    }

    /// Ask for access with a published model, before any job: the form begins with this model.
    ///
    /// ```
    /// # use superduper::prelude::*;
    /// # use superduper_access::{Access, ModelReference};
    /// # async fn example(alice: &Access) -> Result<()> {
    /// let form = alice.form(ModelReference::new("MyNet")).site("north").purpose("study 7");
    /// println!("ask for {}?", form.models().await?.join(", "));
    /// for request in form.confirm().await? {
    ///     println!("{} at {}", request.id(), request.site);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn form(&self, reference: ModelReference) -> AccessForm {
        AccessForm {
            access: self.clone(),
            models: vec![reference],
            sites: Vec::new(),
            purpose: String::new(),
            confirmed: false,
        }
    }
}

/// A request for access under construction: models, sites and a purpose. Await it to send it, once it
/// is confirmed.
#[must_use = "nothing is asked until it is awaited"]
pub struct AccessForm {
    access: Access,
    models: Vec<ModelReference>,
    sites: Vec<String>,
    purpose: String,
    confirmed: bool,
}

impl AccessForm {
    /// Ask for another model, too.
    pub fn model(mut self, reference: ModelReference) -> Self {
        self.models.push(reference);
        self.confirmed = false;
        self
    }

    /// Ask at this site.
    pub fn site(mut self, site: impl Into<String>) -> Self {
        self.sites.push(site.into());
        self
    }

    /// What for.
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = purpose.into();
        self
    }

    /// The models that it asks for, with their versions, to be confirmed.
    ///
    /// # Errors
    /// Those of [`ModelReference::resolve`].
    pub async fn models(&self) -> Result<Vec<String>> {
        Ok(self.resolved().await?.iter().map(Resolved::to_string).collect())
    }

    /// Confirm the list of models.
    pub fn confirm(mut self) -> Self {
        self.confirmed = true;
        self
    }

    async fn resolved(&self) -> Result<Vec<Resolved>> {
        let mut resolved = Vec::with_capacity(self.models.len());
        for reference in &self.models {
            resolved.push(reference.resolve(&self.access).await?);
        }
        Ok(resolved)
    }

    async fn send(self) -> Result<Vec<AccessRequest>> {
        let models = self.resolved().await?;
        if !self.confirmed {
            let names: Vec<String> = models.iter().map(Resolved::to_string).collect();
            let text = format!("the request would be for {}", names.join(", "));
            return Err(Error::invalid(text).with_hint("call `.confirm()` if that is meant"));
        }
        if self.sites.is_empty() {
            return Err(Error::invalid("the request names no site")
                .with_hint("name one with `.site(…)`; `sites()` lists those that you may see"));
        }
        // All of them first, so that nothing is sent if one is wrong.
        for site in &self.sites {
            if self.access.listing(site).await?.is_none() {
                self.access.visible(site).await?;
            }
        }
        let mut requests = Vec::new();
        for site in &self.sites {
            for model in &models {
                let of_model = FederatedTraining::new(&model.name, model.model.clone(), FedAvg {});
                requests.push(self.access.request(site, &of_model, &self.purpose).await?);
            }
        }
        Ok(requests)
    }
}

impl IntoFuture for AccessForm {
    type Output = Result<Vec<AccessRequest>>;
    type IntoFuture = BoxFuture<'static, Result<Vec<AccessRequest>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
