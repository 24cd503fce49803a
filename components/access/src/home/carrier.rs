//! What goes between the home of a site and the database of the trainings.

use crate::{
    audit::{self, AuditRecord, Outcome},
    decide::Standing,
    listing::SiteListing,
    principal::Principal,
    proof::Proof,
    request::{AccessRequest, RequestState},
    right::Right,
    site::{GovernedSite, Permissions},
    site_data::DataOfSite,
    stored::{all, all_readable, find, is_there},
    update::update,
};
use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};
use superduper::{
    Address, Db, Digest, Encoded, Error, ErrorKind, Result,
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
    /// Requests that were not brought, by id and number: each is on record once.
    refused: HashSet<(String, u64)>,
}

/// So long may the source of a request be, in bytes.
const LONGEST_SOURCE: usize = 1 << 20;

/// At least so often the record is looked at: roles end without a change.
const LOOK: Duration = Duration::from_secs(30);

/// Changes of so long are looked at together.
const GATHER: Duration = Duration::from_millis(50);

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

impl Carrier {
    pub(super) fn new(site: &str, home: &Db, trainings: &Db) -> Self {
        let site = site.to_owned();
        let (home, trainings) = (home.clone(), trainings.clone());
        Carrier { site, home, trainings, listed: None, refused: HashSet::new() }
    }

