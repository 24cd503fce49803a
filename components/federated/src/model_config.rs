//! A model by the name of its class.

use crate::model::{
    FederatedEntry, FederatedModel, SiteMoments, Tested, Trained, entries, entry, federates_by_path,
};
use crate::{
    federates,
    site_context::{SiteContext, encoded},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::{Arc, LazyLock};
use superduper::{Component, Error, ErrorKind, Registry, Result, Tensors, prelude::*};

/// The argument that a training gives to a model that has a field of this name.
pub(crate) const NUM_CLASSES: &str = "num_classes";

/// A model by its class and arguments, instead of by its value.
///
/// The class is any component with an `impl FederatedModel`. The arguments are the component's
/// fields by name. A field `num_classes` is not among them: the training sets it, from
/// `config.num_classes` or from the data of the sites.
///
/// ```
/// # use superduper::prelude::*;
/// # use superduper_federated::{FederatedModel, SiteContext, Tested, Trained, federates};
/// use superduper_federated::{FedAvg, FederatedTraining, ModelConfig};
///
/// #[derive(Component)]
/// #[component(kind = "doc.ResNet")]
/// struct ResNet {
///     identifier: String,
///     num_classes: usize,
///     #[component(default = 0.5)]
///     dropout: f64,
/// }
/// # impl FederatedModel for ResNet {
/// #     fn initial(&self, _: usize, _: u64) -> Result<Tensors> { Ok(Tensors::new()) }
/// #     fn train(&self, weights: Tensors, _: &mut SiteContext<'_>) -> Result<Trained> {
/// #         Ok(Trained { weights, samples: 1, metrics: Default::default() })
/// #     }
/// #     fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
/// #         Ok(Tested::default())
/// #     }
/// # }
/// federates!(ResNet);
///
/// let model = ModelConfig::new::<ResNet>().arg("dropout", 0.1)?;
/// let training = FederatedTraining::new("scans", model, FedAvg {});
///
/// // The same by name, for a class that only a document or another crate knows:
/// let model = ModelConfig::class("doc.ResNet")?.arg("dropout", 0.1)?;
/// # let _ = (training, model);
/// # Ok::<(), Error>(())
/// ```
#[derive(Component, Debug, Clone)]
#[component(kind = "superduper.ModelConfig")]
pub struct ModelConfig {
    identifier: String,
    /// The class: a kind, such as `my_crate.ResNet`, or the path of a type.
    #[component(breaking)]
    pub model_class: String,
    /// Fields of the class by name.
    #[component(breaking, default)]
    pub model_args: Map<String, Value>,
}
federates!(ModelConfig);

impl Lifecycle for ModelConfig {
    fn postinit(&mut self) -> Result<()> {
        self.check()
    }
}

impl ModelConfig {
    /// A model of this class, with no arguments yet.
    pub fn new<M: FederatedModel>() -> Self {
        ModelConfig {
            identifier: "model".to_owned(),
            model_class: M::__kind().to_owned(),
            model_args: Map::new(),
        }
    }

    /// A model of the class of this name: its kind, or the path of its type.
    ///
    /// # Errors
    /// `UnknownKind` for a class that this program does not know, with those that it knows.
    pub fn class(path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        let known = class_entry(&path)?;
        Ok(ModelConfig {
            identifier: "model".to_owned(),
            model_class: (known.kind)().to_owned(),
            model_args: Map::new(),
        })
    }

    /// Set an argument: a field of the class.
    ///
    /// # Errors
    /// `InvalidInput` for `num_classes`, which the training sets; `Encode` for what JSON cannot
    /// hold. Names and types are checked when the training is built.
    pub fn arg(mut self, name: impl Into<String>, value: impl Serialize) -> Result<Self> {
        let name = name.into();
        if name == NUM_CLASSES {
            return Err(injected());
        }
        self.model_args.insert(name, encoded(&value)?);
        Ok(self)
    }

    /// Whether the class has a field for the number of classes.
    pub(crate) fn takes_num_classes(&self) -> Result<bool> {
        Ok((class_entry(&self.model_class)?.fields)().contains(&NUM_CLASSES))
    }

    /// The model, with this number of classes.
    pub(crate) fn build(&self, num_classes: usize) -> Result<Arc<dyn Component>> {
        let known = class_entry(&self.model_class)?;
        let mut document = self.model_args.clone();
        document.insert("kind".to_owned(), Value::from((known.kind)()));
        document.entry("identifier").or_insert_with(|| Value::from(self.identifier.as_str()));
        if self.takes_num_classes()? {
            document.insert(NUM_CLASSES.to_owned(), Value::from(num_classes));
        }
        let built = registry()?.decode(&[Value::Object(document)]).map_err(|error| {
            let fields = (known.fields)();
            let names: Vec<&str> = fields
                .into_iter()
                .filter(|name| ![NUM_CLASSES, "identifier"].contains(name))
                .collect();
            error
                .context(format_args!("`model_args` of `{}`", self.model_class))
                .with_hint(format!("the arguments are {}", names.join(", ")))
        })?;
        match built.into_iter().next() {
            Some(model) => Ok(Arc::from(model)),
            None => Err(Error::internal("one document gives one component")),
        }
    }

    fn check(&self) -> Result<()> {
        if self.model_args.contains_key(NUM_CLASSES) {
            return Err(injected());
        }
        // Names and types are checked with the number of classes, which the training knows.
        match self.model_args.contains_key("kind") {
            true => Err(Error::invalid("`kind` is not an argument of a model")
                .with_hint("the class is in `model_class`")),
            false => Ok(()),
        }
    }
}

fn injected() -> Error {
    Error::invalid("`num_classes` is not an argument of a model: the training sets it")
        .with_hint("set `config.num_classes`, or leave it 0 to take the number from the data")
}

fn registry() -> Result<&'static Registry> {
    static LINKED: LazyLock<std::result::Result<Registry, String>> =
        LazyLock::new(|| Registry::linked().map_err(|error| error.to_string()));
    LINKED.as_ref().map_err(|text| Error::new(ErrorKind::UnknownKind, text.clone()))
}

