//! Requests: asked by a user, decided by the owner of a site.

use super::{Access, handle::denied};
use crate::{
    decide::Standing,
    homes::is_home,
    identity::SignedRequest,
    listing::SiteListing,
    principal::Principal,
    proof::Proof,
    request::{AccessRequest, RequestState},
    right::Right,
    site::{Given, GovernedSite, Permissions},
    stored::find,
};
use std::{collections::HashMap, time::Duration};
use superduper::{Address, Error, ErrorKind, Result, store::Timestamp};
use superduper_federated::{FederatedTraining, class_of_model};

/// So long can a request for access be handed in.
const REQUEST_VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

impl Access {
    /// Ask the owner of a site for a grant of the code of a training. A second request of the same
    /// user for the same code is the first one; one that was withdrawn is pending again.
    ///
    /// # Errors
    /// `InvalidInput` without a purpose, and for code whose source is not captured; `NotFound` for a
    /// site that does not exist or that the user may not see, in the same words; `PermissionDenied`
    /// without the right to ask; `Conflict` for a request that the owner has rejected.
    pub async fn request(
        &self,
        site: &str,
        training: &FederatedTraining,
        purpose: &str,
    ) -> Result<AccessRequest> {
        if purpose.trim().is_empty() {
            return Err(Error::invalid("a request needs a purpose")
                .with_hint("say what the code is to be run for"));
        }
        if let Some(listing) = self.listing(site).await? {
            return self.ask_at_home(&listing, training, purpose).await;
        }
        let governed = self.visible(site).await?;
        let permissions =
            find::<Permissions>(&self.db, Permissions::address(site, &self.who.user)).await?;
        let standing = Standing::of(&governed, &self.who, permissions.as_ref(), Timestamp::now());
        let digest = training.source_digest()?.to_hex();
        let model = training.model_kind()?;
        let subject = format!("{model} {digest}");
        if let Err(why) = standing.has(Right::Request) {
            self.deny(site, Right::Request, &subject, &why).await?;
            return Err(denied(Right::Request, site, &why));
        }
        check_covered(training)?;
        let address = AccessRequest::address_of(site, &self.who.user, &digest);
        let new = self.new_request(site, training, purpose)?;
        if let Err(why) = self.is_from_user(&new, &governed, permissions.as_ref()).await? {
            self.deny(site, Right::Request, &subject, &why).await?;
            return Err(denied(Right::Request, site, &why));
        }
        let signed = new.signed.clone();
        let now = Timestamp::now();
        let mut grants = permissions.iter().flat_map(|all| &all.models);
        let is_granted = grants.any(|given| given.what == digest && given.holds(now));
        self.note(site, Right::Request, &subject, "a role of the user", purpose).await?;
        self.change::<AccessRequest>(address, Some(new), |request| {
            asked(request, is_granted, purpose, signed.as_ref())
        })
        .await
    }

    /// A request, signed if there is a key.
    fn new_request(
        &self,
        site: &str,
        training: &FederatedTraining,
        purpose: &str,
    ) -> Result<AccessRequest> {
        let (model, digest) = (training.model_kind()?, training.source_digest()?.to_hex());
        let source = training.captured_source()?;
        let mut new =
            AccessRequest::new(self.who.clone(), site, (&model, &digest), purpose, source);
        if let Some(key) = &self.key {
            new.signed = Some(SignedRequest::new(key, new.expected(), REQUEST_VALID_FOR)?);
        }
        Ok(new)
    }

    /// Put a request on record for the worker of a site, which brings it to the site's home. Whether
    /// the user may ask is decided there.
    async fn ask_at_home(
        &self,
        listing: &SiteListing,
        training: &FederatedTraining,
        purpose: &str,
    ) -> Result<AccessRequest> {
        check_covered(training)?;
        let new = self.new_request(listing.name(), training, purpose)?;
        let (address, signed) = (Address::of::<AccessRequest>(new.id()), new.signed.clone());
        self.change::<AccessRequest>(address, Some(new), |request| {
            // Only the home knows whether a grant has ended: the user may ask again.
            asked(request, false, purpose, signed.as_ref())
        })
        .await
    }

    /// The requests that wait for this user's decision, by site.
    ///
    /// # Errors
    /// `Store`.
    pub async fn inbox(&self) -> Result<Vec<AccessRequest>> {
        let mut owners: HashMap<String, bool> = HashMap::new();
        for site in self.all::<GovernedSite>().await? {
            owners.insert(site.name().to_owned(), site.owner.user == self.who.user);
        }
        let mut found = self.all::<AccessRequest>().await?;
        found.retain(|request| {
            request.state == RequestState::Pending
                && owners.get(&request.site).copied().unwrap_or(false)
        });
        found.sort_by(|one, other| (&one.site, one.id()).cmp(&(&other.site, other.id())));
        Ok(found)
    }

