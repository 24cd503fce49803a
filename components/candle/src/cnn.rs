//! A convolutional network that classifies images.
//!
//! Parameters are named `c1.weight`, `c1.bias` and so on for the convolutions, `l1.weight` and so
//! on for the layers after them, `c1_bn.weight` and so on for batch norms; their shapes and the
//! order of their values are those of PyTorch, so weights can be exchanged.

use crate::{
    conv::{self, Sizes},
    dropout::{self, dropout},
    mlp::MlpSpec,
    mode::Mode,
    net::{Net, NetSpec},
    norm::{self, batch_norm},
};
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use superduper::{Error, Result, ResultExt};

/// The sizes of a convolutional network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CnnSpec {
    /// Channels, height and width of an image; a row of a table is an image in this order, row
    /// after row of each channel.
    pub image: [usize; 3],
    /// The convolutions, from the image on.
    pub convolutions: Vec<Convolution>,
    /// The width of each hidden layer after them.
    #[serde(default)]
    pub hidden: Vec<usize>,
    /// The number of classes.
    pub classes: usize,
    /// The probability that a value of a pooled image or of a hidden layer is dropped while the
    /// network learns; at least 0 and below 1. 0 if not given.
    #[serde(default, skip_serializing_if = "dropout::is_off")]
    pub dropout: f64,
    /// Whether each convolution and each hidden layer has a batch norm, before the rectifier;
    /// `false` if not given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
}

/// A convolution with step 1, a rectifier, and the largest value of each square of `pool` by
/// `pool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convolution {
    /// The channels it gives.
    pub filters: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Zeros around the image; 0 if not given.
    #[serde(default)]
    pub padding: usize,
    /// Height and width of the squares; with 1 nothing is pooled. What does not fill a square is
    /// left out.
    pub pool: usize,
}

impl CnnSpec {
    /// Name and shape of each parameter and buffer: convolutions are
    /// `[filters, channels, kernel, kernel]`, the rest as in [`crate::MlpSpec`].
    pub fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::new();
        for (index, sizes) in self.convolutions().enumerate() {
            let layer = index + 1;
            shapes.insert(
                format!("c{layer}.weight"),
                vec![sizes.filters, sizes.channels, sizes.kernel, sizes.kernel],
            );
            shapes.insert(format!("c{layer}.bias"), vec![sizes.filters]);
            if self.batch_norm {
                let name = norm::after(&format!("c{layer}"));
                shapes.extend(norm::parameters(&name, sizes.filters));
            }
        }
        shapes.extend(self.head().parameters());
        shapes
    }

    /// The features of an image: the width of a row of a table.
    pub fn inputs(&self) -> usize {
        self.image.iter().product()
    }

    fn convolutions(&self) -> impl Iterator<Item = Sizes> {
        let image = self.image;
        self.convolutions.iter().scan(image, |[channels, height, width], convolution| {
            let Convolution { filters, kernel, padding, pool } = *convolution;
            let sizes = Sizes {
                channels: *channels,
                height: *height,
                width: *width,
                filters,
                kernel,
                padding,
                pool,
            };
            let (pooled_height, pooled_width) = sizes.pooled();
            (*channels, *height, *width) = (filters, pooled_height, pooled_width);
            Some(sizes)
        })
    }

    /// Channels, height and width of what the last convolution gives.
    fn last(&self) -> [usize; 3] {
        self.convolutions().last().map_or(self.image, |sizes| {
            let (height, width) = sizes.pooled();
            [sizes.filters, height, width]
        })
    }

    /// The layers after the convolutions.
    fn head(&self) -> MlpSpec {
        MlpSpec {
            inputs: self.last().iter().product(),
            hidden: self.hidden.clone(),
            classes: self.classes,
            dropout: self.dropout,
            batch_norm: self.batch_norm,
        }
    }

    /// All convolutions, then each image as a row, channel after channel.
    fn convolve(
        &self,
        params: &BTreeMap<String, Var>,
        images: &Tensor,
        mode: Mode,
    ) -> candle_core::Result<Tensor> {
        let rows = images.dims()[0];
        let ([channels, height, width], [filters, last_height, last_width]) =
            (self.image, self.last());
        let mut x =
            images.reshape((rows, channels, height, width))?.permute((0, 2, 3, 1))?.contiguous()?;
        for (index, sizes) in self.convolutions().enumerate() {
            let layer = format!("c{}", index + 1);
            let (weight, bias) =
                (&params[&format!("{layer}.weight")], &params[&format!("{layer}.bias")]);
            x = if self.batch_norm {
                let convolved = conv::plain(&x, weight, bias, sizes)?;
                let normed = batch_norm(&convolved, params, &norm::after(&layer), mode)?;
                conv::pool(&normed, sizes)?.relu()?
            } else {
                conv::block(&x, weight, bias, sizes)?
            };
            x = dropout(x, self.dropout, mode, &layer)?;
        }
        x.permute((0, 3, 1, 2))?.contiguous()?.reshape((rows, filters * last_height * last_width))
    }
}

/// A convolutional network: `xₖ₊₁ = pool(max(0, xₖ * W + b))`, then the layers of an
/// [`crate::Mlp`]. With batch norm the values are normalized before `max`, and with dropout they
/// are dropped after `pool`.
pub type Cnn = Net<CnnSpec>;

