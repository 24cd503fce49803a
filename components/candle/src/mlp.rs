//! A multi-layer perceptron that classifies.
//!
//! Parameters are named `l1.weight`, `l1.bias`, `l2.weight` and so on, from the input to the
//! logits, and `l1_bn.weight` and so on where there is batch norm. Their values at the start depend
//! on nothing but the seed, their name and their shape.

use crate::{
    dropout::{self, dropout},
    linear::linear,
    mode::Mode,
    net::{Net, NetSpec},
    norm::{self, batch_norm},
};
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use superduper::{Error, Result, ResultExt};

/// The sizes of a multi-layer perceptron.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpSpec {
    /// The number of features.
    pub inputs: usize,
    /// The width of each hidden layer; with none the model is multinomial logistic regression.
    pub hidden: Vec<usize>,
    /// The number of classes.
    pub classes: usize,
    /// The probability that a value of a hidden layer is dropped while the network learns, after
    /// the rectifier; at least 0 and below 1. 0 if not given.
    #[serde(default, skip_serializing_if = "dropout::is_off")]
    pub dropout: f64,
    /// Whether each hidden layer has a batch norm, before the rectifier; `false` if not given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
}

impl MlpSpec {
    /// Name and shape of each parameter and buffer: weights are `[outputs, inputs]`, biases
    /// `[outputs]`, as in PyTorch; all of a batch norm are `[outputs]`, but for
    /// `num_batches_tracked`, which is `[]`.
    pub fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        let widths: Vec<usize> = [self.inputs]
            .into_iter()
            .chain(self.hidden.iter().copied())
            .chain([self.classes])
            .collect();
        let layers = widths.windows(2).enumerate();
        let linear = layers.flat_map(|(index, pair)| {
            let layer = index + 1;
            [
                (format!("l{layer}.weight"), vec![pair[1], pair[0]]),
                (format!("l{layer}.bias"), vec![pair[1]]),
            ]
        });
        let normed = if self.batch_norm { self.hidden.as_slice() } else { &[] };
        let norms = normed.iter().enumerate().flat_map(|(index, width)| {
            norm::parameters(&norm::after(&format!("l{}", index + 1)), *width)
        });
        linear.chain(norms).collect()
    }
}

impl MlpSpec {
    /// What is done to the values that a hidden layer gives.
    fn between(
        &self,
        params: &BTreeMap<String, Var>,
        x: &Tensor,
        layer: &str,
        mode: Mode,
    ) -> candle_core::Result<Tensor> {
        let rectified = if self.batch_norm {
            batch_norm(x, params, &norm::after(layer), mode)?.relu()?
        } else {
            x.relu()?
        };
        dropout(rectified, self.dropout, mode, layer)
    }
}

/// A multi-layer perceptron with rectified linear units: `xₖ₊₁ = max(0, xₖ Wᵀ + b)`, the last layer
/// without `max`. With batch norm the values are normalized before `max`, and with dropout they are
/// dropped after it.
pub type Mlp = Net<MlpSpec>;

impl NetSpec for MlpSpec {
    fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        MlpSpec::parameters(self)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn check(&self) -> Result<()> {
        if self.inputs == 0 || self.classes == 0 || self.hidden.contains(&0) {
            return Err(Error::invalid(format!(
                "a perceptron of {} inputs, hidden layers of {:?} and {} classes has an empty layer",
                self.inputs, self.hidden, self.classes
            )));
        }
        dropout::check(self.dropout)
    }

    fn logits(&self, params: &BTreeMap<String, Var>, features: &Tensor) -> Result<Tensor> {
        self.logits_in(params, features, Mode::Eval)
    }

