//! What is searched, and by which metric.

use super::{candidate::Candidate, run::SearchRun, values::Values};
use crate::{checkpoints::Direction, module::Train, rng::Rng, spec::TrainSpec, trainer::Trainer};
use std::collections::{BTreeMap, HashSet};
use superduper::{Error, Result, Value};

/// More trainings than this are most often a mistake.
const MOST: u128 = 10_000;

/// A search for good settings: a grid of all combinations, or candidates at random.
///
/// Each candidate is a training of the trainer, so that searches run in threads or processes, as
/// many at once as `max_concurrent` says, with checkpoints, limits and retention. A candidate that
/// fails does not end the search.
///
/// ```no_run
/// # use superduper::prelude::*;
/// # use superduper_train::{Search, prelude::*};
/// # #[derive(Component, Clone)]
/// # struct Net { identifier: String, hidden: u64 }
/// # impl Train for Net {
/// #     fn train(&mut self, _ctx: &mut TrainContext) -> Result<Trained> {
/// #         Ok(Trained::model(self.clone()))
/// #     }
/// # }
/// # trains!(Net);
/// # async fn example(trainer: Trainer) -> Result<()> {
/// let search = Search::grid()
///     .id("digits")
///     .over("learning_rate", [0.1, 0.01])
///     .over("hidden", [16, 64])
///     .by("validation_loss", Direction::Lower);
/// let run = search
///     .start(&trainer, |candidate| {
///         // A field of the module, and an argument of the spec.
///         let module = Net { identifier: "net".into(), hidden: candidate.get("hidden")? };
///         Ok((module, TrainSpec::new().arg("rate", candidate.get::<f64>("learning_rate")?)))
///     })
///     .await?;
/// let found = run.wait().await?; // or `run.follow()`, with the feature `progress`
/// println!("{found}");
/// let model: Net = found.best()?.load().await?;
/// # Ok(()) }
/// ```
///
/// # Guarantees
/// - The candidates are a function of the search: a random one of its seed, too.
/// - The ids of the trainings are a function of the search's id and of a candidate's values. After
///   a crash, or with more values, the same call goes on with the trainings that are there, see
///   [`Trainer::train_or_resume`]. Several processes may call it at once.
///
/// # Assumptions
/// The trainings, with their metrics, are kept as long as the search goes on: see `retention`.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    id: Option<String>,
    /// Candidates and seed; `None` for a grid.
    random: Option<(usize, u64)>,
    space: Vec<(String, Values)>,
    pub(super) metric: Option<(String, Direction)>,
    pub(super) by_last: bool,
}

impl Search {
    /// All combinations of the values.
    pub fn grid() -> Self {
        Search { id: None, random: None, space: Vec::new(), metric: None, by_last: false }
    }

    /// So many candidates at random. More of them later keep those that were there before.
    pub fn random(candidates: usize, seed: u64) -> Self {
        Search { random: Some((candidates, seed)), ..Search::grid() }
    }

    /// Set the id, from which those of the trainings are made. A search needs one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Search over a setting.
    pub fn over(mut self, name: impl Into<String>, values: impl Into<Values>) -> Self {
        self.space.push((name.into(), values.into()));
        self
    }

    /// Choose the metric by which candidates are compared: the best value that a training measured.
    /// A search needs one.
    pub fn by(mut self, metric: impl Into<String>, direction: Direction) -> Self {
        self.metric = Some((metric.into(), direction));
        self
    }

    /// Compare the last finite value that each training measured, not the best one. Infinity and
    /// NaN are passed over.
    pub fn by_last_value(mut self) -> Self {
        self.by_last = true;
        self
    }

    /// The candidates, each once.
    ///
    /// # Errors
    /// `InvalidInput` for a search without id, or without values, or with values that cannot be
    /// used; for a grid over a range of real numbers, and for one of more than 10,000 candidates.
    pub fn candidates(&self) -> Result<Vec<Candidate>> {
        let id = self.id.as_deref().ok_or_else(|| {
            Error::invalid("a search needs an id").with_hint("set it with `.id(\"…\")`")
        })?;
        if self.space.is_empty() {
            return Err(Error::invalid(format!("search `{id}` has nothing to search over"))
                .with_hint("add settings with `.over(name, values)`"));
        }
        let mut names = HashSet::new();
        for (name, values) in &self.space {
            values.check(name).map_err(|error| error.context(format_args!("search `{id}`")))?;
            if !names.insert(name) {
                return Err(Error::invalid(format!("search `{id}` has `{name}` twice")));
            }
        }
        let combinations = match self.random {
            Some((count, seed)) => self.drawn(id, count, seed)?,
            None => self.product(id)?,
        };
        let mut seen = HashSet::new();
        let candidates = combinations.into_iter().map(|values| Candidate::new(id, values));
        Ok(candidates.filter(|candidate| seen.insert(candidate.id().to_owned())).collect())
    }

    fn drawn(&self, id: &str, count: usize, seed: u64) -> Result<Vec<BTreeMap<String, Value>>> {
        if count == 0 || count as u128 > MOST {
            let text = format!("search `{id}` has {count} candidates, not 1 to {MOST}");
            return Err(Error::invalid(text));
        }
        let draw = |place: usize, (name, values): &(String, Values)| {
            // A stream for each candidate and name: neither order nor number matter.
            let mut rng = Rng::named(seed, &format!("{place} {name}"));
            (name.clone(), values.draw(&mut rng))
        };
        let candidate = |place| self.space.iter().map(|setting| draw(place, setting)).collect();
        Ok((0..count).map(candidate).collect())
    }

    fn product(&self, id: &str) -> Result<Vec<BTreeMap<String, Value>>> {
        let mut count = 1_u128;
        for (name, values) in &self.space {
            let Some(here) = values.count() else {
                let text = format!("search `{id}`: a grid needs a list of values for `{name}`");
                return Err(Error::invalid(text)
                    .with_hint("a range of real numbers is for `Search::random`"));
            };
            count = count.saturating_mul(here);
        }
        if count > MOST {
            let text = format!("search `{id}`: a grid of {count} candidates is too large");
            return Err(Error::invalid(text)
                .with_hint(format!("at most {MOST}; `Search::random` tries some of them")));
        }
        let mut all = vec![BTreeMap::new()];
        for (name, values) in &self.space {
            let values = values.all().unwrap_or_default();
            let with = |before: BTreeMap<String, Value>| {
                values.iter().map(move |value| {
                    let mut values = before.clone();
                    values.insert(name.clone(), value.clone());
                    values
                })
            };
            all = all.into_iter().flat_map(with).collect();
        }
        Ok(all)
    }

    /// Submit the trainings of all candidates, or go on with those that are there: see
    /// [`Trainer::train_or_resume`]. `make` gives module and spec of each; where it fails, or where
    /// they are refused, the candidate has failed and the others go on.
    ///
    /// # Errors
    /// Those of [`candidates`](Search::candidates); `InvalidInput` for a search without a metric;
    /// `Store`; `UnknownKind` for a module that was not made known with `trains!`.
    pub async fn start<M: Train>(
        &self,
        trainer: &Trainer,
        make: impl FnMut(&Candidate) -> Result<(M, TrainSpec)> + Send,
    ) -> Result<SearchRun> {
        let candidates = self.candidates()?;
        let id = self.id.clone().unwrap_or_default();
        let (metric, direction) = self.metric.clone().ok_or_else(|| {
            Error::invalid(format!("search `{id}` has no metric"))
                .with_hint("choose it with `.by(\"loss\", Direction::Lower)`")
        })?;
        SearchRun::start(trainer, (id, metric, direction, self.by_last), candidates, make).await
    }
}
