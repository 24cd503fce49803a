//! Running moments of the parameters over a training, of which a distribution of weights is made.
//!
//! Invariant: first and second moment have the same names and shapes.

use crate::{
    array::Array,
    weights::{Weights, is_buffer},
};
use candle_core::Var;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use superduper::{Error, Result, Tensors};

/// The mean of the parameters, and of their squares, over the points of a training at which they
/// were added: SWAG with a diagonal covariance.
///
/// With the `n`-th added parameters `θ`:
///
/// ```text
/// first  ← ((n - 1) first  + θ ) / n
/// second ← ((n - 1) second + θ²) / n
/// ```
///
/// and the variance of each parameter is `second - first²`. Moments are kept in f64. Buffers have
/// no part in them, see [`is_buffer`]: a network with the mean of the parameters needs running
/// statistics of its own.
///
/// Source: W. Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep Learning" (SWAG),
/// NeurIPS 2019, arXiv 1902.02476, section 3.2.
///
/// ```
/// use superduper_candle::{Architecture, Moments, Optimizer, Sgd, Table, TrainLoop, go_on};
///
/// let network = Architecture::Linear { inputs: 1 }.init(7)?;
/// let rows = Table::of_values(1, vec![-1.0, 0.0, 1.0], vec![-3.0, 0.0, 3.0])?;
/// let (optimizer, mut moments) = (Sgd::default(), Moments::new());
/// let training = TrainLoop { epochs: 10, ..TrainLoop::default() };
/// training.run(&network, &rows, &optimizer, &mut optimizer.init(), |step| {
///     // The last half of the training, once an epoch.
///     if step.epoch_done && step.epoch >= 5 {
///         moments.add(step.params)?;
///     }
///     go_on()
/// })?;
/// assert_eq!(moments.count(), 5);
/// let (first, second) = (moments.first(), moments.second());
/// # assert_eq!((first.len(), second.len()), (2, 2));
/// # Ok::<(), superduper::Error>(())
/// ```
///
/// A training that is continued needs them as they were: keep them in the checkpoint, beside the
/// [`LoopState`](crate::LoopState), as an `Artifact<Moments>` or as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    count: u64,
    first: BTreeMap<String, Array<f64>>,
    second: BTreeMap<String, Array<f64>>,
}

impl Moments {
    /// The moments of nothing.
    pub fn new() -> Self {
        Moments::default()
    }

    /// Add the parameters of a model as they are: [`Step::params`](crate::Step::params), or
    /// [`Model::params`](crate::Model::params).
    ///
    /// # Errors
    /// Those of [`add_weights`](Moments::add_weights).
    pub fn add(&mut self, params: &BTreeMap<String, Var>) -> Result<()> {
        self.add_weights(&Weights::of(params)?)
    }

    /// Add parameters.
    ///
    /// # Errors
    /// `InvalidInput` for other names or shapes than those added before, and for a value that is
    /// not finite; the moments are then as before.
    pub fn add_weights(&mut self, weights: &Weights) -> Result<()> {
        weights.check_finite()?;
        let added = || weights.iter().filter(|(name, _)| !is_buffer(name));
        if self.count > 0 {
            self.check(added())?;
        }
        let count = self.count as f64;
        for (name, array) in added() {
            let zeros = || array.map(|_| 0.0);
            let first = self.first.entry(name.to_owned()).or_insert_with(zeros);
            let second = self.second.entry(name.to_owned()).or_insert_with(zeros);
            let moments = first.data_mut().iter_mut().zip(second.data_mut());
            for ((first, second), value) in moments.zip(array.data()) {
                let value = f64::from(*value);
                *first = (count * *first + value) / (count + 1.0);
                *second = (count * *second + value * value) / (count + 1.0);
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Refuse other names or shapes than those of the moments.
    fn check<'a>(&self, added: impl Iterator<Item = (&'a str, &'a Array)>) -> Result<()> {
        let mut known = 0;
        for (name, array) in added {
            let Some(first) = self.first.get(name) else {
                return Err(Error::invalid(format!("the moments have no parameter `{name}`")));
            };
            if first.shape() != array.shape() {
                let (found, needed) = (array.shape(), first.shape());
                return Err(Error::invalid(format!(
                    "parameter `{name}` has shape {found:?}, its moments have {needed:?}"
                )));
            }
            known += 1;
        }
        if known == self.first.len() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{known} parameters are added to the moments of {}",
            self.first.len()
        )))
    }

    /// How often parameters were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean of the parameters, rounded to f32; empty where none were added.
    pub fn first(&self) -> Weights {
        self.weights(|first, _| first)
    }

    /// The mean of the squares of the parameters, rounded to f32.
    pub fn second(&self) -> Weights {
        self.weights(|_, second| second)
    }

    /// The variance of each parameter, at least 0: `second - first²`, computed in f64. It is more
    /// exact than what follows from the rounded moments.
    pub fn variance(&self) -> Weights {
        self.weights(|first, second| (second - first * first).max(0.0))
    }

    fn weights(&self, value: impl Fn(f64, f64) -> f64) -> Weights {
        let pairs = self.first.iter().zip(self.second.values());
        pairs
            .map(|((name, first), second)| {
                let mut seconds = second.data().iter();
                let array = first.map(|first| {
                    seconds.next().map_or(0.0, |second| value(*first, *second) as f32)
                });
                (name.clone(), array)
            })
            .collect()
    }

    /// All of it as tensors: f64 by the names `first.…` and `second.…` of each parameter, and
    /// `count`, an i64 of shape `[]`.
    ///
    /// # Errors
    /// None that a model's own names can cause.
    pub fn to_tensors(&self) -> Result<Tensors> {
        let mut tensors = Tensors::new().with(COUNT, &[], &[self.count as i64])?;
        for (prefix, moments) in [(FIRST, &self.first), (SECOND, &self.second)] {
            for (name, array) in moments {
                tensors = tensors.with(format!("{prefix}{name}"), array.shape(), array.data())?;
            }
        }
        Ok(tensors)
    }

    /// Read what [`to_tensors`](Moments::to_tensors) gave.
    ///
    /// # Errors
    /// `InvalidInput` for tensors that are no moments; `Integrity` for bytes that are missing or
    /// not those that were saved.
    pub async fn from_tensors(tensors: &Tensors) -> Result<Self> {
        let mut moments = Moments::new();
        for name in tensors.names().filter(|name| *name != COUNT) {
            let shape = tensors.info(name).map(|info| info.shape.clone()).unwrap_or_default();
            let array = Array::new(shape, tensors.to_vec::<f64>(name).await?)?;
            if let Some(name) = name.strip_prefix(FIRST) {
                moments.first.insert(name.to_owned(), array);
            } else if let Some(name) = name.strip_prefix(SECOND) {
                moments.second.insert(name.to_owned(), array);
            } else {
                return Err(Error::invalid(format!("moments have no tensor `{name}`")));
            }
        }
        let shapes = |moments: &BTreeMap<String, Array<f64>>| {
            moments
                .iter()
                .map(|(name, array)| (name.clone(), array.shape().to_vec()))
                .collect::<Vec<_>>()
        };
        if shapes(&moments.first) != shapes(&moments.second) {
            return Err(Error::invalid("first and second moments are of other parameters"));
        }
        let count = tensors.to_vec::<i64>(COUNT).await?;
        moments.count = match count.as_slice() {
            [count] if *count >= 0 => *count as u64,
            _ => return Err(Error::invalid(format!("{count:?} is no number of added parameters"))),
        };
        Ok(moments)
    }
}

