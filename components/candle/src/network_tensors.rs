//! Networks and their tensors: a network gives its parameters as [`Tensors`], and takes those of
//! another one of the same sizes.
//!
//! With [`TrainLoop`](crate::TrainLoop) this is all that trains a network on a table which belongs
//! to no component: the tensors come in, some epochs are run, the tensors go out.
//!
//! Invariant: tensors are checked by name, type and shape before the first parameter is set.

use crate::{
    network::{Architecture, line},
    network_model::{LinearRegressor, NetworkModel},
    weights::{Weights, is_counter},
};
use std::collections::BTreeMap;
use superduper::{Dtype, Error, Result, TensorInfo, Tensors};

impl Architecture {
    /// Name and shape of each tensor of a network of these sizes.
    pub fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        match self {
            Architecture::Mlp(spec) => spec.parameters(),
            Architecture::Cnn(spec) => spec.parameters(),
            Architecture::Linear { inputs } => line(*inputs).parameters(),
        }
    }

    /// Refuse tensors that are not those of a network of these sizes. Reads none of them.
    ///
    /// # Errors
    /// `InvalidInput` where a tensor is missing, too many, or of another type or shape; the text
    /// names the tensor.
    pub fn check_tensors(&self, tensors: &Tensors) -> Result<()> {
        let needed = self.parameters();
        for (name, shape) in &needed {
            let dtype = if is_counter(name) { Dtype::I64 } else { Dtype::F32 };
            let needed = TensorInfo { dtype, shape: shape.clone() };
            match tensors.info(name) {
                Some(found) if *found == needed => {}
                Some(found) => {
                    return Err(Error::invalid(format!(
                        "tensor `{name}` is {found}, the model needs {needed}"
                    )));
                }
                None => {
                    return Err(Error::invalid(format!("tensor `{name}`, {needed}, is missing")));
                }
            }
        }
        match tensors.names().find(|name| !needed.contains_key(*name)) {
            Some(name) => Err(Error::invalid(format!("the model has no tensor `{name}`"))),
            None => Ok(()),
        }
    }

    /// A network with the parameters in these tensors.
    ///
    /// # Errors
    /// Those of [`NetworkModel::set_tensors`]; `InvalidInput` for an empty layer.
    pub async fn with_tensors(&self, tensors: &Tensors) -> Result<NetworkModel> {
        self.check()?;
        self.check_tensors(tensors)?;
        self.with_weights(&Weights::from_tensors(tensors).await?)
    }
}

impl NetworkModel {
    /// The sizes of the network.
    pub fn architecture(&self) -> Architecture {
        match self {
            NetworkModel::Mlp(model) => Architecture::Mlp(model.spec().clone()),
            NetworkModel::Cnn(model) => Architecture::Cnn(model.spec().clone()),
            NetworkModel::Linear(LinearRegressor(model)) => {
                Architecture::Linear { inputs: model.spec().inputs }
            }
        }
    }

    /// Copy the parameters into tensors, named as [`Architecture::parameters`] says.
    ///
    /// # Errors
    /// Those of candle.
    pub fn to_tensors(&self) -> Result<Tensors> {
        self.weights()?.to_tensors()
    }

    /// Set the parameters to the values of tensors. The tensors are read once; the network copies
    /// them.
    ///
    /// ```
    /// use superduper::Tensors;
    /// use superduper_candle::{
    ///     Architecture, MlpSpec, Optimizer, Sgd, Table, TrainLoop, go_on,
    /// };
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let sizes = MlpSpec { inputs: 1, hidden: vec![4], classes: 2, ..MlpSpec::default() };
    /// let network = Architecture::Mlp(sizes).init(7)?;
    /// let global: Tensors = network.to_tensors()?;
    ///
    /// // Elsewhere: train the given parameters on rows that are at hand.
    /// let rows = Table::new(1, vec![-1.0, 1.0, -0.5, 0.5], vec![0, 1, 0, 1])?;
    /// network.set_tensors(&global).await?;
    /// let optimizer = Sgd { learning_rate: 0.5, ..Sgd::default() };
    /// let training = TrainLoop { epochs: 20, batch: 2, seed: 3, ..TrainLoop::default() };
    /// training.run(&network, &rows, &optimizer, &mut optimizer.init(), |_| go_on())?;
    ///
    /// let local: Tensors = network.to_tensors()?;
    /// assert_eq!(network.evaluate(&rows)?.accuracy, 1.0);
    /// # network.architecture().check_tensors(&local)?;
    /// # Ok::<(), superduper::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Guarantees
    /// After an error the parameters are those from before.
    ///
    /// # Errors
    /// Those of [`Architecture::check_tensors`]; `InvalidInput` for a value that is not finite;
    /// `Integrity` for bytes that are missing or not those that were saved. The text names the
    /// tensor.
    pub async fn set_tensors(&self, tensors: &Tensors) -> Result<()> {
        self.architecture().check_tensors(tensors)?;
        let weights = Weights::from_tensors(tensors).await?;
        weights.check_finite()?;
        self.set_weights(&weights)
    }

    /// Set the parameters to these values.
    ///
    /// # Errors
    /// `InvalidInput` where a parameter is missing, too many, or of another shape; the parameters
    /// are then those from before.
    pub fn set_weights(&self, weights: &Weights) -> Result<()> {
        weights.assign(crate::Model::params(self))
    }
}
