//! How a network computes: as it learns, as it is used, or as one of many that are drawn from it.

/// What dropout and batch norm do in a forward pass.
///
/// | | dropout | batch norm |
/// |---|---|---|
/// | `Train` | active | statistics of the batch; the running ones are updated |
/// | `Eval` | nothing | running statistics |
/// | `Sample` | active | running statistics |
///
/// A network without dropout and batch norm computes the same in each mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The network learns. Each row has a mask of its own, a function of these numbers, the layer
    /// and the place of the row in its batch; so a training that continues from any step has the
    /// masks of one that was never interrupted.
    Train {
        /// The seed of the training.
        seed: u64,
        /// The steps taken before.
        step: u64,
        /// The part of the step, counted from 0; above 0 where gradients are
        /// [accumulated](crate::TrainLoop::accumulate).
        part: u64,
    },
    /// The network is used.
    #[default]
    Eval,
    /// One of the networks that dropout stands for (Monte Carlo dropout).
    ///
    /// All rows have the same mask, a function of these numbers and the layer. So the masks do not
    /// depend on the rows or their order, and one sample is one network.
    ///
    /// Source: Y. Gal and Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016, arXiv
    /// 1506.02142.
    Sample {
        /// The seed of all samples.
        seed: u64,
        /// Which sample, counted from 0.
        sample: u64,
    },
}

impl Mode {
    /// Whether it is that of a training.
    pub fn is_train(&self) -> bool {
        matches!(self, Mode::Train { .. })
    }
}