    fn logits_in(
        &self,
        params: &BTreeMap<String, Var>,
        features: &Tensor,
        mode: Mode,
    ) -> Result<Tensor> {
        let mut x = features.clone();
        for index in 1..=self.hidden.len() + 1 {
            let layer = format!("l{index}");
            if index > 1 {
                x = self
                    .between(params, &x, &format!("l{}", index - 1), mode)
                    .context(format_args!("values after layer l{}", index - 1))?;
            }
            let (weight, bias) =
                (&params[&format!("{layer}.weight")], &params[&format!("{layer}.bias")]);
            x = linear(&x, weight, bias)
                .context(format_args!("layer {layer} with input of shape {:?}", x.dims()))?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Model, Table, array::Array, weights::Weights};
    use candle_core::{DType, Device};

    fn spec() -> MlpSpec {
        MlpSpec { inputs: 3, hidden: vec![5, 4], classes: 3, ..MlpSpec::default() }
    }

    #[test]
    fn parameters_depend_on_seed_and_name_alone() -> Result<()> {
        let one = Mlp::init(spec(), 1)?.weights()?;
        assert_eq!(one, Mlp::init(spec(), 1)?.weights()?);
        assert_ne!(one, Mlp::init(spec(), 2)?.weights()?);
        let deeper = Mlp::init(MlpSpec { hidden: vec![5, 4, 7], ..spec() }, 1)?.weights()?;
        assert_eq!(one.get("l2.weight"), deeper.get("l2.weight"));
        assert_eq!(one.count(), 3 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3);
        assert!(
            one.get("l1.weight")
                .unwrap()
                .data()
                .iter()
                .all(|value| value.abs() <= 1.0 / 3_f32.sqrt())
        );
        Ok(())
    }

    #[test]
    fn gradients_are_those_of_finite_differences() -> Result<()> {
        let mut params = BTreeMap::new();
        for (name, var) in Mlp::init(spec(), 4)?.params() {
            params.insert(
                name.clone(),
                Var::from_tensor(&var.to_dtype(DType::F64).unwrap()).unwrap(),
            );
        }
        let model = Mlp::from_params(spec(), params.clone())?;
        let batch = Batch {
            features: Tensor::new(
                &[[0.3_f64, -1.2, 0.8], [1.5, 0.1, -0.4], [-0.7, 0.9, 0.2], [0.6, 0.6, -1.1]],
                &Device::Cpu,
            )
            .unwrap(),
            labels: Tensor::new(&[0_u32, 2, 1, 2], &Device::Cpu).unwrap(),
        };
        let loss = || model.loss(&batch).unwrap().to_scalar::<f64>().unwrap();
        let grads = model.loss(&batch)?.backward().unwrap();
        let (width, mut largest) = (1e-6, 0_f64);
        for (name, var) in &params {
            let gradient = grads.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for index in 0..values.len() {
                let at = |value: f64| {
                    let mut moved = values.clone();
                    moved[index] = value;
                    var.set(&Tensor::from_vec(moved, var.dims(), &Device::Cpu).unwrap()).unwrap();
                    loss()
                };
                let slope = (at(values[index] + width) - at(values[index] - width)) / (2.0 * width);
                at(values[index]);
                assert!(
                    (slope - gradient[index]).abs() < 1e-7,
                    "{name}[{index}]: {slope} is not {}",
                    gradient[index]
                );
                largest = largest.max(slope.abs());
            }
        }
        assert!(largest > 0.05, "the gradients are not all zero");
        Ok(())
    }

    #[test]
    fn without_hidden_layers_it_is_logistic_regression() -> Result<()> {
        let spec = MlpSpec { inputs: 2, hidden: vec![], classes: 2, ..MlpSpec::default() };
        let weights = Weights::from_iter([
            ("l1.weight".to_owned(), Array::new([2, 2], vec![1.0, 2.0, -1.0, 0.5])?),
            ("l1.bias".to_owned(), Array::new([2], vec![0.25, -0.25])?),
        ]);
        let model = Mlp::from_weights(spec, &weights)?;
        let x = Tensor::new(&[[3_f32, -1.0]], &Device::Cpu).unwrap();
        assert_eq!(model.logits(&x)?.to_vec2::<f32>().unwrap(), [[1.25, -3.75]]);
        let p = model.probabilities(&x)?.to_vec2::<f32>().unwrap();
        assert!(
            (p[0][0] - 1.0 / (1.0 + (-5_f32).exp())).abs() < 1e-6
                && (p[0][0] + p[0][1] - 1.0).abs() < 1e-6
        );
        assert_eq!(model.predict(&x)?, [0]);
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_refused_by_name() -> Result<()> {
        let model = Mlp::init(spec(), 0)?;
        let x = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            model.logits(&x).unwrap_err().to_string(),
            "features have shape [2, 4], the model needs [rows, 3]"
        );
        let mut weights = model.weights()?;
        weights.insert("l2.bias", Array::zeros([9]));
        let refused =
            |weights: &Weights| Mlp::from_weights(spec(), weights).unwrap_err().to_string();
        assert_eq!(refused(&weights), "parameter `l2.bias` has shape [9], the model needs [4]");
        weights.remove("l2.bias");
        assert_eq!(refused(&weights), "parameter `l2.bias` of shape [4] is missing");
        let mut weights = model.weights()?;
        weights.insert("l9.bias", Array::zeros([9]));
        assert_eq!(refused(&weights), "the model has no parameter `l9.bias`");
        let table = Table::new(3, vec![0.0; 6], vec![0, 3])?;
        assert_eq!(
            model.check(&table).unwrap_err().to_string(),
            "row 1 is of class 3, the model has classes 0 to 2"
        );
        assert!(Mlp::init(MlpSpec { hidden: vec![0], ..spec() }, 0).is_err());
        Ok(())
    }
}
