//! The values that a search tries for one setting.

use crate::{arg::Arg, rng::Rng};
use std::ops::{Range, RangeInclusive};
use superduper::{Error, Result, Value};

/// The values that a search tries for one setting: a list, or a range to draw from.
///
/// Arrays and vectors of what can be an [`Arg`] become a list by `into()`, a `Range<f64>` a
/// [`uniform`](Values::uniform) range, a `RangeInclusive<i64>` a range of
/// [`integers`](Values::integers).
///
/// ```
/// use superduper_train::{Search, Values};
///
/// let search = Search::random(20, 7)
///     .over("learning_rate", Values::log_uniform(1e-4..1e-1))
///     .over("momentum", 0.0..1.0)
///     .over("layers", 1..=4)
///     .over("hidden", [vec![64], vec![64, 32]]);
/// assert_eq!(search.id("s").candidates()?.len(), 20);
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Values(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// `None` for an item that cannot be stored.
    List(Vec<Option<Value>>),
    Uniform(Range<f64>),
    LogUniform(Range<f64>),
    Integers(RangeInclusive<i64>),
}

impl Values {
    /// Each number of the range is as likely as the others.
    pub fn uniform(range: Range<f64>) -> Self {
        Values(Kind::Uniform(range))
    }

    /// Each order of magnitude is as likely as the others: for learning rates and the like. The
    /// range begins above 0.
    pub fn log_uniform(range: Range<f64>) -> Self {
        Values(Kind::LogUniform(range))
    }

    /// Whole numbers, the last one of the range included.
    pub fn integers(range: RangeInclusive<i64>) -> Self {
        Values(Kind::Integers(range))
    }

    /// Refuse what nothing can be drawn from.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("`{name}`: {what}")));
        match &self.0 {
            Kind::List(items) if items.is_empty() => wrong("the list of values is empty"),
            Kind::List(items) if items.iter().any(Option::is_none) => {
                wrong("infinity, NaN, models and paths that are not UTF-8 cannot be searched over")
            }
            Kind::Uniform(Range { start, end }) | Kind::LogUniform(Range { start, end })
                if !(start.is_finite() && end.is_finite() && start < end) =>
            {
                wrong(&format!("the range {start}..{end} has no numbers"))
            }
            Kind::LogUniform(Range { start, .. }) if *start <= 0.0 => {
                wrong(&format!("a logarithmic range begins above 0, not at {start}"))
            }
            Kind::Integers(range) if range.is_empty() => {
                wrong(&format!("the range {}..={} has no numbers", range.start(), range.end()))
            }
            _ => Ok(()),
        }
    }

    /// All values, for a grid; `None` for a range of real numbers.
    pub(super) fn all(&self) -> Option<Vec<Value>> {
        match &self.0 {
            Kind::List(items) => items.iter().cloned().collect(),
            Kind::Integers(range) => Some(range.clone().map(Value::from).collect()),
            Kind::Uniform(_) | Kind::LogUniform(_) => None,
        }
    }

    /// How many values a grid has here; `None` for a range of real numbers.
    pub(super) fn count(&self) -> Option<u128> {
        match &self.0 {
            Kind::List(items) => Some(items.len() as u128),
            Kind::Integers(range) => Some(range.end().abs_diff(*range.start()) as u128 + 1),
            Kind::Uniform(_) | Kind::LogUniform(_) => None,
        }
    }

    /// One value at random.
    pub(super) fn draw(&self, rng: &mut Rng) -> Value {
        let between = |rng: &mut Rng, from: f64, to: f64| from + (to - from) * rng.next_f64();
        match &self.0 {
            Kind::List(items) => {
                let at = rng.below(items.len() as u64) as usize;
                items.get(at).cloned().flatten().unwrap_or_default()
            }
            Kind::Uniform(range) => between(rng, range.start, range.end).into(),
            Kind::LogUniform(range) => between(rng, range.start.ln(), range.end.ln()).exp().into(),
            Kind::Integers(range) => {
                let offset = rng.below(range.end().abs_diff(*range.start()).saturating_add(1));
                range.start().saturating_add_unsigned(offset).into()
            }
        }
    }
}

impl<T: Into<Arg>> FromIterator<T> for Values {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let plain = |item: T| match item.into() {
            Arg::Value(value) => Some(value),
            _ => None,
        };
        Values(Kind::List(items.into_iter().map(plain).collect()))
    }
}

impl<T: Into<Arg>, const N: usize> From<[T; N]> for Values {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Arg>> From<Vec<T>> for Values {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl From<Range<f64>> for Values {
    fn from(range: Range<f64>) -> Self {
        Values::uniform(range)
    }
}

impl From<RangeInclusive<i64>> for Values {
    fn from(range: RangeInclusive<i64>) -> Self {
        Values::integers(range)
    }
}
