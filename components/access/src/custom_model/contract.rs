//! The contract of a custom model.

use std::collections::BTreeMap;
use superduper::{ComponentType, Result};
use superduper_candle::{Batch, Mode, Optimizer, Tensor, Var, Weights};

/// What a forward pass gives.
#[derive(Debug, Clone)]
pub struct Forward {
    /// What the model predicts, shape `[rows, …]`: for classes the logits, `[rows, classes]`.
    pub outputs: Tensor,
    /// The mean loss over the rows: a scalar, shape `[]`, that can be differentiated.
    pub loss: Tensor,
}

/// A model that is made of seven methods, each of which has to be written.
///
/// The fields of the struct are its hyperparameters. The library owns the parameters, the batches and
/// the optimizer, and hands them to the methods. So FedProx, seeds, checks for NaN and the limits of a
/// site's job hold for every custom model. [`custom_model!`](crate::custom_model) makes the model known.
///
/// The settings `local_epochs` and `batch_size` of the training count at a site. With the setting
/// `validation`, a share from 0 to 1 of the rows of a site is held back, and validated on after each
/// local epoch. The data of a site is a [`TableData`](superduper_federated::candle::TableData).
///
/// | method | called |
/// |---|---|
/// | [`construct`](CustomModel::construct) | first, before any other method, for each task |
/// | [`create_model`](CustomModel::create_model) | once, by the coordinator, before the first round |
/// | [`configure_optimizers`](CustomModel::configure_optimizers) | once for each local training |
/// | [`training_step`](CustomModel::training_step) | for each batch of each local epoch |
/// | [`validation_step`](CustomModel::validation_step) | for the rows that are held back, after each epoch |
/// | [`test_step`](CustomModel::test_step) | for all rows of a site, in batches, when the global model is tested |
/// | [`forward`](CustomModel::forward) | by the three steps, if they call it; and to predict |
///
/// ```
/// use std::collections::BTreeMap;
/// use superduper::prelude::*;
/// use superduper_access::{CustomModel, Forward, custom_model};
/// use superduper_candle::{Array, Batch, Mode, Optimizer, Sgd, Tensor, Var, Weights};
///
/// /// One weight for each feature.
/// #[derive(Component)]
/// #[component(kind = "doc.Line", source)]
/// struct Line {
///     identifier: String,
///     #[component(breaking, default = 0.1)]
///     learning_rate: f64,
/// }
/// custom_model!(Line);
///
/// #[source]
/// impl CustomModel for Line {
///     fn construct(&self) -> Result<()> {
///         match self.learning_rate > 0.0 {
///             true => Ok(()),
///             false => Err(Error::invalid("`learning_rate` must be positive")),
///         }
///     }
///
///     fn create_model(&self, input: &[usize], _classes: usize, _seed: u64) -> Result<Weights> {
///         let mut weights = Weights::new();
///         weights.insert("w", Array::zeros([input[0], 1]));
///         Ok(weights)
///     }
///
///     fn configure_optimizers(&self) -> Result<Box<dyn Optimizer>> {
///         Ok(Box::new(Sgd { learning_rate: self.learning_rate, ..Sgd::default() }))
///     }
///
///     fn forward(&self, params: &BTreeMap<String, Var>, batch: &Batch, _: Mode) -> Result<Forward> {
///         let forward = || {
///             let outputs = batch.features.matmul(params["w"].as_tensor())?.squeeze(1)?;
///             let loss = (&outputs - &batch.labels)?.sqr()?.mean_all()?;
///             Ok(Forward { outputs, loss })
///         };
///         forward().map_err(|error: superduper_candle::CandleError| Error::other(error))
///     }
///
///     fn training_step(
///         &self,
///         params: &BTreeMap<String, Var>,
///         batch: &Batch,
///         mode: Mode,
///     ) -> Result<Tensor> {
///         Ok(self.forward(params, batch, mode)?.loss)
///     }
///
///     fn validation_step(
///         &self,
///         params: &BTreeMap<String, Var>,
///         batch: &Batch,
///     ) -> Result<BTreeMap<String, f64>> {
///         self.test_step(params, batch)
///     }
///
///     fn test_step(
///         &self,
///         params: &BTreeMap<String, Var>,
///         batch: &Batch,
///     ) -> Result<BTreeMap<String, f64>> {
///         let loss = self.forward(params, batch, Mode::Eval)?.loss;
///         let loss = loss.to_scalar::<f32>().map_err(Error::other)?;
///         Ok(BTreeMap::from([("loss".to_owned(), f64::from(loss))]))
///     }
/// }
/// # assert!(superduper_federated::class_of_model("doc.Line").is_ok());
/// ```
///
/// A model without one of the methods does not compile:
///
/// ```compile_fail,E0046
/// # use std::collections::BTreeMap;
/// # use superduper::prelude::*;
/// # use superduper_access::{CustomModel, Forward};
/// # use superduper_candle::{Batch, Mode, Optimizer, Tensor, Var, Weights};
/// # #[derive(Component)]
/// # struct Line { identifier: String }
/// # type Params = BTreeMap<String, Var>;
/// impl CustomModel for Line {
///     // There is no `test_step`.
/// #   fn construct(&self) -> Result<()> { panic!() }
/// #   fn create_model(&self, _: &[usize], _: usize, _: u64) -> Result<Weights> { panic!() }
/// #   fn configure_optimizers(&self) -> Result<Box<dyn Optimizer>> { panic!() }
/// #   fn forward(&self, _: &Params, _: &Batch, _: Mode) -> Result<Forward> { panic!() }
/// #   fn training_step(&self, _: &Params, _: &Batch, _: Mode) -> Result<Tensor> { panic!() }
/// #   fn validation_step(&self, _: &Params, _: &Batch) -> Result<BTreeMap<String, f64>> { panic!() }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a custom model",
    label = "this type has no `impl CustomModel`",
    note = "write `impl CustomModel for {Self}`, with its seven methods"
)]
pub trait CustomModel: ComponentType {
    /// Construction: check the hyperparameters.
    ///
    /// # Errors
    /// Any; the training is then ERROR, or the site does not take part in the round.
    fn construct(&self) -> Result<()>;

