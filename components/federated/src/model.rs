//! The model of a federated training: any component with an `impl FederatedModel`.

use crate::{class::Class, site_context::SiteContext};
use serde::{Deserialize, Serialize};
use std::{any::Any, collections::BTreeMap};
use superduper::{Component, ComponentType, Digest, Error, ErrorKind, Result, Tensors};

/// What a site's training gives.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The weights, with the names, shapes and types of those that it started from.
    pub weights: Tensors,
    /// The rows that it trained on: the weight of this site in the mean.
    pub samples: u64,
    /// Metrics by name, such as `loss`.
    pub metrics: BTreeMap<String, f64>,
}

/// What a test of the global model at a site gives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// The rows that it was tested on.
    pub samples: u64,
    /// Metrics by name, such as `accuracy`.
    pub metrics: BTreeMap<String, f64>,
}

/// First and second moments of the weights of a site, for SWAG.
#[derive(Debug, Clone)]
pub struct SiteMoments {
    /// The mean of the weights.
    pub first: Tensors,
    /// The mean of their squares.
    pub second: Tensors,
    /// The rows that they were trained on.
    pub samples: u64,
}

/// A component that can be trained over many sites; make it known with
/// [`federates!`](crate::federates).
///
/// The methods run on a thread that may block and compute.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be trained over sites",
    label = "this type has no `impl FederatedModel`",
    note = "write `impl FederatedModel for {Self}`; the type is a struct with `#[derive(Component)]`"
)]
pub trait FederatedModel: ComponentType {
    /// The weights before the first round.
    ///
    /// # Errors
    /// Any; the training is then ERROR.
    fn initial(&self, num_classes: usize, seed: u64) -> Result<Tensors>;

    /// As [`initial`](FederatedModel::initial), for a model that has to know the shape of its input:
    /// that of a row of the sites' data ([`SiteData::input_shape`](crate::SiteData::input_shape)),
    /// empty if no site says. [`initial`](FederatedModel::initial), if it is not implemented.
    ///
    /// # Errors
    /// As for [`initial`](FederatedModel::initial).
    fn initial_for(&self, input: &[usize], num_classes: usize, seed: u64) -> Result<Tensors> {
        let _ = input;
        self.initial(num_classes, seed)
    }

    /// Train on the data of a site, from these weights.
    ///
    /// # Errors
    /// Any; it is the site's answer for this round, and the round goes on without the site.
    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained>;

    /// Test these weights on the data of a site.
    ///
    /// # Errors
    /// Any; the site then has no metrics in this round.
    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested>;

