//! Start a training, follow it, hand in what remote sites send.

mod driver;
mod events;
mod receive;
mod tasks;

pub use driver::{ModelTrainer, TrainerClass};
pub use events::{
    DaisyChainRoundFinished, ModelTestFinished, ModelTrainerEvent, SwagRoundFinished,
    TrainingRoundFinished,
};
pub use receive::Receipt;
pub use tasks::{process_trainer_task, wake_site};
