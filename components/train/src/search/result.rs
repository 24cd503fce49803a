//! What a search found.

use super::candidate::{Candidate, write_values};
use crate::{checkpoints::Direction, info::Status, run::TrainingRun};
use serde::de::DeserializeOwned;
use std::{cmp::Ordering, fmt};
use superduper::{ComponentType, Error, ErrorKind, Result};

/// What became of one candidate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trial {
    /// The candidate.
    pub candidate: Candidate,
    /// How its training ended; `None` where it was refused before it was submitted.
    pub status: Option<Status>,
    /// The value of the search's metric; `None` where none was measured. A training that failed may
    /// have one, and is not compared.
    pub value: Option<f64>,
    /// Why it is not compared: the error of the training, or of making it.
    pub error: Option<String>,
    run: Option<TrainingRun>,
}

impl Trial {
    pub(super) fn new(
        candidate: Candidate,
        status: Option<Status>,
        value: Option<f64>,
        error: Option<String>,
        run: Option<TrainingRun>,
    ) -> Self {
        Trial { candidate, status, value, error, run }
    }

    /// The id of the training.
    pub fn id(&self) -> &str {
        self.candidate.id()
    }

    /// The candidate's value of a name.
    ///
    /// # Errors
    /// Those of [`Candidate::get`].
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.candidate.get(name)
    }

    /// The training; `None` where it was refused before it was submitted.
    pub fn run(&self) -> Option<&TrainingRun> {
        self.run.as_ref()
    }

    /// Load its model.
    ///
    /// # Errors
    /// Those of [`TrainingRun::load`]; `JobFailed` where it was refused before it was submitted.
    pub async fn load<M: ComponentType>(&self) -> Result<M> {
        match &self.run {
            Some(run) => run.load().await,
            None => {
                let why = self.error.as_deref().unwrap_or("it was not submitted");
                Err(Error::new(ErrorKind::JobFailed, format!("`{}`: {why}", self.id())))
            }
        }
    }

    /// The value, where the training ended with a model.
    fn score(&self) -> Option<f64> {
        self.value.filter(|_| self.status == Some(Status::Completed))
    }
}

/// `hidden=64, learning_rate=0.1`.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_values(self.candidate.values(), f)
    }
}

/// What a search found: each candidate with its value, and the best.
///
/// Its text is a table, the best first.
#[derive(Debug, Clone)]
pub struct SearchResult {
    id: String,
    metric: String,
    direction: Direction,
    trials: Vec<Trial>,
}

impl SearchResult {
    pub(super) fn new(id: &str, metric: &str, direction: Direction, trials: Vec<Trial>) -> Self {
        SearchResult { id: id.to_owned(), metric: metric.to_owned(), direction, trials }
    }

    /// All candidates, in their order.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// All candidates, the best first. Those that cannot be compared are last.
    pub fn ranked(&self) -> Vec<&Trial> {
        let mut ranked: Vec<&Trial> = self.trials.iter().collect();
        // Stable: the earlier one of two equals comes first.
        ranked.sort_by(|a, b| match (a.score(), b.score()) {
            (Some(a), Some(b)) if self.direction.better(a, b) => Ordering::Less,
            (Some(a), Some(b)) if self.direction.better(b, a) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            _ => Ordering::Equal,
        });
        ranked
    }

    /// The best candidate of those that ended with a model and a value.
    ///
    /// # Errors
    /// `JobFailed` where there is none, with the first reason.
    pub fn best(&self) -> Result<&Trial> {
        let best = self.ranked().into_iter().next().filter(|trial| trial.score().is_some());
        best.ok_or_else(|| none_measured(&self.id, &self.metric, &self.trials))
    }

    /// The candidates that are not compared: failed, refused, cancelled, or without the metric.
    pub fn failed(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(|trial| trial.score().is_none())
    }
}

impl fmt::Display for SearchResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed().count();
        write!(f, "search `{}`: {} candidates by `{}`", self.id, self.trials.len(), self.metric)?;
        if failed > 0 {
            write!(f, ", {failed} of them failed")?;
        }
        for trial in self.ranked() {
            let value = match (trial.score(), &trial.error) {
                (Some(value), _) => value.to_string(),
                (None, Some(error)) => error.lines().next().unwrap_or_default().to_owned(),
                (None, None) => "-".to_owned(),
            };
            write!(f, "\n  {trial}: {value} ({})", trial.id())?;
        }
        Ok(())
    }
}

/// The error of a search of which no candidate can be compared.
fn none_measured(id: &str, metric: &str, trials: &[Trial]) -> Error {
    let text = format!(
        "no candidate of the search `{id}` ended with a value of `{metric}`, of {} that were tried",
        trials.len()
    );
    let first = trials.iter().find_map(|trial| Some((trial, trial.error.as_deref()?)));
    let error = Error::new(ErrorKind::JobFailed, text);
    match first {
        Some((trial, why)) => error.with_hint(format!("`{}` ({trial}): {why}", trial.id())),
        None => error,
    }
}