/// The names of the tensors.
const COUNT: &str = "count";
const FIRST: &str = "first.";
const SECOND: &str = "second.";

#[cfg(test)]
mod tests {
    use super::*;
    use superduper::Artifact;

    fn weights(values: [f32; 2]) -> Result<Weights> {
        Ok(Weights::from_iter([
            ("l1.weight".to_owned(), Array::new([1, 2], values.to_vec())?),
            ("l1_bn.running_mean".to_owned(), Array::new([1], vec![9.0])?),
        ]))
    }

    fn data(weights: &Weights) -> Vec<f32> {
        weights.iter().flat_map(|(_, array)| array.data().to_vec()).collect()
    }

    #[test]
    fn moments_are_those_of_all_that_was_added() -> Result<()> {
        let mut moments = Moments::new();
        assert!(moments.first().is_empty());
        for values in [[1.0, -2.0], [2.0, 0.0], [6.0, 5.0]] {
            moments.add_weights(&weights(values)?)?;
        }
        // Means 3 and 1; squares 1 + 4 + 36 = 41 and 4 + 0 + 25 = 29, over 3.
        assert_eq!((moments.count(), data(&moments.first())), (3, vec![3.0, 1.0]));
        assert_eq!(data(&moments.second()), [41.0 / 3.0, 29.0 / 3.0]);
        assert_eq!(data(&moments.variance()), [14.0 / 3.0, 26.0 / 3.0]);
        assert_eq!(moments.first().names().collect::<Vec<_>>(), ["l1.weight"], "no buffers");
        // The variance is exact where the mean is large beside it.
        let mut far = Moments::new();
        for value in [4096.0, 4096.5] {
            far.add_weights(&weights([value, 0.0])?)?;
        }
        assert_eq!(data(&far.variance()), [0.0625, 0.0]);
        Ok(())
    }

    #[test]
    fn other_parameters_are_refused() -> Result<()> {
        let mut moments = Moments::new();
        moments.add_weights(&weights([1.0, 2.0])?)?;
        let before = moments.clone();
        let mut other = weights([1.0, 2.0])?;
        other.insert("l1.weight", Array::zeros([3]));
        let mut refused = |weights: &Weights| moments.add_weights(weights).unwrap_err().to_string();
        assert_eq!(refused(&other), "parameter `l1.weight` has shape [3], its moments have [1, 2]");
        other.remove("l1.weight");
        assert_eq!(refused(&other), "0 parameters are added to the moments of 1");
        other.insert("l2.weight", Array::zeros([3]));
        assert_eq!(refused(&other), "the moments have no parameter `l2.weight`");
        assert!(refused(&weights([1.0, f32::NAN])?).contains("NaN"));
        assert_eq!(moments, before);
        Ok(())
    }

    #[tokio::test]
    async fn they_go_on_from_what_was_saved() -> Result<()> {
        let (mut whole, mut saved) = (Moments::new(), Moments::new());
        for (at, values) in [[0.1, 0.7], [0.3, -1e-3], [1.0 / 3.0, 1e7]].into_iter().enumerate() {
            whole.add_weights(&weights(values)?)?;
            saved.add_weights(&weights(values)?)?;
            saved = match at {
                0 => serde_json::from_str(&serde_json::to_string(&saved)?)?,
                1 => Moments::from_tensors(&saved.to_tensors()?).await?,
                _ => Moments::clone(&*Artifact::new(saved).get().await?),
            };
            assert_eq!(saved, whole);
        }
        let error = Moments::from_tensors(&Tensors::new().with("x", &[1], &[0_f64])?).await;
        assert_eq!(error.unwrap_err().to_string(), "moments have no tensor `x`");
        Ok(())
    }
}
