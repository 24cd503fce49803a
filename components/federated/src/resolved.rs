//! The model of a training, as its settings and its sites make it; and whether they fit together.

use crate::{
    class::Class,
    config::TrainingConfig,
    model::{CarriedCode, entry},
    model_config::ModelConfig,
    site::Site,
    training::FederatedTraining,
};
use serde::Serialize;
use serde_json::Value;
use std::{any::Any, sync::Arc};
use superduper::{Component, Digest, Encoded, Error, Hasher, Result};

impl FederatedTraining {
    /// The model: that which a [`ModelConfig`] stands for, or the one that was given.
    pub(crate) fn resolved_model(&self) -> Result<Arc<dyn Component>> {
        match self.model_config() {
            Some(config) => config.build(self.num_classes()),
            None => Ok(self.model.0.clone()),
        }
    }

    /// Whether the training sets the number of classes of its model.
    pub(crate) fn takes_num_classes(&self) -> Result<bool> {
        self.model_config().map_or(Ok(false), ModelConfig::takes_num_classes)
    }

    fn model_config(&self) -> Option<&ModelConfig> {
        let any: &dyn Any = &*self.model.0;
        any.downcast_ref()
    }

    /// The number of classes: that of the settings, or that of the sites' data; 0 where neither says.
    pub(crate) fn num_classes(&self) -> usize {
        self.config.num_classes().unwrap_or_else(|| {
            let of_sites = self.sites.iter().filter_map(classes_of);
            of_sites.max().unwrap_or(0)
        })
    }

    /// The shape of a row of the sites' data, where a site says.
    pub(crate) fn input_shape(&self) -> Vec<usize> {
        let mut shapes = self.sites.iter().filter_map(shape_of);
        shapes.next().unwrap_or_default()
    }

    /// The classes of model, executor and persistor.
    pub(crate) fn classes(&self) -> Result<[Class; 3]> {
        let model = (entry(self.resolved_model()?.kind())?.class)();
        // Of what is in the boxes, not of the boxes.
        Ok([model, (*self.executor).class(), (*self.persistor).class()])
    }

    /// A digest of the captured source of model, executor and persistor, as this program has them. If
    /// executor and persistor are built in, it is the [digest of the model's class](Class::digest).
    /// For a model that [carries its code](crate::FederatedModel::carried_code), the digest of that
    /// code stands for the model.
    ///
    /// # Errors
    /// `UnknownKind` for a model that this program does not know; those of building it.
    pub fn source_digest(&self) -> Result<Digest> {
        let (classes, carried) = (self.classes()?, self.carried_code()?);
        let [model, rest @ ..] = &classes;
        // What runs carried code is part of this program, and no custom code.
        let model = carried.map_or_else(|| model.digest(), |carried| carried.digest);
        if rest.iter().all(Class::is_built_in) {
            return Ok(model);
        }
        let mut hasher = Hasher::new();
        for digest in std::iter::once(model).chain(rest.iter().map(Class::digest)) {
            hasher.update(digest.to_hex().as_bytes());
        }
        Ok(hasher.finish())
    }

    /// A digest of what the training may do with its code at a site: its identifier, strategy,
    /// rounds, options, settings and seed, and the filters of the site. The fields of the model and
    /// the other sites are not part of it.
    ///
    /// # Errors
    /// `Encode` for settings that JSON cannot hold.
    pub fn terms(&self, site: &Site) -> Result<Digest> {
        let parts = [
            value(&self.identifier)?,
            value(&self.strategy)?,
            value(&self.config)?,
            value(&self.federation)?,
            value(&self.options)?,
            value(&self.uncertainty)?,
            value(&self.seed)?,
            value(&site.filters)?,
        ];
        Ok(Digest::of(value(&parts)?.to_string().as_bytes()))
    }

    /// The code that the model carries and runs in a sandbox, if it does.
    pub(crate) fn carried_code(&self) -> Result<Option<CarriedCode>> {
        let model = self.resolved_model()?;
        let entry = entry(model.kind())?;
        if entry.is_sandbox { (entry.carried_code)(&*model) } else { Ok(None) }
    }

    /// The kind of the model; for a [`ModelConfig`], of the model that it stands for.
    ///
    /// # Errors
    /// Those of building the model.
    pub fn model_kind(&self) -> Result<String> {
        Ok(self.resolved_model()?.kind().to_owned())
    }

    /// Whether everything but the model is built in.
    pub(crate) fn is_default(&self) -> Result<bool> {
        let parts = &self.classes()?[1..];
        Ok(parts.iter().all(Class::is_built_in) && self.other_code().is_empty())
    }

