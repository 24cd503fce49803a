//! Events of a training, for programs that follow it.

use super::ModelTrainer;
use superduper::{BoxFuture, Error, Result};

/// Something that happened in a training, and what follows from it.
///
/// The jobs of a training act on these events by themselves. `handle` and `next` are for programs
/// that follow along: `handle` waits until the training has acted, and resumes it if no process works
/// on it.
pub trait ModelTrainerEvent: Send + Sync {
    /// The name, such as `TrainingRoundFinished`.
    fn name(&self) -> &'static str;

    /// Wait until the job of the event has ended: the newest one, if there are several rounds. At
    /// most ten minutes.
    ///
    /// # Errors
    /// `InvalidInput` if the event has not happened yet; `JobFailed` if its job failed; `Timeout`.
    fn handle<'a>(&'a self, trainer: &'a ModelTrainer) -> BoxFuture<'a, Result<()>>;

    /// Check that the training goes on. What follows, such as a test, the next round or the end, was
    /// recorded together with the job of the event.
    ///
    /// # Errors
    /// `JobFailed`, with the reasons, if the training is ERROR.
    fn next<'a>(&'a self, trainer: &'a ModelTrainer) -> BoxFuture<'a, Result<()>>;
}

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident: $phase:literal),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $event;

        impl ModelTrainerEvent for $event {
            fn name(&self) -> &'static str {
                stringify!($event)
            }

            fn handle<'a>(&'a self, trainer: &'a ModelTrainer) -> BoxFuture<'a, Result<()>> {
                Box::pin(trainer.finish_phase($phase, stringify!($event)))
            }

            fn next<'a>(&'a self, trainer: &'a ModelTrainer) -> BoxFuture<'a, Result<()>> {
                Box::pin(trainer.check_alive())
            }
        }
    )+

    /// The event of a name.
    pub(super) fn named(name: &str) -> Result<Box<dyn ModelTrainerEvent>> {
        match name {
            $(stringify!($event) => Ok(Box::new($event)),)+
            _ => Err(Error::invalid(format!("there is no event `{name}`"))
                .with_hint(concat!("there are" $(, " ", stringify!($event))+))),
        }
    }
};
}

events! {
    /// All updates of a round have arrived.
    TrainingRoundFinished: "aggregate",
    /// All moments of a SWAG round have arrived.
    SwagRoundFinished: "swag",
    /// All metrics of a model test have arrived.
    ModelTestFinished: "decide",
    /// All updates of a daisy-chained round have arrived.
    DaisyChainRoundFinished: "aggregate",
}