/// The class of this kind, or of the type with this path.
fn class_entry(path: &str) -> Result<&'static FederatedEntry> {
    match federates_by_path(path) {
        Some(found) => Ok(found),
        None => {
            let known: Vec<String> = entries()
                .map(|entry| format!("{} (`{}`)", (entry.kind)(), (entry.class)().path))
                .collect();
            let krate = path.split(['.', ':']).next().unwrap_or_default();
            let text = format!("the model class `{path}` is not known");
            Err(Error::new(ErrorKind::UnknownKind, text).with_hint(format!(
                "if the crate `{krate}` has it, link it with `use {krate} as _;` and write \
                 `federates!` beside its `impl FederatedModel`; known: {}",
                known.join(", ")
            )))
        }
    }
}

/// A training builds the model first and calls the methods of that model. It never calls these
/// methods. They serve code that calls a `ModelConfig` directly.
impl FederatedModel for ModelConfig {
    fn initial(&self, num_classes: usize, seed: u64) -> Result<Tensors> {
        self.initial_for(&[], num_classes, seed)
    }

    fn initial_for(&self, input: &[usize], num_classes: usize, seed: u64) -> Result<Tensors> {
        let model = self.build(num_classes)?;
        (entry(model.kind())?.initial)(&*model, input, num_classes, seed)
    }

    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let model = self.build(ctx.num_classes())?;
        (entry(model.kind())?.train)(&*model, weights, ctx)
    }

    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested> {
        let model = self.build(ctx.num_classes())?;
        (entry(model.kind())?.test)(&*model, weights, ctx)
    }

    fn predict(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tensors> {
        let model = self.build(ctx.num_classes())?;
        (entry(model.kind())?.predict)(&*model, weights, ctx)
    }

    fn moments(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<SiteMoments> {
        let model = self.build(ctx.num_classes())?;
        (entry(model.kind())?.moments)(&*model, weights, ctx)
    }

    fn dry_forward(&self, images: [usize; 4], num_classes: usize) -> Result<Option<Vec<usize>>> {
        let model = self.build(num_classes)?;
        (entry(model.kind())?.dry_forward)(&*model, images, num_classes)
    }
}