    /// A request with all that an owner needs to decide.
    ///
    /// # Errors
    /// `NotFound` for a request that does not exist, and for one to a site of another owner.
    pub async fn review(&self, id: &str) -> Result<Review> {
        let request = self.to_decide(id).await?;
        let mut granted = self.all::<AccessRequest>().await?;
        granted.retain(|other| {
            other.site == request.site
                && other.model == request.model
                && other.state == RequestState::Granted
                && other.digest != request.digest
        });
        let last = granted.iter().max_by_key(|other| other.decided_at);
        let own = class_of_model(&request.model).ok();
        let is_verified = own.is_some_and(|class| class.digest().to_hex() == request.digest);
        let difference = last.map(|last| difference(&last.source, &request.source));
        Ok(Review { request, difference, is_verified })
    }

    /// Grant a request: this user may run this code at this site, and the jobs that wait for it go
    /// on.
    ///
    /// # Errors
    /// `NotFound` for a request that does not exist, and for one to a site of another owner; `Conflict`
    /// for a request that was withdrawn. A rejected request can be granted, and a granted one again.
    pub async fn grant(&self, id: &str) -> Result<()> {
        self.grant_until(id, None).await
    }

    /// Grant a request until a time. Afterwards the next attempt of a job is denied.
    ///
    /// # Errors
    /// As for [`grant`](Access::grant).
    pub async fn grant_until(&self, id: &str, until: Option<Timestamp>) -> Result<()> {
        let request = self.to_decide(id).await?;
        if request.state == RequestState::Withdrawn {
            return check_pending(&request);
        }
        let (site, who, digest) = (&request.site, &request.who, &request.digest);
        // Others who can open the database could have written the request.
        let governed = self.owned(site, "a request").await?;
        let permissions =
            find::<Permissions>(&self.db, Permissions::address(site, &who.user)).await?;
        if let Err(why) = self.is_from_user(&request, &governed, permissions.as_ref()).await? {
            let subject = format!("{} {digest} to {who}", request.model);
            self.deny(site, Right::Grant, &subject, &why).await?;
            return Err(denied(Right::Grant, site, &why));
        }
        let given = Given {
            what: digest.clone(),
            purpose: request.purpose.clone(),
            until,
            by: self.who.user.clone(),
        };
        // First the decision, which one program makes; then what follows from it, which can be
        // repeated.
        self.settle(id, RequestState::Granted, |state| *state != RequestState::Withdrawn).await?;
        let subject = format!("{} {digest} to {who}", request.model);
        self.note(site, Right::Grant, &subject, "the owner", &request.purpose).await?;
        let address = Permissions::address(site, &who.user);
        // Of the organisation, only a grant of a role says something.
        let none = Permissions::none(site, &Principal::user(who.user.as_str()));
        self.change::<Permissions>(address, Some(none), |permissions| {
            permissions.models.retain(|known| known.what != given.what);
            permissions.models.push(given.clone());
            Ok(())
        })
        .await?;
        self.wake(site).await
    }

    /// Reject a request. Jobs that wait for it end as denied, with the reason.
    ///
    /// # Errors
    /// `NotFound` as for [`grant`](Access::grant); `Conflict` for a request that is not pending;
    /// `InvalidInput` without a reason.
    pub async fn reject(&self, id: &str, reason: &str) -> Result<()> {
        if reason.trim().is_empty() {
            return Err(Error::invalid("a rejection needs a reason"));
        }
        let request = self.to_decide(id).await?;
        check_pending(&request)?;
        let rejected = RequestState::Rejected { reason: reason.to_owned() };
        self.settle(id, rejected, |state| *state == RequestState::Pending).await?;
        let subject = format!("rejected: {} {} to {}", request.model, request.digest, request.who);
        self.note(&request.site, Right::Grant, &subject, "the owner", reason).await?;
        self.wake(&request.site).await
    }

    /// Take a request of one's own back.
    ///
    /// # Errors
    /// `NotFound` for a request that does not exist, and for one of another user; `Conflict` for one
    /// that is not pending.
    pub async fn withdraw(&self, id: &str) -> Result<()> {
        let found = find::<AccessRequest>(&self.db, Address::of::<AccessRequest>(id)).await?;
        let request = found
            .filter(|request| request.who.user == self.who.user)
            .ok_or_else(|| no_request(id))?;
        check_pending(&request)?;
        self.settle(id, RequestState::Withdrawn, |state| *state == RequestState::Pending).await?;
        let subject = format!("withdrawn: {} {}", request.model, request.digest);
        self.note(&request.site, Right::Request, &subject, "the user", &request.purpose).await
    }

    /// The requests of this user, with what became of them.
    ///
    /// # Errors
    /// `Store`.
    pub async fn requests(&self) -> Result<Vec<AccessRequest>> {
        let mut found = self.all::<AccessRequest>().await?;
        found.retain(|request| request.who.user == self.who.user);
        Ok(found)
    }

