//! How the learning rate changes during a training.
//!
//! A schedule is a pure function of the step, so a training that continues needs nothing but the
//! step.

use serde::{Deserialize, Serialize};
use std::{f64::consts::PI, fmt::Debug};

/// A factor for the learning rate at each step.
///
/// `Box<dyn Schedule>` can be a field of a component. A schedule of your own is a struct that
/// derives `Debug`, `Serialize` and `Deserialize`, with a name that no other schedule has:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use superduper_candle::Schedule;
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Halving {
///     every: u64,
/// }
///
/// #[typetag::serde(name = "my_crate.Halving")]
/// impl Schedule for Halving {
///     fn factor(&self, step: u64, _steps: u64) -> f64 {
///         0.5_f64.powf((step / self.every) as f64)
///     }
/// }
///
/// let schedule: Box<dyn Schedule> = serde_json::from_str(r#"{"type": "my_crate.Halving", "every": 10}"#)?;
/// assert_eq!(schedule.factor(25, 100), 0.25);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[typetag::serde(tag = "type")]
pub trait Schedule: Debug + Send + Sync {
    /// What the optimizer's learning rate is multiplied by at `step`, counted from 0, of `steps`;
    /// at least 0.
    fn factor(&self, step: u64, steps: u64) -> f64;
}

/// The learning rate never changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

#[typetag::serde(name = "candle.Constant")]
impl Schedule for Constant {
    fn factor(&self, _step: u64, _steps: u64) -> f64 {
        1.0
    }
}

/// The learning rate rises in a line, then falls along half a cosine.
///
/// With `w = warmup`, `f = floor`, steps counted from 0 and `T` of them in all, the factor is
/// `(t + 1) / w` while `t < w`, then `f + (1 - f) (1 + cos(π (t - w) / (T - w))) / 2`. The cosine
/// is that of I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
/// ICLR 2017, equation 5, with one period; the warm-up that of P. Goyal et al., "Accurate, Large
/// Minibatch SGD", 2017, section 2.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosineWarmup {
    /// The number of steps until the full learning rate.
    #[serde(default)]
    pub warmup: u64,
    /// The factor at the end.
    #[serde(default)]
    pub floor: f64,
}

#[typetag::serde(name = "candle.CosineWarmup")]
impl Schedule for CosineWarmup {
    fn factor(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let length = steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / length).min(1.0);
        self.floor + (1.0 - self.floor) * (1.0 + (PI * done).cos()) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_rises_and_falls() {
        let schedule = CosineWarmup { warmup: 10, floor: 0.1 };
        let at = |step| schedule.factor(step, 110);
        assert_eq!((at(0), at(9), at(10)), (0.1, 1.0, 1.0));
        assert!((at(60) - 0.55).abs() < 1e-12);
        assert!((at(110) - 0.1).abs() < 1e-12);
        assert_eq!(at(110), at(500), "beyond the end it stays at the floor");
        assert!((10..109).all(|step| at(step) >= at(step + 1)));
        assert_eq!(
            CosineWarmup { warmup: 10, floor: 0.0 }.factor(4, 5),
            0.5,
            "shorter than its warm-up"
        );
    }

    #[test]
    fn schedules_are_fields() {
        let schedules: Vec<Box<dyn Schedule>> =
            vec![Box::new(Constant {}), Box::new(CosineWarmup { warmup: 3, floor: 0.25 })];
        let text = serde_json::to_string(&schedules).unwrap();
        assert_eq!(
            text,
            r#"[{"type":"candle.Constant"},{"type":"candle.CosineWarmup","warmup":3,"floor":0.25}]"#
        );
        let back: Vec<Box<dyn Schedule>> = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{back:?}"), format!("{schedules:?}"));
    }
}