    /// Carry whatever there is, whenever one of the databases changes.
    pub(super) async fn run(mut self) {
        let (mut of_home, mut of_trainings) = (Cursor::default(), Cursor::default());
        loop {
            let carried = self.once().await;
            if carried.or_warn(unreturned::Site::WORKER, "carrying requests").is_none() {
                // Without waiting for a change: there may be none.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            // Each look reads all requests, and a training changes its database all the time.
            tokio::time::sleep(GATHER).await;
            let changed = async {
                tokio::select! {
                    changed = self.home.changed(&of_home) => of_home = changed?,
                    changed = self.trainings.changed(&of_trainings) => of_trainings = changed?,
                    () = tokio::time::sleep(LOOK) => {}
                }
                Ok::<_, Error>(())
            };
            let waited = changed.await;
            if waited.or_warn(unreturned::Site::WORKER, "waiting for a change").is_none() {
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
        let permissions: Vec<Permissions> = self.of_site(|given: &Permissions| &given.site).await?;
        self.bring_requests(&site, &permissions).await?;
        let requests: Vec<AccessRequest> =
            self.of_site(|asked: &AccessRequest| &asked.site).await?;
        let viewers = self.viewers(&site, &permissions);
        let known = digest(&site, &permissions, &requests, &viewers)?;
        let address = SiteListing::address(&self.site);
        let is_listed = is_there(&self.trainings, &address).await?;
        if is_listed && self.listed == Some(known) {
            return Ok(());
        }
        self.list(&site, &viewers).await?;
        for request in &requests {
            // One that cannot be read there must not hold up the others.
            match self.bring_decision(request).await {
                Err(error) if error.kind() == ErrorKind::Store => return Err(error),
                brought => drop(brought.or_warn(unreturned::Site::WORKER, "bringing a decision")),
            }
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

    /// The users who may see the site now.
    fn viewers(&self, site: &GovernedSite, permissions: &[Permissions]) -> BTreeSet<String> {
        let now = Timestamp::now();
        let sees = |given: &&Permissions| standing(site, given, now).has(Right::View).is_ok();
        permissions.iter().filter(sees).map(|given| given.user.clone()).collect()
    }

    /// Show the site in the database of the trainings, to those who may see it.
    async fn list(&self, site: &GovernedSite, viewers: &BTreeSet<String>) -> Result<()> {
        let data = site.data.as_ref().map(|_| DataOfSite::of(site)).transpose()?;
        let new = SiteListing::new(&self.site, &site.owner);
        let address = SiteListing::address(&self.site);
        update::<SiteListing>(&self.trainings, address, Some(new), |listing| {
            listing.owner.clone_from(&site.owner);
            listing.viewers.clone_from(viewers);
            listing.data.clone_from(&data);
            listing.changes = listing.changes.wrapping_add(1);
            Ok(())
        })
        .await
        .map(|_| ())
    }

    /// Bring what users ask for to the home. Others may have written it: what does not hold together,
    /// and what the user may not ask for, stays where it is, with one record in the audit.
    async fn bring_requests(
        &mut self,
        site: &GovernedSite,
        permissions: &[Permissions],
    ) -> Result<()> {
        for asked in all_readable::<AccessRequest>(&self.trainings).await? {
            if asked.site != self.site {
                continue;
            }
            let address = Address::of::<AccessRequest>(asked.id());
            let stored = find::<AccessRequest>(&self.home, address.clone()).await?;
            // A rejection is changed by the owner alone.
            let may_be_new = stored.as_ref().is_none_or(|known| {
                known.asks < asked.asks && !matches!(known.state, RequestState::Rejected { .. })
            });
            let is_new = asked.state == RequestState::Pending && may_be_new;
            let is_withdrawn = asked.state == RequestState::Withdrawn
                && stored.as_ref().is_some_and(|known| known.state == RequestState::Pending);
            if !is_new && !is_withdrawn {
                continue;
            }
            if let Err(why) = self.may_ask(site, permissions, &asked).await? {
                self.refuse(&asked, &why).await?;
                continue;
            }
            update::<AccessRequest>(&self.home, address, Some(asked.clone()), |known| {
                known.clone_from(&asked);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Whether a request is one that this user may make; the inner error tells why not.
    async fn may_ask(
        &self,
        site: &GovernedSite,
        permissions: &[Permissions],
        asked: &AccessRequest,
    ) -> Result<std::result::Result<(), String>> {
        if !asked.is_consistent() || asked.source.len() > LONGEST_SOURCE {
            return Ok(Err("the request does not hold together".to_owned()));
        }
        let Some(given) = permissions.iter().find(|given| given.user == asked.who.user) else {
            return Ok(Err("the user may not see the site".to_owned()));
        };
        let standing = standing(site, given, Timestamp::now());
        if let Err(why) = standing.has(Right::View).and_then(|_| standing.has(Right::Request)) {
            return Ok(Err(why));
        }
        let by = format!("the request {}", asked.id());
        let proof = Proof {
            site,
            permissions: Some(given),
            expected: asked.expected(),
            signed: asked.signed.as_ref(),
            by: &by,
            is_preview: false,
            requires_keys: true,
        };
        proof.check(&self.home).await
    }

    async fn refuse(&mut self, asked: &AccessRequest, why: &str) -> Result<()> {
        if !self.refused.insert((asked.id().to_owned(), asked.asks)) {
            return Ok(());
        }
        let short = |text: &str| text.chars().take(200).collect::<String>();
        let record = AuditRecord {
            site: self.site.clone(),
            who: short(&asked.who.user),
            right: Right::Request,
            subject: short(&format!("{} {}", asked.model, asked.digest)),
            outcome: Outcome::Deny,
            rule: why.to_owned(),
            purpose: String::new(),
            task: None,
        };
        audit::record(&self.home, &record).await
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

/// The rights of a user at the site now.
fn standing<'a>(site: &'a GovernedSite, given: &'a Permissions, now: Timestamp) -> Standing<'a> {
    let who = Principal::user(given.user.as_str());
    Standing::of(site, &who, Some(given), now)
}

/// A digest of what decides at a site. The audit is no part of it: a decision must not wake the jobs
/// that it was about.
fn digest(
    site: &GovernedSite,
    permissions: &[Permissions],
    requests: &[AccessRequest],
    viewers: &BTreeSet<String>,
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
    add(Encoded::of(viewers))?;
    for given in permissions {
        let about = (&given.user, &given.organisation, &given.key, &given.roles, &given.models);
        add(Encoded::of(&about))?;
    }
    for asked in requests {
        add(Encoded::of(&(asked.id(), asked.asks, &asked.state, asked.decided_at)))?;
    }
    Ok(hasher.finish())
}
