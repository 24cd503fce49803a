//! What the tests of training jobs train, and where; shared by the tests and the worker program.

#[path = "../table/digits.rs"]
mod table;

use candle_core::{Var, backprop::GradStore};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use superduper::{Artifact, Db, DbBuilder, Error, Result};
use superduper_candle::{
    AdamW, Classifier, ClipNorm, CosineWarmup, FitSettingsSetters, GradientHook,
};
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;
pub(crate) use table::digits;

pub(crate) fn builder(folder: &Path) -> Result<DbBuilder> {
    let metadata = Arc::new(SqliteStore::open(folder)?);
    Ok(Db::builder()
        .metadata(metadata)
        .artifacts(Arc::new(ObjectStore::folder(folder.join("artifacts"))?)))
}

/// A perceptron whose loop has all there is: moments, a schedule, validation, patience, hooks,
/// steps of two batches.
pub(crate) fn classifier(epochs: u64) -> Result<Classifier> {
    let hooks: Vec<Box<dyn GradientHook>> = vec![Box::new(ClipNorm { max: 1.0 })];
    Classifier::builder("digits")
        .table(Artifact::new(digits()?))
        .inputs(64)
        .classes(10)
        .hidden(vec![32])
        .epochs(epochs)
        .batch(16)
        .accumulate(2)
        .seed(1)
        .validation(0.1)
        .patience(1000)
        .optimizer(Box::new(AdamW { learning_rate: 3e-3, ..AdamW::default() }))
        .schedule(Box::new(CosineWarmup { warmup: 45, floor: 0.0 }))
        .hooks(hooks)
        .build()
}

/// Of [`classifier`]: 1294 rows in steps of 32.
pub(crate) const STEPS_PER_EPOCH: u64 = 41;

/// Changes no gradient, but takes its time, or fails once at a step, or waits there to be killed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trouble {
    pub(crate) pause_micros: u64,
    /// The step, and the file that says that it failed before; whoever waits to kill it sees its
    /// process id there.
    pub(crate) fails_at: Option<(u64, PathBuf)>,
    pub(crate) kills: bool,
}

#[typetag::serde(name = "test.Trouble")]
impl GradientHook for Trouble {
    fn change(
        &self,
        step: u64,
        _params: &BTreeMap<String, Var>,
        _grads: &mut GradStore,
    ) -> Result<()> {
        std::thread::sleep(Duration::from_micros(self.pause_micros));
        match &self.fails_at {
            Some((at, file)) if *at == step && !file.exists() => {
                let draft = file.with_extension("draft");
                std::fs::write(&draft, std::process::id().to_string())?;
                std::fs::rename(&draft, file)?;
                if self.kills {
                    std::thread::sleep(Duration::from_secs(60));
                }
                Err(Error::msg("the power went out"))
            }
            _ => Ok(()),
        }
    }
}

/// The same classifier, slowed down to about a second.
pub(crate) fn slow(epochs: u64) -> Result<Classifier> {
    let mut slow = classifier(epochs)?;
    slow.fit.hooks.push(Box::new(Trouble { pause_micros: 500, ..Trouble::default() }));
    Ok(slow)
}
