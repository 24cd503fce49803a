//! The trainings of a search that were submitted.

use super::{
    candidate::Candidate,
    result::{SearchResult, Trial},
};
use crate::{
    checkpoints::Direction,
    info::{Info, Status},
    metrics::Series,
    module::Train,
    run::TrainingRun,
    spec::TrainSpec,
    trainer::Trainer,
};
use superduper::{ErrorKind, Result};

/// A search whose trainings are on record. Dropping it changes nothing: the trainings go on, and
/// [`Search::start`](crate::Search::start) finds them again.
#[derive(Debug, Clone)]
pub struct SearchRun {
    pub(super) id: String,
    pub(super) metric: String,
    pub(super) direction: Direction,
    by_last: bool,
    pub(super) started: Vec<Started>,
}

/// A candidate with its training, or with the reason why there is none.
#[derive(Debug, Clone)]
pub(super) struct Started {
    pub(super) candidate: Candidate,
    pub(super) run: std::result::Result<TrainingRun, String>,
}

impl SearchRun {
    pub(super) async fn start<M: Train>(
        trainer: &Trainer,
        (id, metric, direction, by_last): (String, String, Direction, bool),
        candidates: Vec<Candidate>,
        mut make: impl FnMut(&Candidate) -> Result<(M, TrainSpec)> + Send,
    ) -> Result<Self> {
        let mut started = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let submitted = match make(&candidate) {
                Ok((module, mut spec)) => {
                    // Waiting here would run one after the other.
                    spec.wait = false;
                    trainer.train_or_resume(candidate.id(), module, spec).await
                }
                Err(error) => Err(error),
            };
            let run = match submitted {
                Ok(run) => Ok(run),
                // Neither is about this candidate.
                Err(error) if matches!(error.kind(), ErrorKind::Store | ErrorKind::UnknownKind) => {
                    return Err(error.context(format_args!("search `{id}`")));
                }
                Err(error) => Err(error.to_string()),
            };
            started.push(Started { candidate, run });
        }
        Ok(SearchRun { id, metric, direction, by_last, started })
    }

    /// The id of the search.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The trainings that were submitted, in the order of the candidates.
    pub fn runs(&self) -> impl Iterator<Item = &TrainingRun> {
        self.started.iter().filter_map(|started| started.run.as_ref().ok())
    }

    /// Wait until all trainings have ended. One that failed is no error here: its trial says so.
    ///
    /// # Errors
    /// `Store`.
    pub async fn wait(&self) -> Result<SearchResult> {
        let mut trials = Vec::with_capacity(self.started.len());
        for started in &self.started {
            let info = match &started.run {
                Ok(run) => Some(run.wait().await?),
                Err(_) => None,
            };
            trials.push(self.trial(started, info).await?);
        }
        Ok(self.result(trials))
    }

    /// Ask all trainings that have not ended to end with what they have, such as when one candidate
    /// is good enough.
    ///
    /// # Errors
    /// `Store`.
    pub async fn stop(&self) -> Result<()> {
        for run in self.runs() {
            run.stop().await?;
        }
        Ok(())
    }

    pub(super) fn result(&self, trials: Vec<Trial>) -> SearchResult {
        SearchResult::new(&self.id, &self.metric, self.direction, trials)
    }

    /// What became of a candidate whose training has ended.
    pub(super) async fn trial(&self, started: &Started, info: Option<Info>) -> Result<Trial> {
        let candidate = started.candidate.clone();
        let run = match &started.run {
            Ok(run) => run,
            Err(error) => return Ok(Trial::new(candidate, None, None, Some(error.clone()), None)),
        };
        let series = Series::of(&run.metrics().await?, &self.metric);
        let finite = series.points.into_iter().filter(|(_, value)| value.is_finite());
        let series = Series { points: finite.collect() };
        let value = match self.by_last {
            true => series.last(),
            false => series.best(self.direction).map(|(_, value)| value),
        };
        let status = info.as_ref().map(|info| info.status);
        let error = match (status, info.and_then(|info| info.error)) {
            (Some(Status::Completed), _) if value.is_none() => {
                Some(format!("it measured no `{}`", self.metric))
            }
            (Some(Status::Completed), _) => None,
            (_, Some(error)) => Some(error.to_string()),
            (status, None) => {
                let status = status.map(|status| status.to_string()).unwrap_or_default();
                Some(format!("it is {status}"))
            }
        };
        Ok(Trial::new(candidate, status, value, error, Some(run.clone())))
    }
}