    /// Custom code beside model, executor and persistor: it has no place in a digest.
    pub(crate) fn other_code(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut look = |what: &str, class: Class| {
            if !class.is_built_in() {
                let path = class.path;
                found.push(format!("the {what} `{path}` is custom code that no digest covers"));
            }
        };
        look("strategy", (*self.strategy).class());
        let endpoints = self.sites.iter().filter_map(|site| site.endpoint.as_deref());
        endpoints.chain(self.actor.as_deref()).for_each(|one| look("endpoint", one.class()));
        let filters = self.sites.iter().flat_map(|site| &site.filters);
        filters.for_each(|filter| look("filter", (**filter).class()));
        found
    }

    /// Refuse a model that does not fit the settings or the sites.
    pub(crate) fn check_model(&self) -> Result<()> {
        self.check_classes()?;
        self.check_shapes()?;
        // Arguments that do not fit are found here.
        self.resolved_model()?;
        let classes = self.num_classes();
        if classes == 0 && self.takes_num_classes()? {
            let text = format!(
                "the number of classes of `{}` is not known: no site says how many its data has",
                self.resolved_model()?.kind()
            );
            return Err(Error::invalid(text).with_hint("set `config.num_classes`"));
        }
        self.check_forward(classes)
    }

    /// Refuse sites that have different numbers of classes, unless the settings have one.
    fn check_classes(&self) -> Result<()> {
        if self.config.num_classes().is_some() {
            return Ok(());
        }
        let found: Vec<(&str, usize)> =
            self.sites.iter().filter_map(|site| Some((&*site.name, classes_of(site)?))).collect();
        if found.windows(2).all(|pair| pair[0].1 == pair[1].1) {
            return Ok(());
        }
        let each: Vec<String> =
            found.iter().map(|(site, classes)| format!("`{site}` has {classes}")).collect();
        let text = format!("the sites disagree about the number of classes: {}", each.join(", "));
        Err(Error::invalid(text).with_hint("set `config.num_classes`"))
    }

    /// Refuse sites whose rows have different shapes.
    fn check_shapes(&self) -> Result<()> {
        let found: Vec<(&str, Vec<usize>)> =
            self.sites.iter().filter_map(|site| Some((&*site.name, shape_of(site)?))).collect();
        if found.windows(2).all(|pair| pair[0].1 == pair[1].1) {
            return Ok(());
        }
        let each: Vec<String> =
            found.iter().map(|(site, shape)| format!("`{site}` has {shape:?}")).collect();
        let text = format!("the sites disagree about the shape of a row: {}", each.join(", "));
        Err(Error::invalid(text).with_hint("train over sites with the same columns"))
    }

    /// Run the model once on images of zeros, where it knows how to.
    fn check_forward(&self, classes: usize) -> Result<()> {
        const BATCH: usize = 2;
        if classes == 0 {
            return Ok(()); // there is nothing to compare with
        }
        let model = self.resolved_model()?;
        let size = self.config.merged()?.img_size;
        let images = [BATCH, 3, size, size];
        let forward = entry(model.kind())?.dry_forward;
        let output = forward(&*model, images, classes).map_err(|error| {
            error.context(format_args!("a dry run of `{}` on images {images:?}", model.kind()))
        })?;
        match output {
            Some(output) if output != [BATCH, classes] => {
                let text = format!(
                    "`{}` gives {output:?} for images {images:?}, not {:?} (batch, num_classes)",
                    model.kind(),
                    [BATCH, classes]
                );
                Err(Error::invalid(text).with_hint(
                    "let its last layer have `num_classes` outputs, or set `config.num_classes`",
                ))
            }
            _ => Ok(()),
        }
    }
}

impl TrainingConfig {
    /// The number of classes that the settings have: that of `extra`, which wins, or the field.
    fn num_classes(&self) -> Option<usize> {
        // A value of another type is refused when the training is built.
        let merged = self.merged().map_or(self.num_classes, |merged| merged.num_classes);
        Some(merged).filter(|classes| *classes > 0)
    }
}

/// A value as JSON, whose keys are in order.
fn value(value: &(impl Serialize + ?Sized)) -> Result<Value> {
    Ok(Encoded::of(value)?.value().clone())
}

fn classes_of(site: &Site) -> Option<usize> {
    site.data.as_ref()?.classes()
}

fn shape_of(site: &Site) -> Option<Vec<usize>> {
    let shape = site.data.as_ref()?.input_shape();
    (!shape.is_empty()).then_some(shape)
}
