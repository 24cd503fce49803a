//! A model, executors and persistors of a user's own, with their source.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};
use superduper::prelude::*;
use superduper_federated::{
    ClientExecutor, DefaultExecutor, FederatedModel, ModelPersistor, PersistContext, Reply,
    SiteContext, Task, Tested, Trained, federates,
};

/// A backbone that stays as it is, and a head with a weight for each class.
#[derive(Component, Clone)]
#[component(kind = "it.Net", source)]
pub(crate) struct Net {
    pub(crate) identifier: String,
    #[component(breaking)]
    pub(crate) num_classes: usize,
    #[component(breaking, default = 0.5)]
    pub(crate) rate: f64,
    /// So many outputs, whatever the number of classes is.
    #[component(breaking, default)]
    pub(crate) outputs: Option<usize>,
}
federates!(Net);

#[source]
impl FederatedModel for Net {
    fn initial(&self, _num_classes: usize, _seed: u64) -> Result<Tensors> {
        let head = vec![0.0_f32; self.num_classes];
        Tensors::new().with("backbone", &[2], &[0.25_f32, -0.75])?.with(
            "head",
            &[head.len()],
            &head,
        )
    }

    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let rows = &ctx.data_as::<crate::support::Rows>()?.values;
        let samples = rows.len() as u64;
        let mean = mean_of(rows);
        let heads = ctx.private("head").and_then(|head| head.as_u64());
        let mut head = ctx.block_on(weights.to_vec::<f32>("head"))?;
        let rate = self.rate as f32;
        for (class, value) in head.iter_mut().enumerate() {
            if heads.is_none_or(|only| only == class as u64) {
                *value += (mean - *value) * rate;
            }
        }
        let weights = weights.with("head", &[head.len()], &head)?;
        Ok(Trained { weights, samples, metrics: BTreeMap::from([("loss".into(), 0.5)]) })
    }

    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested> {
        let head = ctx.block_on(weights.to_vec::<f32>("head"))?;
        let metrics = BTreeMap::from([("first".into(), f64::from(head[0]))]);
        Ok(Tested { samples: ctx.data()?.rows(), metrics })
    }

    fn dry_forward(&self, images: [usize; 4], _num_classes: usize) -> Result<Option<Vec<usize>>> {
        Ok(Some(vec![images[0], self.outputs.unwrap_or(self.num_classes)]))
    }
}

/// A helper that is not captured.
fn mean_of(rows: &[f32]) -> f32 {
    rows.iter().sum::<f32>() / rows.len().max(1) as f32
}

/// Loads other rows, leaves a mark, and adds a metric; the rest is the default's.
#[source]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Custom {
    pub(crate) rows: Option<Vec<f32>>,
    pub(crate) metric: Option<f64>,
    /// Trains these heads, one after the other.
    #[serde(default)]
    pub(crate) heads: Vec<u64>,
}

#[source]
#[typetag::serde(name = "it.Custom")]
impl ClientExecutor for Custom {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        ctx.set_public("pid", std::process::id())?;
        ctx.set_public("args", ctx.args().clone())?;
        if let Some(rows) = &self.rows {
            ctx.replace_data(crate::support::rows(rows));
        }
        if self.heads.is_empty() || task.name != "train" {
            return self.measured(DefaultExecutor {}.execute(task, tensors, ctx)?);
        }
        let (mut tensors, mut reply) = (tensors, Reply::default());
        for head in &self.heads {
            ctx.set_private("head", head)?;
            reply = DefaultExecutor {}.execute(task, tensors, ctx)?;
            tensors = reply.tensors.clone().unwrap_or_default();
        }
        self.measured(reply)
    }
}

/// Has no `#[source]` on its `impl`.
#[source]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Half {}

#[typetag::serde(name = "it.Half")]
impl ClientExecutor for Half {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        DefaultExecutor {}.execute(task, tensors, ctx)
    }
}

macro_rules! written {
    ($name:ident, $tag:literal) => {
        #[source]
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct $name {}

        #[source]
        #[typetag::serde(name = $tag)]
        impl ClientExecutor for $name {
            fn execute(
                &self,
                task: &Task,
                tensors: Tensors,
                ctx: &mut SiteContext<'_>,
            ) -> Result<Reply> {
                DefaultExecutor {}.execute(task, tensors, ctx)
            }
        }
    };
}
written!(Written, "it.Written");

/// Keeps only the head, rounded to int8, under names of its own.
#[source]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Int8Head {
    pub(crate) folder: PathBuf,
}

const STEP: f32 = 1.0 / 64.0;

#[source]
fn to_byte(value: f32) -> u8 {
    (value / STEP).round().clamp(-127.0, 127.0) as i8 as u8
}

impl Int8Head {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.head"))
    }
}

#[source]
#[typetag::serde(name = "it.Int8Head")]
impl ModelPersistor for Int8Head {
    fn save(
        &self,
        weights: &Tensors,
        rounds: u64,
        ctx: &PersistContext<'_>,
    ) -> Result<Option<Tensors>> {
        let head = ctx.block_on(weights.to_vec::<f32>("head"))?;
        let bytes: Vec<u8> = head.iter().copied().map(to_byte).collect();
        std::fs::write(self.path(&format!("after-{rounds}")), bytes)?;
        self.get(&format!("after-{rounds}"), ctx).map(Some)
    }

    fn inventory(&self, _ctx: &PersistContext<'_>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".head").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn get(&self, name: &str, ctx: &PersistContext<'_>) -> Result<Tensors> {
        let bytes = std::fs::read(self.path(name))?;
        let head: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte as i8) * STEP).collect();
        ctx.initial()?.with("head", &[head.len()], &head)
    }
}

/// Loads a model of other shapes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stranger {
    pub(crate) name: String,
}

#[typetag::serde(name = "it.Stranger")]
impl ModelPersistor for Stranger {
    fn load(&self, ctx: &PersistContext<'_>) -> Result<Tensors> {
        let mut tensors = ctx.initial()?;
        tensors.remove("head");
        tensors.with(&self.name, &[7], &[0.0_f32; 7])
    }
}
