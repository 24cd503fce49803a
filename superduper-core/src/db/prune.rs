//! Retention: removing old versions by a rule.

use super::Db;
use crate::{
    address::Address,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    locator::Locator,
    store::{JobFilter, JobRole, JobState, Timestamp},
};
use std::{collections::HashMap, future::IntoFuture, time::Duration};

/// Which old versions of a component stay.
///
/// Whatever the rule says, these stay too: the newest version, versions with a label, versions that
/// another component refers to, versions with unfinished jobs.
///
/// ```
/// # use superduper_core as superduper;
/// use std::time::Duration;
/// use superduper::Keep;
///
/// // The last three, and everything of the last 30 days.
/// let rule = Keep::last(3).and_newer_than(Duration::from_secs(30 * 24 * 3600));
/// # let _ = rule;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    last: u32,
    newer_than: Option<Duration>,
}

impl Keep {
    /// The last so many versions; the newest one stays in any case.
    pub fn last(versions: u32) -> Self {
        Keep { last: versions, newer_than: None }
    }

    /// The versions that were made within this time.
    pub fn newer_than(age: Duration) -> Self {
        Keep { last: 1, newer_than: Some(age) }
    }

    /// Also the versions that were made within this time.
    pub fn and_newer_than(self, age: Duration) -> Self {
        Keep { newer_than: Some(age), ..self }
    }
}

/// What pruning did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// The versions that this call removed, oldest first, or whose removal by another call it
    /// waited for; with `dry_run` those that would go. A version that another call removed before
    /// this one came to it is not in the list.
    pub removed: Vec<Address>,
    /// The versions that the rule lets go but something holds, with the reason.
    pub held: Vec<(Address, String)>,
    /// Whether nothing was removed.
    pub dry_run: bool,
}

/// A pruning under construction; await it.
#[must_use = "pruning does nothing until it is awaited"]
pub struct Prune {
    db: Db,
    target: Option<Result<Locator>>,
    rule: Keep,
    dry_run: bool,
}

impl Db {
    /// Remove the versions of a component that a rule does not keep; `cleanup` runs for each, as on
    /// any removal.
    ///
    /// It may run beside other prunings and removals: each waits for the removals of the others
    /// where they take the same version.
    ///
    /// # Errors
    /// `NotFound` for a component that does not exist; those of a removal, naming the version.
    pub fn prune(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
        rule: Keep,
    ) -> Prune {
        let target = Some(address.try_into().map_err(Into::into));
        Prune { db: self.clone(), target, rule, dry_run: false }
    }

    /// [`Db::prune`] for every component, parents before what they hold.
    pub fn prune_all(&self, rule: Keep) -> Prune {
        Prune { db: self.clone(), target: None, rule, dry_run: false }
    }
}

impl Prune {
    /// Only say what would go.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    async fn run(mut self) -> Result<Pruned> {
        if !self.dry_run {
            self.db.inner().check_writable("prune")?;
        }
        let mut pruned = Pruned { dry_run: self.dry_run, ..Pruned::default() };
        match self.target.take() {
            Some(target) => {
                let address = self.db.resolve(target?).await?.unversioned();
                // A component that was never there is an error; one that goes meanwhile is not.
                self.db.versions(&address).await?;
                self.component(&address, &mut pruned).await?;
            }
            None => {
                // What a parent's old versions hold is free once those are gone: go on while
                // anything goes.
                loop {
                    let before = pruned.removed.len();
                    pruned.held.clear();
                    for listed in self.db.inner().metadata.list(None).await? {
                        self.component(&listed.address.unversioned(), &mut pruned).await?;
                    }
                    if self.dry_run || pruned.removed.len() == before {
                        break;
                    }
                }
            }
        }
        Ok(pruned)
    }

    async fn component(&self, address: &Address, pruned: &mut Pruned) -> Result<()> {
        let versions = self.db.inner().metadata.versions(address.clone()).await?;
        let newer = self.rule.newer_than.map(|age| {
            Timestamp::now().0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
        });
        let stay = usize::try_from(self.rule.last.max(1)).unwrap_or(usize::MAX);
        let old = versions.len().saturating_sub(stay);
        let going = versions[..old]
            .iter()
            .filter(|version| newer.is_none_or(|newer| version.created_at.0 < newer));
        let mut labels: HashMap<u32, Vec<String>> = HashMap::new();
        for row in self.db.labels(address.clone()).await? {
            labels
                .entry(row.address.version.map_or(0, |at| at.version))
                .or_default()
                .push(row.label);
        }
        for version in going {
            let target = address.at(version.version());
            if let Some(names) = labels.get(&version.version()) {
                pruned.held.push((target, format!("it is labelled `{}`", names.join("`, `"))));
                continue;
            }
            let open = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
            let open = self
                .db
                .jobs(JobFilter {
                    target: Some(target.clone()),
                    states: open,
                    ..JobFilter::default()
                })
                .await?;
            // A cleanup belongs to a removal of the version, which this call waits for.
            if let Some(job) = open
                .iter()
                .find(|job| job.component == version.component && job.role != JobRole::Cleanup)
            {
                pruned.held.push((target, format!("its job {} is {}", job.id, job.state)));
                continue;
            }
            let removal = self.db.remove_dyn(target.clone()).action("prune");
            let done =
                if self.dry_run { removal.plan().await.map(drop) } else { removal.await.map(drop) };
            match done {
                Ok(()) => pruned.removed.push(target),
                Err(error) if error.kind() == ErrorKind::InUse => {
                    pruned.held.push((target, error.to_string()))
                }
                // Another call removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(explain(error, &target)),
            }
        }
        Ok(())
    }
}

fn explain(error: Error, target: &Address) -> Error {
    error.context(format_args!("pruning `{target}`; what was removed before it stays removed"))
}

impl IntoFuture for Prune {
    type Output = Result<Pruned>;
    type IntoFuture = BoxFuture<'static, Result<Pruned>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
