//! The stored form of a training: a component whose trigger is the job.
//!
//! Invariant: all that a job needs is in its document: another process finds the module, the
//! arguments and the limits there.

use crate::{
    base::{JobBase, pool},
    context::TrainContext,
    export::{reach, write_model},
    module::{TrainEntry, Trained, entry},
    span::Span,
    spec::TrainSpec,
    written::Written,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use superduper::{Encoded, Inline, JobPolicy, prelude::*};

/// A training as a component: `db.apply(training)` submits it, `trainer.train(…)` does so with more
/// comfort.
///
/// Made by [`Trainer::training`](crate::Trainer::training). Applying an equal one again runs
/// nothing; another module or spec is another version, which is trained again.
#[derive(Component, Clone)]
#[component(kind = "superduper.Training")]
pub struct Training {
    pub(crate) identifier: String,
    /// The trainer's name.
    pub(crate) owner: String,
    pub(crate) base: JobBase,
    #[component(breaking)]
    pub(crate) module: Inline<Arc<dyn Component>>,
    #[component(breaking)]
    pub(crate) spec: TrainSpec,
    /// Tells submissions of one id apart; empty for one that was declared.
    #[component(breaking)]
    pub(crate) submission: String,
    /// How long the job is kept, where that differs from the base.
    #[component(default)]
    pub(crate) retention: Option<Span>,
}

/// What the job's result holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) model: Arc<dyn Component>,
    #[serde(default)]
    pub(crate) written: Written,
}

/// Run `setup` of a copy and of what it holds, if any of them has hooks.
pub(crate) fn set_up(ctx: &TrainContext, copy: &dyn Component) -> Result<()> {
    fn has_hooks(component: &dyn Component) -> bool {
        let mut found = component.__has_lifecycle();
        component.__visit_children(&mut |child| found = found || has_hooks(child));
        found
    }
    if has_hooks(copy) { ctx.block_on(ctx.job().db()?.setup(&Borrowed(copy))) } else { Ok(()) }
}

/// The error for a model that cannot be stored, which shows only when the work is done.
fn not_a_model(error: Error) -> Error {
    let kept = "the last checkpoint is kept: mend the training, and `resume()` goes on from there";
    let hint = error.hint().map_or_else(|| kept.to_owned(), |hint| format!("{hint}; {kept}"));
    error.context("the trained model cannot be stored").with_hint(hint)
}

struct Borrowed<'a>(&'a dyn Component);
impl superduper::AsComponent for Borrowed<'_> {
    fn as_component(&self) -> &dyn Component {
        self.0
    }
}

#[triggers]
impl Training {
    fn policy(&self) -> JobPolicy {
        self.base.policy(pool(&self.owner))
    }

    #[trigger("apply", policy = "policy")]
    fn run(&self, ctx: &JobContext) -> Result<Made> {
        let TrainEntry { train, .. } = entry(self.module.0.kind())?;
        let path = self.spec.artifact_path(&self.identifier)?;
        self.spec.check_output()?;
        // A place that cannot be written to is better known before hours of training.
        path.as_ref().map_or(Ok(()), |path| reach(path, ctx))?;
        let mut context = TrainContext::new(
            ctx,
            &self.identifier,
            &self.spec,
            self.base.limits.wall.map(Span::get),
        );
        // A copy for this attempt: jobs of a run share the component.
        let copy: Box<dyn Component> =
            context.decode(Encoded::checked(&self.module)?.value().clone(), "the module")?;
        let db = ctx.db()?;
        set_up(&context, &*copy)?;
        let trained = train(copy, &mut context);
        let ended = context.end(trained.is_ok());
        // The training's own error says more than that of a checkpoint.
        let Trained { model } = trained?;
        ended?;
        // Before anything of it is written elsewhere.
        Encoded::of(&Made { model: model.clone(), written: Written::default() })
            .map_err(not_a_model)?;
        let written = match path {
            Some(path) => write_model(&model, db.artifact_store(), &path, ctx)?,
            None => Written::default(),
        };
        Ok(Made { model, written })
    }
}