    /// Whether a request is by the user that it names; the inner error tells why not.
    async fn is_from_user(
        &self,
        request: &AccessRequest,
        site: &GovernedSite,
        permissions: Option<&Permissions>,
    ) -> Result<std::result::Result<(), String>> {
        let by = format!("the request {}", request.id());
        let proof = Proof {
            site,
            permissions,
            expected: request.expected(),
            signed: request.signed.as_ref(),
            by: &by,
            is_preview: false,
            requires_keys: site.requires_keys || is_home(site.name()),
        };
        proof.check(&self.db).await
    }

    async fn to_decide(&self, id: &str) -> Result<AccessRequest> {
        let found = find::<AccessRequest>(&self.db, Address::of::<AccessRequest>(id)).await?;
        let request = found.ok_or_else(|| no_request(id))?;
        match self.site_of(&request.site).await? {
            Some(site) if site.owner.user == self.who.user => Ok(request),
            // Not even that there is such a request.
            _ => {
                self.deny(&request.site, Right::Grant, "a request", "only the owner may").await?;
                Err(no_request(id))
            }
        }
    }

    /// Decide a request, from a state from which that may be decided.
    async fn settle(
        &self,
        id: &str,
        state: RequestState,
        may: impl Fn(&RequestState) -> bool,
    ) -> Result<()> {
        let address = Address::of::<AccessRequest>(id);
        self.change::<AccessRequest>(address, None, |request| {
            if !may(&request.state) {
                return check_pending(request);
            }
            request.state = state.clone();
            request.decided_at = Some(Timestamp::now());
            Ok(())
        })
        .await
        .map(|_| ())
    }
}

/// A request with what an owner needs to decide.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Review {
    /// The request: who, what, what for, and the source.
    pub request: AccessRequest,
    /// Lines that differ from the code of this model that was granted here last: `+` is new, `-` is
    /// gone. `None` if none was granted.
    pub difference: Option<String>,
    /// Whether this program has the code of the digest that is asked for: then it is the code that the
    /// program was built with. Otherwise the source is what the user says, and the program would not
    /// run the code of that digest anyway, unless it comes with the model ([the
    /// sandbox](superduper_federated::CarriedCode)).
    pub is_verified: bool,
}

/// Refuse code that a grant would not cover.
fn check_covered(training: &FederatedTraining) -> Result<()> {
    let uncovered = training.uncovered_source()?;
    if uncovered.is_empty() {
        return Ok(());
    }
    let model = training.model_kind()?;
    let text =
        format!("a grant would not cover all custom code of `{model}`: {}", uncovered.join("; "));
    Err(Error::invalid(text)
        .with_hint("mark the types and their `impl` blocks; `training.preview(&db)` lists them"))
}

/// Let a request be pending, unless it is granted or rejected.
fn asked(
    request: &mut AccessRequest,
    is_granted: bool,
    purpose: &str,
    signed: Option<&SignedRequest>,
) -> Result<()> {
    match &request.state {
        RequestState::Rejected { reason } => {
            let text = format!("the owner has rejected this request: {reason}");
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        RequestState::Granted if is_granted => {}
        // The grant has ended or was revoked: the owner has to decide again.
        RequestState::Granted | RequestState::Withdrawn => {
            request.state = RequestState::Pending;
            request.asks += 1;
            request.purpose = purpose.to_owned();
            request.signed = signed.cloned();
        }
        // The key of the user was recorded after the request.
        RequestState::Pending if request.signed.is_none() && signed.is_some() => {
            request.asks += 1;
            request.purpose = purpose.to_owned();
            request.signed = signed.cloned();
        }
        RequestState::Pending => {}
    }
    Ok(())
}

fn check_pending(request: &AccessRequest) -> Result<()> {
    match &request.state {
        RequestState::Pending => Ok(()),
        state => {
            let text = format!("request `{}` is {state}", request.id());
            Err(Error::new(ErrorKind::Conflict, text))
        }
    }
}

fn no_request(id: &str) -> Error {
    Error::not_found(format!("there is no request `{id}`"))
}

/// So many pairs of lines are compared: 100 MB of numbers.
const MOST_COMPARED: usize = 25_000_000;

/// How one text becomes another, by lines, with those that stay left out. The lines that stay are a
/// longest common subsequence.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len().saturating_mul(new.len()) > MOST_COMPARED {
        return format!("{} lines became {} lines: too many to compare", old.len(), new.len());
    }
    // The length of the longest common subsequence of what begins at each pair of lines.
    let mut longest = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for (i, left) in old.iter().enumerate().rev() {
        for (j, right) in new.iter().enumerate().rev() {
            longest[i][j] = match left == right {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        let stays = i < old.len() && j < new.len() && old[i] == new[j];
        if stays {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn m14_a_difference_shows_lines_that_moved() {
        assert_eq!(difference("a\nb\nc", "a\nb\nc"), "");
        assert_eq!(difference("noise\nsend", "send\nnoise"), "- noise\n+ noise");
        assert_eq!(difference("a\nb", "a\nx\nb\ny"), "+ x\n+ y");
        assert_eq!(difference("", "a"), "+ a");
    }
}