    /// Predict the rows of a site with these weights. Each tensor of the result has one entry for
    /// each row, in the order of the rows. The names are up to the model.
    ///
    /// # Errors
    /// `Unsupported` unless the model implements it; any other error is the answer of the site.
    fn predict(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tensors> {
        let _ = (weights, ctx);
        let text = format!("`{}` predicts nothing at a site", Self::__kind());
        Err(Error::new(ErrorKind::Unsupported, text)
            .with_hint("implement `FederatedModel::predict`"))
    }

    /// Code that the model carries in its fields, such as a module of WebAssembly, and that runs in a
    /// sandbox: grants are for its digest. `None`, which is the default, for models whose code is in
    /// the program. Only the sandbox of this library is asked.
    fn carried_code(&self) -> Option<CarriedCode> {
        None
    }

    /// Moments of the weights around the global model, for SWAG.
    ///
    /// # Errors
    /// `Unsupported` unless the model implements it.
    fn moments(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<SiteMoments> {
        let _ = (weights, ctx);
        let text = format!("`{}` reports no moments for SWAG", Self::__kind());
        Err(Error::new(ErrorKind::Unsupported, text)
            .with_hint("implement `FederatedModel::moments`, or use another uncertainty method"))
    }

    /// For models of images: run the network once on images of zeros, of shape
    /// (batch, 3, `img_size`, `img_size`), and give the shape of its output. If
    /// that is not (batch, number of classes), the training is refused when it is built.
    ///
    /// `None`, which is the default: the model is not checked.
    ///
    /// # Errors
    /// Any; the training is then refused.
    fn dry_forward(&self, images: [usize; 4], num_classes: usize) -> Result<Option<Vec<usize>>> {
        let _ = (images, num_classes);
        Ok(None)
    }
}

/// Code that a model carries and runs in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedCode {
    /// Its digest.
    pub digest: Digest,
    /// What it is, for the owners of sites to read.
    pub about: String,
}

/// What [`federates!`](crate::federates) submits for a type.
#[doc(hidden)]
pub struct FederatedEntry {
    pub kind: fn() -> &'static str,
    pub(crate) initial: fn(&dyn Component, &[usize], usize, u64) -> Result<Tensors>,
    pub(crate) train: fn(&dyn Component, Tensors, &mut SiteContext<'_>) -> Result<Trained>,
    pub(crate) test: fn(&dyn Component, Tensors, &mut SiteContext<'_>) -> Result<Tested>,
    pub(crate) predict: fn(&dyn Component, Tensors, &mut SiteContext<'_>) -> Result<Tensors>,
    pub(crate) carried_code: fn(&dyn Component) -> Result<Option<CarriedCode>>,
    pub(crate) moments: fn(&dyn Component, Tensors, &mut SiteContext<'_>) -> Result<SiteMoments>,
    pub(crate) dry_forward: DryForward,
    pub(crate) class: fn() -> Class,
    /// The trait that its author implements, whose `impl` block is to be captured.
    pub(crate) contract: &'static str,
    /// Whether the type runs code that it carries in a sandbox.
    pub(crate) is_sandbox: bool,
    /// The names of the fields.
    pub(crate) fields: fn() -> Vec<&'static str>,
}
type DryForward = fn(&dyn Component, [usize; 4], usize) -> Result<Option<Vec<usize>>>;
inventory::collect!(FederatedEntry);

impl FederatedEntry {
    /// The entry of a type.
    pub const fn of<M: FederatedModel>() -> Self {
        FederatedEntry::of_contract::<M>("FederatedModel")
    }

    /// The entry of a type that runs the code which it carries in a sandbox. Of other types,
    /// [`FederatedModel::carried_code`] is not asked for.
    pub const fn of_sandbox<M: FederatedModel>() -> Self {
        FederatedEntry { is_sandbox: true, ..FederatedEntry::of::<M>() }
    }

    /// The entry of a type whose `impl FederatedModel` a macro writes, from an `impl` of this trait.
    pub const fn of_contract<M: FederatedModel>(contract: &'static str) -> Self {
        FederatedEntry {
            contract,
            is_sandbox: false,
            kind: M::__kind,
            initial: |model, input, classes, seed| {
                typed::<M>(model)?.initial_for(input, classes, seed)
            },
            train: |model, weights, ctx| typed::<M>(model)?.train(weights, ctx),
            test: |model, weights, ctx| typed::<M>(model)?.test(weights, ctx),
            predict: |model, weights, ctx| typed::<M>(model)?.predict(weights, ctx),
            carried_code: |model| Ok(typed::<M>(model)?.carried_code()),
            moments: |model, weights, ctx| typed::<M>(model)?.moments(weights, ctx),
            dry_forward: |model, images, classes| typed::<M>(model)?.dry_forward(images, classes),
            class: Class::of::<M>,
            fields: || M::SPEC.fields.iter().map(|field| field.name).collect(),
        }
    }
}

fn typed<M: FederatedModel>(model: &dyn Component) -> Result<&M> {
    let any: &dyn Any = model;
    any.downcast_ref().ok_or_else(|| {
        Error::internal(format!("a `{}` is of another type than its kind says", M::__kind()))
    })
}

/// Make types with an `impl FederatedModel` known, so that a job finds their code in this and in
/// other processes: `federates!(Mean, Digits);`.
#[macro_export]
macro_rules! federates {
    ($($type:ty),+ $(,)?) => {$(
        $crate::__private::inventory::submit! { $crate::__private::FederatedEntry::of::<$type>() }
    )+};
}

/// The models that this program knows, by kind.
pub(crate) fn entries() -> impl Iterator<Item = &'static FederatedEntry> {
    let mut known: Vec<&FederatedEntry> = inventory::iter::<FederatedEntry>.into_iter().collect();
    known.sort_unstable_by_key(|entry| (entry.kind)());
    known.into_iter()
}

/// The model of this kind, or whose type has this path.
pub(crate) fn federates_by_path(path: &str) -> Option<&'static FederatedEntry> {
    let mut known = inventory::iter::<FederatedEntry>.into_iter();
    known.find(|entry| (entry.kind)() == path || (entry.class)().path == path)
}

/// The class of the model of this kind, as this program has it.
///
/// # Errors
/// `UnknownKind` for a kind that this program does not know as a model.
pub fn class_of_model(kind: &str) -> Result<Class> {
    Ok((entry(kind)?.class)())
}

/// The code that trains models of a kind.
pub(crate) fn entry(kind: &str) -> Result<&'static FederatedEntry> {
    let mut known = inventory::iter::<FederatedEntry>.into_iter();
    known.find(|entry| (entry.kind)() == kind).ok_or_else(|| {
        let short = kind.rsplit('.').next().unwrap_or(kind);
        let kinds: Vec<&str> = entries().map(|entry| (entry.kind)()).collect();
        let text = format!("this program does not know how to train `{kind}` over sites");
        Error::new(ErrorKind::UnknownKind, text)
            .with_hint(format!(
                "write `superduper_federated::federates!({short});` beside its `impl \
                 FederatedModel`, and link its crate; known: {}",
                if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
            ))
            .fatal()
    })
}
