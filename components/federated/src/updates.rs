//! Local updates on their way from a site to the aggregation.
//!
//! An update of an embedded site waits in the memory of the process, up to a budget. If that process
//! ends, the site's job is run again. Other updates wait in the database, as a [`LocalModel`].

use crate::{
    Update,
    state::{Counted, Held, TaskInput},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};
use superduper::{
    Artifact, Component, ComponentType, Db, Error, ErrorKind, Result, Tensors,
    store::ComponentFilter,
};

/// The update of a site in a round, on record until it is aggregated.
///
/// Its identifier is `<training uuid>-<task>-<round>-<site>`.
#[derive(Component)]
#[component(kind = "superduper.LocalModel")]
pub struct LocalModel {
    identifier: String,
    /// The training.
    #[component(breaking)]
    pub training_uuid: String,
    /// The task that made it: `train` or `swag`; for a remote site also `test`.
    #[component(breaking)]
    pub task: String,
    /// The round.
    #[component(breaking)]
    pub round: u64,
    /// The site.
    #[component(breaking)]
    pub site: String,
    /// The rows that it was trained on.
    #[component(breaking)]
    pub samples: u64,
    /// The weights. For `swag` the names of the first moments begin with `first/`, those of the
    /// second with `second/`.
    #[component(breaking)]
    pub weights: Artifact<Tensors>,
    /// Metrics that came with it.
    #[component(default)]
    pub metrics: BTreeMap<String, f64>,
}

impl LocalModel {
    pub(crate) fn new(name: String, uuid: &str, task: &TaskInput, update: &Update) -> Self {
        LocalModel {
            identifier: name,
            training_uuid: uuid.to_owned(),
            task: task.name.clone(),
            round: task.round,
            site: update.site.clone(),
            samples: update.samples,
            weights: Artifact::new(update.tensors.clone()),
            metrics: BTreeMap::new(),
        }
    }

    /// The identifier of the update of a site.
    pub(crate) fn name(uuid: &str, task: &str, round: u64, site: &str) -> String {
        format!("{uuid}-{task}-{round}-{site}")
    }
}

/// The token of this process: what it holds in memory is lost with it.
pub(crate) fn process() -> &'static str {
    static TOKEN: LazyLock<String> = LazyLock::new(|| uuid::Uuid::new_v4().to_string());
    &TOKEN
}

#[derive(Default)]
struct Memory {
    updates: HashMap<(String, String), Update>,
    bytes: u64,
    /// The newest global weights of a training, as they are on record and in memory.
    globals: HashMap<String, (Artifact<Tensors>, Tensors)>,
}

fn memory() -> MutexGuard<'static, Memory> {
    static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(tensors: &Tensors) -> u64 {
    let sizes = tensors.names().filter_map(|name| tensors.info(name)?.size());
    sizes.map(|size| size as u64).sum()
}

impl Memory {
    fn insert(&mut self, key: (String, String), update: Update, budget: u64) -> bool {
        let bytes = size(&update.tensors);
        let before = self.updates.get(&key).map_or(0, |old| size(&old.tensors));
        let after = self.bytes.saturating_sub(before).saturating_add(bytes);
        if after > budget {
            return false;
        }
        self.bytes = after;
        self.updates.insert(key, update);
        true
    }

    fn remove(&mut self, key: &(String, String)) {
        if let Some(update) = self.updates.remove(key) {
            self.bytes = self.bytes.saturating_sub(size(&update.tensors));
        }
    }
}

/// Global weights that are on record, where this process has them in memory. They are compared by
/// their bytes: another process may have recorded others for the same round.
pub(crate) fn remembered(uuid: &str, recorded: &Artifact<Tensors>) -> Option<Tensors> {
    let memory = memory();
    let (_, weights) = memory.globals.get(uuid).filter(|(known, _)| known == recorded)?;
    Some(weights.clone())
}

/// Remember global weights for the jobs of the next round.
pub(crate) fn remember(uuid: &str, recorded: &Artifact<Tensors>, weights: &Tensors) {
    memory().globals.insert(uuid.to_owned(), (recorded.clone(), weights.clone()));
}

/// Forget all of a training that is over.
pub(crate) fn forget(uuid: &str) {
    let mut memory = memory();
    memory.globals.remove(uuid);
    let gone: Vec<_> = memory.updates.keys().filter(|(of, _)| of == uuid).cloned().collect();
    gone.iter().for_each(|key| memory.remove(key));
}

/// Let an update wait in the memory of this process. `false` where `budget`, in bytes, is used up.
pub(crate) fn hold_in_memory(uuid: &str, name: &str, update: &Update, budget: u64) -> bool {
    memory().insert((uuid.to_owned(), name.to_owned()), update.clone(), budget)
}

