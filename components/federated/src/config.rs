//! The settings of a federated training.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use superduper::{Encoded, Error, Result};

/// How each site trains. Every site gets the same values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingConfig {
    /// The number of classes that the model predicts. 0: that of the sites' data, which must agree.
    pub num_classes: usize,
    /// The height and width of an image, in pixels, for models of images.
    pub img_size: usize,
    /// How often a site goes through its rows in one round.
    pub local_epochs: u64,
    /// Rows that a site computes at once.
    pub batch_size: usize,
    /// The learning rate of a site's optimizer.
    pub learning_rate: f64,
    /// Arguments for your own model or executor. Where a name is also one of the fields above, this
    /// value wins.
    pub extra: Map<String, Value>,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            num_classes: 0,
            img_size: 224,
            local_epochs: 2,
            batch_size: 32,
            learning_rate: 1e-3,
            extra: Map::new(),
        }
    }
}

impl TrainingConfig {
    /// All arguments by name: the fields, then `extra`, which wins.
    ///
    /// # Errors
    /// `Encode` where a number is not finite.
    pub fn args(&self) -> Result<Map<String, Value>> {
        let Value::Object(mut args) = Encoded::of(self)?.value().clone() else {
            return Err(Error::internal("the settings of a training are an object"));
        };
        args.remove("extra");
        args.extend(self.extra.clone());
        Ok(args)
    }

    /// As [`args`](TrainingConfig::args), with the number of classes that the sites get.
    pub(crate) fn args_with(&self, num_classes: usize) -> Result<Map<String, Value>> {
        let mut args = self.args()?;
        args.insert("num_classes".to_owned(), Value::from(num_classes));
        Ok(args)
    }

    /// The fields as the sites get them: those of `extra` win.
    pub(crate) fn merged(&self) -> Result<TrainingConfig> {
        if self.extra.is_empty() {
            return Ok(self.clone());
        }
        serde_json::from_value(Value::Object(self.args()?)).map_err(|error| {
            Error::invalid(format!(
                "a value of `config.extra` does not fit the field of its name: {error}"
            ))
        })
    }

    pub(crate) fn check(&self) -> Result<()> {
        let merged = self.merged()?;
        if merged.batch_size == 0 {
            return Err(Error::invalid("`config.batch_size` is 0").with_hint("use at least 1"));
        }
        if !(merged.learning_rate.is_finite() && merged.learning_rate > 0.0) {
            let text =
                format!("`config.learning_rate` must be positive, not {}", merged.learning_rate);
            return Err(Error::invalid(text));
        }
        Ok(())
    }
}

/// What becomes of an answer that arrives after its round was closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// The site's job is cancelled, and its answer does not count.
    #[default]
    Drop,
    /// The site goes on, and its answer counts in the round in which it arrives. Until then the site
    /// is not asked again. For embedded sites: late answers of remote ones are refused.
    NextRound,
}

/// Which sites take part in a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// All sites that have not left.
    #[default]
    All,
    /// This share of them, from 0 to 1, rounded up, but at least `min_clients`. Which ones is a
    /// function of the training's seed and the round.
    Fraction(f64),
}

/// Which global models stay loadable, beside the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeepModels {
    /// The models of so many rounds before the newest.
    pub last: usize,
    /// The model that is best by this metric of the model tests. A name that begins with `-` asks
    /// for the smallest value, as in `-loss`.
    pub best: Option<String>,
}

/// Rounds, quorum and time limits. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FederationConfig {
    /// How many rounds to train. A larger number continues a training that is over. With 0 rounds
    /// the first weights are tested, and used for predictions, as they are.
    pub num_rounds: u64,
    /// How many answers a round needs, and with how many it may be closed early. 0: it waits for
    /// all sites that take part, and goes on with those that answered, at least one.
    pub min_clients: usize,
    /// How long a round waits for more answers once it has `min_clients`.
    pub wait_time_after_min_received: f64,
    /// How long after its opening a round is closed at the latest. The opening is on record, so a
    /// restart does not lengthen it.
    pub round_deadline: Option<f64>,
    /// How long an embedded site may go without a sign of life during a job.
    pub heart_beat_timeout: Option<f64>,
    /// A name for people.
    pub job_name: String,
    /// What becomes of late answers.
    pub late: Late,
    /// Which sites take part in a round.
    pub sampling: Sampling,
    /// Which global models stay loadable.
    pub keep: KeepModels,
    /// End the training when the metric of `keep.best` did not improve for so many rounds. Needs
    /// model tests: without them it has no effect.
    pub patience: Option<u64>,
    /// How many bytes of local updates wait in the memory of a process, those of other trainings
    /// included. Further ones wait in the artifact store.
    pub memory: u64,
    /// Settings of the delivery of notifications.
    pub delivery: DeliveryConfig,
}

