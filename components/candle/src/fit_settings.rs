//! The settings that the models which learn a table share.

use crate::{
    data::Table,
    fit::Fit,
    hooks::GradientHook,
    optim::{AdamW, Optimizer},
    schedule::{Constant, Schedule},
};
use superduper::{Artifact, Settings};

/// How a model that learns a table is trained.
///
/// [`Classifier`](crate::Classifier), [`CnnClassifier`](crate::CnnClassifier),
/// [`LogisticRegression`](crate::LogisticRegression) and
/// [`LinearRegression`](crate::LinearRegression) hold it in their field `fit`. Their builders have
/// its setters where [`FitSettingsSetters`] is imported, as the prelude of superduper does.
///
/// ```
/// use superduper::{Artifact, Component};
/// use superduper_candle::{Classifier, FitSettingsSetters, Table};
///
/// let table = Artifact::new(Table::new(1, vec![0.0, 1.0], vec![0, 1])?);
/// let sides = Classifier::builder("sides").table(table).inputs(1).classes(2);
/// let sides = sides.epochs(100).validation(0.1).patience(5).build()?;
/// assert_eq!((sides.fit.epochs, sides.fit.batch), (100, 32));
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Settings)]
pub struct FitSettings {
    /// How often each row is seen, at most; 30 if not given.
    #[component(breaking, default = 30)]
    pub epochs: u64,
    /// Rows that are computed at once; 32 if not given.
    #[component(breaking, default = 32)]
    pub batch: usize,
    /// How many batches make one step, see
    /// [`TrainLoop::accumulate`](crate::TrainLoop::accumulate); 1 if not given.
    #[component(breaking, default = 1)]
    pub accumulate: usize,
    /// The seed of initial weights, split and order of the rows; 0 if not given.
    #[component(breaking, default)]
    pub seed: u64,
    /// The part of the rows to evaluate on, from 0 to 1; 0.2 if not given.
    #[component(breaking, default = 0.2)]
    pub held_out: f64,
    /// The part of the other rows to validate on after each epoch, from 0 to 1; 0 if not given.
    /// With such rows the weights are those that do best on them, else those of the last step.
    #[component(breaking, default)]
    pub validation: f64,
    /// After how many epochs in a row without a smaller loss on the rows to validate on the
    /// training ends; never if not given.
    #[component(breaking, default)]
    pub patience: Option<u32>,
    /// How the parameters move; [`AdamW`] as it comes if not given.
    #[component(breaking, default = Box::new(AdamW::default()))]
    pub optimizer: Box<dyn Optimizer>,
    /// How the learning rate changes; [`Constant`] if not given.
    #[component(breaking, default = Box::new(Constant {}))]
    pub schedule: Box<dyn Schedule>,
    /// What is done to the gradients before each step, such as [`ClipNorm`](crate::ClipNorm).
    #[component(breaking, default)]
    pub hooks: Vec<Box<dyn GradientHook>>,
}

impl FitSettings {
    /// How a table is learned with these settings.
    pub(crate) fn of(&self, table: Artifact<Table>) -> Fit<'_> {
        Fit {
            table,
            epochs: self.epochs,
            batch: self.batch,
            accumulate: self.accumulate,
            seed: self.seed,
            held_out: self.held_out,
            validation: self.validation,
            patience: self.patience,
            optimizer: &*self.optimizer,
            schedule: &*self.schedule,
            hooks: &self.hooks,
        }
    }
}
