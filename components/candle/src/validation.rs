//! Scores of a model on tables that are kept aside, stored by table and version of the model.
//!
//! The component's fields may change freely: none is `breaking`, so all results stay in one output,
//! beside each other, and versions of a model can be compared. A score is only comparable on the
//! same rows, so each result carries the digest of its table.

use crate::{data::Table, metrics::Metric, predictor::predict_table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use superduper::{
    Artifact, Component, Error, ErrorKind, JobContext, Output, Result, ResultExt, triggers,
};

/// Scores a model on tables when it is applied, after the model's own jobs.
///
/// ```
/// use std::collections::BTreeMap;
/// use superduper::{Artifact, Db};
/// use superduper_candle::{Classifier, Table, Validation, metrics::{Accuracy, Auc, Metric}};
///
/// # async fn example(db: &Db, digits: Classifier, test: Table) -> superduper::Result<()> {
/// let metrics: Vec<Box<dyn Metric>> = vec![Box::new(Accuracy {}), Box::new(Auc {})];
/// let model: Box<dyn superduper::Component> = Box::new(digits);
/// let validation = Validation::builder("digits")
///     .model(model)
///     .tables(BTreeMap::from([("test".to_owned(), Artifact::new(test))]))
///     .metrics(metrics)
///     .build()?;
/// db.apply(validation).await?;
///
/// let validation: Validation = db.load("digits").await?;
/// for (model, accuracy) in validation.compare("test", "accuracy")? {
///     println!("{model}: {accuracy}"); // candle.Classifier/digits@0: 0.95
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
/// Results of other versions of the model, of other tables and of other metrics stay. Applying it
/// again unchanged computes nothing.
///
/// # Assumptions
/// The model is a [`Predictor`](crate::Predictor).
#[derive(Debug, Component)]
#[component(kind = "candle.Validation")]
pub struct Validation {
    /// The name.
    pub identifier: String,
    /// The model; it is applied with the validation.
    pub model: Box<dyn Component>,
    /// Tables by name.
    pub tables: BTreeMap<String, Artifact<Table>>,
    /// What to compute on each table.
    pub metrics: Vec<Box<dyn Metric>>,
    /// All results so far, by version of the model and table.
    pub results: Output<Vec<Validated>>,
}

/// The scores of a version of a model on a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// Kind, identifier and version of the model, as `candle.Classifier/digits@3`.
    pub model: String,
    /// The name of the table.
    pub table: String,
    /// The digest of the table's content.
    pub digest: String,
    /// The rows of the table.
    pub rows: usize,
    /// The scores by name of the metric.
    pub scores: BTreeMap<String, f64>,
}

#[triggers]
impl Validation {
    /// Gives the new results.
    #[trigger("apply", watch = "*")]
    async fn validate(&self, ctx: &JobContext) -> Result<Vec<Validated>> {
        let mut names = BTreeSet::new();
        if let Some(twice) =
            self.metrics.iter().map(|metric| metric.name()).find(|name| !names.insert(name.clone()))
        {
            return Err(Error::invalid(format!(
                "two metrics have the name `{twice}`; each is stored by its name"
            ))
            .fatal());
        }
        let model = self.model_address(ctx).await?;
        let mut found = Vec::new();
        for (name, artifact) in &self.tables {
            ctx.check_cancelled()?;
            found.push(
                self.score(&model, name, artifact).await.context(format_args!("table `{name}`"))?,
            );
        }
        let mut results =
            if self.results.is_set() { self.results.get()?.to_vec() } else { Vec::new() };
        // Scores of metrics that are not asked for any more stay.
        let mut merged = found.clone();
        for new in &mut merged {
            let earlier =
                results.iter().filter(|old| old.is_of(new)).flat_map(|old| old.scores.clone());
            for (metric, score) in earlier.collect::<Vec<_>>() {
                new.scores.entry(metric).or_insert(score);
            }
        }
        results.retain(|old| !found.iter().any(|new| old.is_of(new)));
        results.extend(merged);
        results
            .sort_by(|a, b| (&a.table, &a.model, &a.digest).cmp(&(&b.table, &b.model, &b.digest)));
        ctx.set(&self.results, results)?;
        Ok(found)
    }
}

impl Validation {
    /// The scores of all versions on the table as it is now, by version of the model; empty for an
    /// unknown metric.
    ///
    /// # Errors
    /// `NotFound` for an unknown table; `NotSetUp` before the validation ran.
    pub fn compare(&self, table: &str, metric: &str) -> Result<BTreeMap<String, f64>> {
        let known =
            || self.tables.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let Some(artifact) = self.tables.get(table) else {
            return Err(Error::not_found(format!("there is no table `{table}`"))
                .with_hint(format!("there is {}", known())));
        };
        let digest = digest(artifact)?;
        let results = self.results.get()?;
        let of_table =
            results.iter().filter(|result| result.table == table && result.digest == digest);
        Ok(of_table
            .filter_map(|result| Some((result.model.clone(), *result.scores.get(metric)?)))
            .collect())
    }

    async fn score(
        &self,
        model: &str,
        name: &str,
        artifact: &Artifact<Table>,
    ) -> Result<Validated> {
        let table = artifact.get().await?;
        let prediction = predict_table(&*self.model, &table).await?;
        let mut scores = BTreeMap::new();
        for metric in &self.metrics {
            let score = metric
                .score(&prediction, &table)
                .context(format_args!("metric `{}`", metric.name()))?;
            if !score.is_finite() {
                return Err(Error::new(
                    ErrorKind::User,
                    format!("the metric `{}` is {score}", metric.name()),
                )
                .fatal());
            }
            scores.insert(metric.name(), score);
        }
        Ok(Validated {
            model: model.to_owned(),
            table: name.to_owned(),
            digest: digest(artifact)?,
            rows: table.rows(),
            scores,
        })
    }

    /// The model as the stored document refers to it: with its version.
    async fn model_address(&self, ctx: &JobContext) -> Result<String> {
        let document = ctx.db()?.show(ctx.address()).await?;
        let address = document["fields"]["model"]["$ref"].as_str();
        address.map(str::to_owned).ok_or_else(|| {
            Error::internal(format!("`{}` does not refer to its model", ctx.address()))
        })
    }
}

impl Validated {
    /// Whether both are of the same version on the same rows.
    fn is_of(&self, other: &Validated) -> bool {
        self.model == other.model && self.table == other.table && self.digest == other.digest
    }
}

fn digest(table: &Artifact<Table>) -> Result<String> {
    let missing = || {
        Error::new(ErrorKind::NotSaved, "the table has no digest yet")
            .with_hint("load the component from a database")
    };
    table.digest().map(|digest| digest.to_string()).ok_or_else(missing)
}
