//! What goes between the home of a site and the database of the trainings.

use super::SiteListing;
use crate::{
    decide::Standing,
    gate::find,
    principal::Principal,
    request::{AccessRequest, RequestState},
    right::Right,
    site::{GovernedSite, Permissions},
    site_data::DataOfSite,
    stored::all,
    update::update,
};
use std::{collections::BTreeSet, time::Duration};
use superduper::{
    Address, Db, Digest, Encoded, Error, Result,
    store::{Cursor, Timestamp},
    unreturned::{self, Unreturned},
};
use superduper_federated::wake_site;

/// Carries requests to the home, and decisions and wake-ups from it.
pub(super) struct Carrier {
    site: String,
    home: Db,
    trainings: Db,
    /// What the home had on record when the site was listed last.
    listed: Option<Digest>,
}

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

impl Carrier {
    pub(super) fn new(site: &str, home: &Db, trainings: &Db) -> Self {
        let site = site.to_owned();
        Carrier { site, home: home.clone(), trainings: trainings.clone(), listed: None }
    }

    /// Carry whatever there is, whenever one of the databases changes.
    pub(super) async fn run(mut self) {
        let (mut of_home, mut of_trainings) = (Cursor::default(), Cursor::default());
        loop {
            let carried = self.once().await;
            let failed = carried.or_warn(unreturned::Site::WORKER, "carrying requests").is_none();
            let changed = async {
                tokio::select! {
                    changed = self.home.changed(&of_home) => of_home = changed?,
                    changed = self.trainings.changed(&of_trainings) => of_trainings = changed?,
                }
                Ok::<_, Error>(())
            };
            let waited = changed.await;
            let waited = waited.or_warn(unreturned::Site::WORKER, "waiting for a change");
            if failed || waited.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Bring requests to the home; then, if something has changed there, decisions to the
    /// trainings, and let the jobs that wait look again.
    pub(super) async fn once(&mut self) -> Result<()> {
        let address = Address::of::<GovernedSite>(self.site.as_str());
        let site = find::<GovernedSite>(&self.home, address).await?.ok_or_else(|| {
            Error::not_found(format!("the home does not govern site `{}`", self.site))
                .with_hint("call `Access::govern` with the database of the home first")
        })?;
        self.bring_requests().await?;
        let permissions: Vec<Permissions> = self.of_site(|given: &Permissions| &given.site).await?;
        let requests: Vec<AccessRequest> =
            self.of_site(|asked: &AccessRequest| &asked.site).await?;
        let known = digest(&site, &permissions, &requests)?;
        if self.listed == Some(known) {
            return Ok(());
        }
        self.list(&site, &permissions).await?;
        for request in &requests {
            self.bring_decision(request).await?;
        }
        wake_site(&self.trainings, &self.site).await?;
        self.listed = Some(known);
        Ok(())
    }

    /// The components of the home that are about this site.
    async fn of_site<T: superduper::ComponentType>(
        &self,
        site: impl Fn(&T) -> &String,
    ) -> Result<Vec<T>> {
        let mut found = all::<T>(&self.home).await?;
        found.retain(|one| *site(one) == self.site);
        Ok(found)
    }

    /// Show the site in the database of the trainings, to those who may see it.
    async fn list(&self, site: &GovernedSite, permissions: &[Permissions]) -> Result<()> {
        let now = Timestamp::now();
        let sees = |given: &&Permissions| {
            let who = Principal::user(given.user.as_str());
            Standing::of(site, &who, Some(given), now).has(Right::View).is_ok()
        };
        let viewers: BTreeSet<String> =
            permissions.iter().filter(sees).map(|given| given.user.clone()).collect();
        let data = site.data.as_ref().map(|_| DataOfSite::of(site)).transpose()?;
        let new = SiteListing::new(&self.site, &site.owner);
        let address = SiteListing::address(&self.site);
        update::<SiteListing>(&self.trainings, address, Some(new), |listing| {
            listing.owner.clone_from(&site.owner);
            listing.viewers.clone_from(&viewers);
            listing.data.clone_from(&data);
            listing.changes += 1;
            Ok(())
        })
        .await
        .map(|_| ())
    }

    /// Bring what users ask for to the home.
    async fn bring_requests(&self) -> Result<()> {
        for asked in all::<AccessRequest>(&self.trainings).await? {
            if asked.site != self.site {
                continue;
            }
            let address = Address::of::<AccessRequest>(asked.id());
            let stored = find::<AccessRequest>(&self.home, address.clone()).await?;
            let is_new = asked.state == RequestState::Pending
                && stored.as_ref().is_none_or(|known| known.asks < asked.asks);
            let is_withdrawn = asked.state == RequestState::Withdrawn
                && stored.as_ref().is_some_and(|known| known.state == RequestState::Pending);
            if is_new || is_withdrawn {
                update::<AccessRequest>(&self.home, address, Some(asked.clone()), |known| {
                    known.clone_from(&asked);
                    Ok(())
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Bring the decision on a request to the trainings.
    async fn bring_decision(&self, decided: &AccessRequest) -> Result<()> {
        let address = Address::of::<AccessRequest>(decided.id());
        let Some(asked) = find::<AccessRequest>(&self.trainings, address.clone()).await? else {
            return Ok(());
        };
        if asked.asks != decided.asks || asked.state == decided.state {
            return Ok(());
        }
        update::<AccessRequest>(&self.trainings, address, None, |asked| {
            if asked.asks == decided.asks && asked.state != RequestState::Withdrawn {
                asked.state = decided.state.clone();
                asked.decided_at = decided.decided_at;
            }
            Ok(())
        })
        .await
        .map(|_| ())
    }
}

/// A digest of what decides at a site. The audit is no part of it: a decision must not wake the jobs
/// that it was about.
fn digest(
    site: &GovernedSite,
    permissions: &[Permissions],
    requests: &[AccessRequest],
) -> Result<Digest> {
    let mut hasher = superduper::Hasher::new();
    let mut add = |value: Result<Encoded>| -> Result<()> {
        hasher.update(value?.value().to_string().as_bytes());
        hasher.update(b"\n");
        Ok(())
    };
    // Data may be large, and is only described.
    let about = (&site.owner, &site.policy, &site.roles, &site.builtin);
    add(Encoded::of(&about))?;
    add(Encoded::of(&(&site.owner_key, site.requires_keys, site.allow_sandboxed)))?;
    add(Encoded::of(&site.data.as_ref().map(|_| DataOfSite::of(site)).transpose()?))?;
    for given in permissions {
        let about = (&given.user, &given.organisation, &given.key, &given.roles, &given.models);
        add(Encoded::of(&about))?;
    }
    for asked in requests {
        add(Encoded::of(&(asked.id(), asked.asks, &asked.state, asked.decided_at)))?;
    }
    Ok(hasher.finish())
}