    /// The parameters before the first round, by name. `input` is the shape of a row of the sites' data,
    /// `[features]` of a table; `classes` the number of classes, 0 where rows have values to
    /// predict. The same arguments have to give the same parameters.
    ///
    /// # Errors
    /// Any; the training is then ERROR.
    fn create_model(&self, input: &[usize], classes: usize, seed: u64) -> Result<Weights>;

    /// The optimizer of a site's local training. Its state is empty at the beginning of each round.
    ///
    /// # Errors
    /// Any; the site then does not take part in the round.
    fn configure_optimizers(&self) -> Result<Box<dyn Optimizer>>;

    /// Outputs and loss of a batch. `batch.features` has the shape `[rows, features]` (f32),
    /// `batch.labels` the shape `[rows]` (u32 for classes, f32 for values).
    ///
    /// # Errors
    /// Any; the site then does not take part in the round.
    fn forward(&self, params: &BTreeMap<String, Var>, batch: &Batch, mode: Mode)
    -> Result<Forward>;

    /// One step of the training: the loss of a batch, a scalar (shape `[]`) that can be
    /// differentiated. The library computes the gradients and moves the parameters.
    ///
    /// # Errors
    /// Any; the site then does not take part in the round.
    fn training_step(
        &self,
        params: &BTreeMap<String, Var>,
        batch: &Batch,
        mode: Mode,
    ) -> Result<Tensor>;

    /// Metrics of a batch of rows that the model does not learn: means over its rows. `loss` has to be
    /// among them. The site reports them as `validation_loss` and so on.
    ///
    /// # Errors
    /// Any; the site then does not take part in the round.
    fn validation_step(
        &self,
        params: &BTreeMap<String, Var>,
        batch: &Batch,
    ) -> Result<BTreeMap<String, f64>>;

    /// Metrics of a batch in a test of the global model: means over its rows.
    ///
    /// # Errors
    /// Any; the site then has no metrics in this round.
    fn test_step(
        &self,
        params: &BTreeMap<String, Var>,
        batch: &Batch,
    ) -> Result<BTreeMap<String, f64>>;
}

/// Make types with an `impl CustomModel` known, so that they can be trained over sites:
/// `custom_model!(Line);`. It writes the `impl FederatedModel` that calls the seven methods.
#[macro_export]
macro_rules! custom_model {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::__private::FederatedModel for $type {
            fn initial(
                &self,
                num_classes: usize,
                seed: u64,
            ) -> $crate::__private::Result<$crate::__private::Tensors> {
                $crate::__private::custom_model::initial(self, &[], num_classes, seed)
            }

            fn initial_for(
                &self,
                input: &[usize],
                num_classes: usize,
                seed: u64,
            ) -> $crate::__private::Result<$crate::__private::Tensors> {
                $crate::__private::custom_model::initial(self, input, num_classes, seed)
            }

            fn train(
                &self,
                weights: $crate::__private::Tensors,
                ctx: &mut $crate::__private::SiteContext<'_>,
            ) -> $crate::__private::Result<$crate::__private::Trained> {
                $crate::__private::custom_model::train(self, &weights, ctx)
            }

            fn test(
                &self,
                weights: $crate::__private::Tensors,
                ctx: &mut $crate::__private::SiteContext<'_>,
            ) -> $crate::__private::Result<$crate::__private::Tested> {
                $crate::__private::custom_model::test(self, &weights, ctx)
            }

            fn predict(
                &self,
                weights: $crate::__private::Tensors,
                ctx: &mut $crate::__private::SiteContext<'_>,
            ) -> $crate::__private::Result<$crate::__private::Tensors> {
                $crate::__private::custom_model::predict(self, &weights, ctx)
            }
        }
        $crate::__private::inventory::submit! {
            $crate::__private::FederatedEntry::of_contract::<$type>("CustomModel")
        }
    )+};
}