impl Default for FederationConfig {
    fn default() -> Self {
        FederationConfig {
            num_rounds: 1,
            min_clients: 0,
            wait_time_after_min_received: 10.0,
            round_deadline: None,
            heart_beat_timeout: None,
            job_name: String::new(),
            late: Late::Drop,
            sampling: Sampling::All,
            keep: KeepModels::default(),
            patience: None,
            memory: 1 << 30,
            delivery: DeliveryConfig::default(),
        }
    }
}

impl FederationConfig {
    pub(crate) fn check(&self, sites: usize) -> Result<()> {
        if self.min_clients > sites && sites > 0 {
            let text =
                format!("`min_clients` is {}, but there are {sites} sites", self.min_clients);
            return Err(Error::invalid(text).with_hint("lower it, or add sites"));
        }
        let times = [
            ("wait_time_after_min_received", Some(self.wait_time_after_min_received)),
            ("round_deadline", self.round_deadline),
            ("heart_beat_timeout", self.heart_beat_timeout),
            ("delivery.pause", Some(self.delivery.pause)),
        ];
        for (name, time) in times {
            if time.is_some_and(|time| !(0.0..=MOST_SECONDS).contains(&time)) {
                let text = format!("`federation.{name}` must be from 0 to {MOST_SECONDS} seconds");
                return Err(Error::invalid(text));
            }
        }
        if let Sampling::Fraction(share) = self.sampling
            && !(share > 0.0 && share <= 1.0)
        {
            let text = format!("`sampling` asks for the fraction {share}");
            return Err(Error::invalid(text).with_hint("use a number above 0, at most 1"));
        }
        if self.patience == Some(0) {
            return Err(Error::invalid(
                "`federation.patience` is 0, so that no round would follow",
            )
            .with_hint("use at least 1"));
        }
        if self.patience.is_some() && self.keep.best.is_none() {
            let text = "`federation.patience` is set, but no metric";
            return Err(Error::invalid(text).with_hint("name the metric in `keep.best`"));
        }
        Ok(())
    }
}

/// Ten years.
const MOST_SECONDS: f64 = 315_360_000.0;

/// How notifications are delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryConfig {
    /// Tries after the first one that failed.
    pub retries: u32,
    /// The pause before the first retry, in seconds. Later pauses are longer.
    pub pause: f64,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        DeliveryConfig { retries: 5, pause: 5.0 }
    }
}

/// What a trainer does around the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainerOptions {
    /// Delete the local updates of a round once the global model of the next round is durable.
    pub delete_local_models_after_aggregation: bool,
    /// Test the global model at the sites after each round. Otherwise only after the last one.
    pub model_test_after_each_round: bool,
    /// Never test the global model.
    pub skip_model_tests: bool,
    /// After the last round, let the embedded sites predict their rows with the last global model.
    /// [`ModelTrainer::predictions`](crate::ModelTrainer::predictions) gives what they predicted.
    pub predict: bool,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        TrainerOptions {
            delete_local_models_after_aggregation: true,
            model_test_after_each_round: true,
            skip_model_tests: false,
            predict: false,
        }
    }
}

impl TrainerOptions {
    /// Whether the model is tested when so many of all rounds are done.
    pub(crate) fn tests(&self, done: u64, rounds: u64) -> bool {
        !self.skip_model_tests && (self.model_test_after_each_round || done >= rounds)
    }
}

/// How the uncertainty of a prediction is found. Only `Swag` changes the rounds of a training; the
/// others are on record for the program that predicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "method")]
pub enum UncertaintyMethod {
    /// Not at all.
    #[default]
    None,
    /// By the spread of several models: the newest, and those that `keep` kept.
    Ensemble,
    /// By dropout that stays active while the model predicts.
    McDropout {
        /// How many predictions are drawn.
        samples: usize,
    },
    /// By a normal distribution of the weights, whose moments the sites report after each round
    /// (SWAG-diagonal: Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep
    /// Learning", 2019, arXiv 1902.02476).
    Swag {
        /// How many models are drawn.
        samples: usize,
    },
}