/// Put an update on record.
pub(crate) async fn store(db: &Db, local: LocalModel) -> Result<()> {
    db.apply(local).jobs(false).detach().await.map(|_| ())
}

/// An update that waits; `None` where its process has ended.
pub(crate) async fn fetch(db: &Db, uuid: &str, counted: &Counted) -> Result<Option<Update>> {
    let Counted { task, samples, held } = counted;
    match held {
        Held::Memory(token) if token == process() => {
            let name = LocalModel::name(uuid, task_of(&task.key), task.round, &task.site);
            Ok(memory().updates.get(&(uuid.to_owned(), name)).cloned())
        }
        Held::Memory(_) => Ok(None),
        Held::Stored(name) => match db.load::<LocalModel>(name.as_str()).await {
            Ok(local) => {
                let tensors = local.weights.get().await?;
                Ok(Some(Update::new(&task.site, *samples, Tensors::clone(&tensors))))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.context(format_args!("the update of site `{}`", task.site))),
        },
    }
}

/// The task of a job, by its key `r3/train/site`. A round that was begun again has a key `r3~1/…`.
fn task_of(key: &str) -> &str {
    key.split('/').nth(1).unwrap_or_default()
}

/// Let go of updates. Those that are stored are removed only if `stored` says so.
pub(crate) async fn release(db: &Db, uuid: &str, spent: &[Counted], stored: bool) -> Result<()> {
    for Counted { task, held, .. } in spent {
        match held {
            Held::Memory(_) => {
                let name = LocalModel::name(uuid, task_of(&task.key), task.round, &task.site);
                memory().remove(&(uuid.to_owned(), name));
            }
            Held::Stored(name) if stored => remove(db, name).await?,
            Held::Stored(_) => {}
        }
    }
    Ok(())
}

/// Remove all updates of a training that are on record, those of late sites too.
pub(crate) async fn remove_all(db: &Db, uuid: &str) -> Result<()> {
    let prefix = format!("{uuid}-");
    let mut cursor = None;
    loop {
        let filter = ComponentFilter::new().kind(LocalModel::__kind()).text(&prefix);
        let page = db.component_lines(filter).after(cursor.take()).await?;
        for line in page.lines.iter().filter(|line| line.address.identifier.starts_with(&prefix)) {
            remove(db, &line.address.identifier).await?;
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// Remove an update that is on record, if it is.
async fn remove(db: &Db, name: &str) -> Result<()> {
    match db.remove::<LocalModel>(name).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// One set of tensors from the first and the second moments.
pub(crate) async fn joined(first: &Tensors, second: &Tensors) -> Result<Tensors> {
    let mut all = Tensors::new();
    for (place, part) in [("first", first), ("second", second)] {
        for name in part.names() {
            all.insert(format!("{place}/{name}"), part.get(name).await?)?;
        }
    }
    Ok(all)
}

/// First and second moments, from what [`joined`] made.
pub(crate) async fn parted(all: &Tensors) -> Result<(Tensors, Tensors)> {
    let (mut first, mut second) = (Tensors::new(), Tensors::new());
    for name in all.names() {
        let tensor = all.get(name).await?;
        match name.split_once('/') {
            Some(("first", rest)) => first.insert(rest, tensor)?,
            Some(("second", rest)) => second.insert(rest, tensor)?,
            _ => return Err(Error::invalid(format!("`{name}` is not a moment"))),
        }
    }
    Ok((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_weights_are_known_by_their_bytes() {
        let weights = |value: f32| Tensors::new().with("w", &[1], &[value]).expect("tensors");
        let (mine, others) = (Artifact::new(weights(1.0)), Artifact::new(weights(2.0)));
        remember("a training", &mine, &weights(1.0));
        assert!(remembered("a training", &mine).is_some());
        assert!(remembered("a training", &others).is_none(), "another process recorded others");
        forget("a training");
        assert!(remembered("a training", &mine).is_none());
    }

    #[test]
    fn updates_wait_in_memory_up_to_a_budget() {
        let update = |site: &str| {
            let tensors = Tensors::new().with("w", &[2], &[0.0_f32; 2]).expect("tensors");
            Update::new(site, 1, tensors)
        };
        let key = |site: &str| ("a training".to_owned(), site.to_owned());
        let mut memory = Memory::default();
        assert!(memory.insert(key("a"), update("a"), 16));
        assert!(memory.insert(key("a"), update("a"), 16), "it takes the place of the first one");
        assert!(memory.insert(key("b"), update("b"), 16));
        assert!(!memory.insert(key("c"), update("c"), 16), "24 bytes are over the budget");
        memory.remove(&key("a"));
        assert!(memory.insert(key("c"), update("c"), 16));
    }
}