impl NetSpec for CnnSpec {
    const ROWS: &'static str = "images";

    fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        CnnSpec::parameters(self)
    }

    fn inputs(&self) -> usize {
        CnnSpec::inputs(self)
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn check(&self) -> Result<()> {
        let empty = |convolution: &Convolution| {
            convolution.filters == 0 || convolution.kernel == 0 || convolution.pool == 0
        };
        if let Some(index) = self.convolutions.iter().position(empty) {
            return Err(Error::invalid(format!(
                "convolution {} has no filters, kernel or pool: {:?}",
                index + 1,
                self.convolutions[index]
            )));
        }
        for (index, sizes) in self.convolutions().enumerate() {
            let (height, width) = sizes.pooled();
            if height == 0 || width == 0 {
                return Err(Error::invalid(format!(
                    "convolution {} leaves nothing of an image of {} by {}: {:?}",
                    index + 1,
                    sizes.height,
                    sizes.width,
                    self.convolutions[index]
                ))
                .with_hint("take a smaller kernel or pool, or more padding"));
            }
        }
        self.head().check()
    }

    fn logits(&self, params: &BTreeMap<String, Var>, images: &Tensor) -> Result<Tensor> {
        self.logits_in(params, images, Mode::Eval)
    }

    fn logits_in(
        &self,
        params: &BTreeMap<String, Var>,
        images: &Tensor,
        mode: Mode,
    ) -> Result<Tensor> {
        let x = self
            .convolve(params, images, mode)
            .context(format_args!("convolutions of images {:?}", images.dims()))?;
        self.head().logits_in(params, &x, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Model, Table, array::Array};
    use candle_core::{DType, Device};

    fn spec() -> CnnSpec {
        CnnSpec {
            image: [2, 6, 5],
            convolutions: vec![
                Convolution { filters: 4, kernel: 3, padding: 1, pool: 2 },
                Convolution { filters: 3, kernel: 2, padding: 0, pool: 1 },
            ],
            hidden: vec![6],
            classes: 3,
            ..CnnSpec::default()
        }
    }

    #[test]
    fn parameters_are_named_and_shaped_as_in_pytorch() -> Result<()> {
        let shapes: Vec<_> = spec().parameters().into_iter().collect();
        let named = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
        let expected = [
            named("c1.bias", &[4]),
            named("c1.weight", &[4, 2, 3, 3]),
            named("c2.bias", &[3]),
            named("c2.weight", &[3, 4, 2, 2]),
            named("l1.bias", &[6]),
            // 6 by 5 pools to 3 by 2, which a kernel of 2 makes 2 by 1.
            named("l1.weight", &[6, 6]),
            named("l2.bias", &[3]),
            named("l2.weight", &[3, 6]),
        ];
        assert_eq!(shapes, expected);
        let weights = Cnn::init(spec(), 1)?.weights()?;
        assert_eq!(weights, Cnn::init(spec(), 1)?.weights()?);
        assert_ne!(weights, Cnn::init(spec(), 2)?.weights()?);
        assert!(
            weights
                .get("c1.weight")
                .unwrap()
                .data()
                .iter()
                .all(|value| value.abs() <= 1.0 / 18_f32.sqrt())
        );
        Ok(())
    }

    #[test]
    fn gradients_are_those_of_finite_differences() -> Result<()> {
        let mut params = BTreeMap::new();
        for (name, var) in Cnn::init(spec(), 4)?.params() {
            params.insert(
                name.clone(),
                Var::from_tensor(&var.to_dtype(DType::F64).unwrap()).unwrap(),
            );
        }
        let model = Cnn::from_params(spec(), params.clone())?;
        let mut rng = crate::Rng::named(9, "images");
        let images: Vec<f64> = (0..4 * 60).map(|_| f64::from(rng.uniform()) * 2.0 - 1.0).collect();
        let batch = Batch {
            features: Tensor::from_vec(images, (4, 60), &Device::Cpu).unwrap(),
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
                if name.starts_with('c') {
                    largest = largest.max(slope.abs());
                }
            }
        }
        assert!(largest > 0.01, "the gradients are not all zero");
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let refused = |spec: CnnSpec| Cnn::init(spec, 0).unwrap_err().to_string();
        let small = CnnSpec { image: [1, 2, 2], ..spec() };
        assert!(refused(small).starts_with("convolution 2 leaves nothing of an image of 1 by 1: "));
        let mut none = spec();
        none.convolutions[0].pool = 0;
        assert!(refused(none).starts_with("convolution 1 has no filters, kernel or pool: "));
        let model = Cnn::init(spec(), 0)?;
        let images = Tensor::zeros((2, 59), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            model.logits(&images).unwrap_err().to_string(),
            "images have shape [2, 59], the model needs [rows, 60]"
        );
        let mut weights = model.weights()?;
        weights.insert("c2.weight", Array::zeros([3, 4, 3, 3]));
        let error = Cnn::from_weights(spec(), &weights).unwrap_err();
        assert_eq!(
            error.to_string(),
            "parameter `c2.weight` has shape [3, 4, 3, 3], the model needs [3, 4, 2, 2]"
        );
        let table = Table::of_values(60, vec![0.0; 60], vec![1.0])?;
        assert!(
            model
                .check(&table)
                .unwrap_err()
                .to_string()
                .starts_with("the table has values to predict, the model needs classes")
        );
        Ok(())
    }
}
