//! What is asked of one training: arguments, where the model goes, how it is kept.

use crate::{
    arg::Arg,
    args::Args,
    checkpoints::Checkpoints,
    save_path::{SavePath, check_piece},
    span::Span,
};
use serde::{Deserialize, Serialize};
use superduper::Result;

/// What is asked of one training.
///
/// ```
/// use superduper_train::TrainSpec;
///
/// let spec = TrainSpec::new().arg("rate", 0.1).id("run-7").save_path("models").save_with_id(true).model_name("mean");
/// assert!(spec.artifact_path("run-7")?.unwrap().to_string().ends_with("models/run-7/mean"));
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSpec {
    /// Arguments for the module's `train`.
    pub args: Args,
    /// Where to write the model, beside the artifact store, which has it in any case.
    pub save_path: Option<SavePath>,
    /// Whether the id is a piece of the artifact path.
    pub save_with_id: bool,
    /// The id; a random one where it is not set.
    pub external_training_id: Option<String>,
    /// The model's name: a piece of the artifact path.
    pub model_name: Option<String>,
    /// Further pieces of the artifact path.
    pub extra_path_args: Vec<String>,
    /// Whether `train` waits for the end.
    #[serde(skip)]
    pub wait: bool,
    /// How long the job is kept, instead of what the trainer says.
    pub retention: Option<Span>,
    /// The seed of `ctx.rng()`; made from the id where it is not set.
    pub seed: Option<u64>,
    /// Which checkpoints are written and kept.
    pub checkpoints: Checkpoints,
}

impl TrainSpec {
    /// The defaults.
    pub fn new() -> Self {
        TrainSpec::default()
    }

    /// Add a named argument.
    pub fn arg(mut self, name: impl Into<String>, arg: impl Into<Arg>) -> Self {
        self.args.named.insert(name.into(), arg.into());
        self
    }

    /// Add a positional argument.
    pub fn positional(mut self, arg: impl Into<Arg>) -> Self {
        self.args.positional.push(arg.into());
        self
    }

    /// Set the id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.external_training_id = Some(id.into());
        self
    }

    /// Write the model to a folder or object store too.
    pub fn save_path(mut self, path: impl Into<SavePath>) -> Self {
        self.save_path = Some(path.into());
        self
    }

    /// Whether the id is a piece of the artifact path.
    pub fn save_with_id(mut self, with: bool) -> Self {
        self.save_with_id = with;
        self
    }

    /// Name the model.
    pub fn model_name(mut self, name: impl Into<String>) -> Self {
        self.model_name = Some(name.into());
        self
    }

    /// Add a piece to the artifact path.
    pub fn extra_path_arg(mut self, piece: impl Into<String>) -> Self {
        self.extra_path_args.push(piece.into());
        self
    }

    /// Let `train` wait for the end.
    pub fn wait(mut self) -> Self {
        self.wait = true;
        self
    }

    /// How long the job is kept, instead of what the trainer says.
    pub fn retention(mut self, retention: impl Into<Span>) -> Self {
        self.retention = Some(retention.into());
        self
    }

    /// Set the seed of `ctx.rng()`.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Choose which checkpoints are written and kept.
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// `save_path/[id]/[model_name]/extra…`: every piece counts, whatever the base path is called.
    ///
    /// # Errors
    /// `InvalidInput` for a piece that is not the name of one file.
    pub fn artifact_path(&self, id: &str) -> Result<Option<SavePath>> {
        let pieces = self.save_with_id.then_some(id).into_iter();
        let pieces = pieces
            .chain(self.model_name.as_deref())
            .chain(self.extra_path_args.iter().map(String::as_str));
        let pieces: Vec<&str> = pieces.collect();
        pieces.iter().try_for_each(|piece| check_piece(piece))?;
        self.save_path.as_ref().map(|base| base.join(&pieces)).transpose()
    }

    /// Refuse an output that this program cannot write to.
    pub(crate) fn check_output(&self) -> Result<()> {
        self.save_path.as_ref().map_or(Ok(()), SavePath::check)
    }
}
