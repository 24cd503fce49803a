//! The gate of a governed site.

use crate::{
    audit::{self, AuditRecord, Outcome},
    decide::{Asked, Standing, Verdict, short},
    homes::{deciding, is_home},
    identity::{Expected, SignedHead, SignedRequest},
    listing::SiteListing,
    principal::Principal,
    proof::Proof,
    request::AccessRequest,
    right::Right,
    site::{GovernedSite, Permissions},
    stored::{find, is_there, seen},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use superduper::{Address, BoxFuture, Db, Encoded, ErrorKind, Result, store::Timestamp};
use superduper_federated::{Decision, Gate, Request};

/// The gate of a [`GovernedSite`]: it decides by the policy, the roles and the grants that are on
/// record, and puts each decision on record before it counts.
///
/// A program that links this crate asks it for every embedded site that is governed, also where a
/// training gives the site another gate or none.
///
/// It is closed when in doubt: a site that is not on record, a training that names no submitter, and
/// a record that cannot be read deny. A program that does not link this crate cannot read the site at
/// all.
///
/// ```
/// # use superduper_federated::{Site, SiteData};
/// # #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// # struct Rows(Vec<f32>);
/// # #[typetag::serde(name = "doc.Rows")]
/// # impl SiteData for Rows {
/// #     fn rows(&self) -> u64 { self.0.len() as u64 }
/// #     fn as_any(&self) -> &dyn std::any::Any { self }
/// # }
/// use superduper_access::SiteGate;
///
/// let site = Site::new("north", Rows(vec![1.0])).gate(SiteGate {});
/// # let _ = site;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteGate {}

#[typetag::serde(name = "access.SiteGate")]
impl Gate for SiteGate {
    fn allow<'a>(&'a self, db: &'a Db, request: &'a Request) -> BoxFuture<'a, Result<Decision>> {
        Box::pin(decide(db, request))
    }

    fn statement<'a>(
        &'a self,
        db: &'a Db,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Option<Value>>> {
        Box::pin(signed_head(db, request))
    }
}

/// The gate of a governed site, whatever gate a training gives the site. Sites that are not governed
/// have none.
#[derive(Debug, Serialize, Deserialize)]
struct ProgramGate {}

#[typetag::serde(name = "access.ProgramGate")]
impl Gate for ProgramGate {
    fn allow<'a>(&'a self, db: &'a Db, request: &'a Request) -> BoxFuture<'a, Result<Decision>> {
        Box::pin(async move {
            let site = request.site.as_str();
            let executor = request.jobs_executor.as_deref();
            let is_governed = executor.is_some_and(|name| name.starts_with("site:"))
                || is_home(site)
                || is_there(db, &SiteListing::address(site)).await?
                || is_there(db, &Address::of::<GovernedSite>(site)).await?;
            match is_governed {
                false => Ok(Decision::Allow),
                true => decide(db, request).await,
            }
        })
    }

    fn statement<'a>(
        &'a self,
        db: &'a Db,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Option<Value>>> {
        Box::pin(signed_head(db, request))
    }
}
superduper_federated::program_gate!(ProgramGate {}, same_as = "access.SiteGate");

/// Decide in the database of the site: its home, or that of the training.
async fn decide(db: &Db, request: &Request) -> Result<Decision> {
    // The worker of a site runs nothing under the name of another one.
    let own = format!("site:{}", request.site);
    if request.jobs_executor.as_ref().is_some_and(|name| name.starts_with("site:") && *name != own)
    {
        return Ok(Decision::Deny(format!("site `{}` was not found", request.site)));
    }
    // Read first: a change of the home from here on changes it, too.
    let (listing, listed_at) = seen::<SiteListing>(db, SiteListing::address(&request.site)).await?;
    let home = match deciding(db, &request.site).await {
        Ok(home) => home,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let user = request.submitter.as_ref().map_or("", |by| by.user.as_str());
            let text = match listing.is_some_and(|listing| listing.is_seen_by(user)) {
                true => error.to_string(),
                false => format!("site `{}` was not found", request.site),
            };
            return Ok(Decision::Deny(text));
        }
        Err(error) => return Err(error),
    };
    match decide_in(&home, request).await? {
        Decision::Block { reason, .. } if is_home(&request.site) => {
            Ok(Decision::Block { reason, read: vec![listed_at] })
        }
        decided => Ok(decided),
    }
}

async fn decide_in(db: &Db, request: &Request) -> Result<Decision> {
    let who = request.submitter.as_ref().map(|submitter| Principal {
        user: submitter.user.clone(),
        organisation: submitter.organisation.clone(),
    });
    let purpose = request.submitter.as_ref().map(|by| by.purpose.trim().to_owned());
    let purpose = purpose.unwrap_or_default();
    let (right, outcome, rule, decision) = match who.as_ref() {
        None => denied(Right::RunModel, "the training names no submitter"),
        Some(_) if purpose.is_empty() => denied(Right::RunModel, "the training has no purpose"),
        Some(_) if purpose.len() > LONGEST => {
            denied(Right::RunModel, "the purpose of the training is too long")
        }
        Some(who) => match who.check() {
            Ok(()) => match of_user(db, request, who).await {
                Ok(decided) => decided,
                // The store may answer at the next attempt.
                Err(error) if error.is_retryable() => return Err(error),
                // A record that cannot be read denies. The cause is for the owner alone.
                Err(error) => {
                    let (right, outcome, _, decision) = unknown_site(&request.site);
                    (right, outcome, format!("it cannot be decided: {error}"), decision)
                }
            },
            Err(error) => denied(Right::RunModel, &format!("the submitter: {error}")),
        },
    };
    let who = who.filter(|who| who.check().is_ok());
    if request.is_preview {
        return Ok(decision);
    }
    let record = AuditRecord {
        site: request.site.clone(),
        who: who.map(|who| who.to_string()).unwrap_or_default(),
        right,
        subject: format!("{} {}", request.model, request.source_digest),
        outcome,
        rule,
        purpose,
        task: Some(format!("{}/r{}/{}", request.training_uuid, request.round, request.task)),
    };
    // Durable before anything runs.
    audit::record(db, &record).await?;
    Ok(decision)
}

/// So long may a purpose be, in bytes: each decision records it.
const LONGEST: usize = 1000;

type Decided = (Right, Outcome, String, Decision);

fn denied(right: Right, why: &str) -> Decided {
    (right, Outcome::Deny, why.to_owned(), Decision::Deny(why.to_owned()))
}

/// The denial for a site that does not exist, and for one that the user may not see.
fn unknown_site(name: &str) -> Decided {
    denied(Right::View, &format!("site `{name}` was not found"))
}

async fn of_user(db: &Db, request: &Request, who: &Principal) -> Result<Decided> {
    let name = request.site.as_str();
    let (site, governed_at) = seen::<GovernedSite>(db, Address::of::<GovernedSite>(name)).await?;
    let Some(site) = site else { return Ok(unknown_site(name)) };
    let (permissions, given_at) =
        seen::<Permissions>(db, Permissions::address(name, &who.user)).await?;
    let standing = Standing::of(&site, who, permissions.as_ref(), Timestamp::now());
    if standing.has(Right::View).is_err() {
        // The same words as for a site that does not exist.
        return Ok(unknown_site(name));
    }
    let asked = Asked {
        model: &request.model,
        digest: &request.source_digest,
        source_is_whole: request.source_is_whole,
        is_builtin: site.builtin.contains(&request.model) && request.is_default,
        is_sandboxed: request.is_sandboxed,
    };
    if let Err(why) = is_from(db, request, who, &site, permissions.as_ref()).await? {
        let right = asked.right();
        let decision = denial(right, &site, request, &why);
        return Ok((right, Outcome::Deny, why, decision));
    }
    let asked_at = AccessRequest::address_of(name, &who.user, &request.source_digest);
    let (on_request, asked_at) = seen::<AccessRequest>(db, asked_at).await?;
    let state = on_request.as_ref().map(|request| &request.state);
    Ok(match standing.run(asked, state) {
        Verdict::Allow(right, rule) => (right, Outcome::Allow, rule, Decision::Allow),
        Verdict::Deny(right, why) => {
            let decision = denial(right, &site, request, &why);
            (right, Outcome::Deny, why, decision)
        }
        Verdict::Missing(right, what) => {
            let owner = &site.owner.user;
            let reason = format!("{what}; ask {owner}, the owner of `{name}`, to authorise it");
            // Whatever of these changes, the job looks again.
            let read = vec![governed_at, given_at, asked_at];
            (right, Outcome::Block, what, Decision::Block { reason, read })
        }
    })
}

/// A denial, for a user who may see the site: which right, which code, why, and whom to ask.
fn denial(right: Right, site: &GovernedSite, request: &Request, why: &str) -> Decision {
    let (name, owner) = (site.name(), &site.owner.user);
    let (model, digest) = (&request.model, short(&request.source_digest));
    Decision::Deny(format!(
        "`{right}` at site `{name}` for `{model}` ({digest}): {why}; ask {owner}, the owner of \
         `{name}`, to authorise it (docs/access.md, \"Authorising a site\")"
    ))
}

/// Whether a training is submitted by this user; the inner error tells why not.
async fn is_from(
    db: &Db,
    request: &Request,
    who: &Principal,
    site: &GovernedSite,
    permissions: Option<&Permissions>,
) -> Result<std::result::Result<(), String>> {
    let by = request.submitter.as_ref();
    let signed = match by.and_then(|by| by.proofs.get(&request.site)) {
        None => None,
        Some(proof) => match serde_json::from_value::<SignedRequest>(proof.clone()) {
            Ok(signed) => Some(signed),
            Err(error) => return Ok(Err(format!("the signed request cannot be read: {error}"))),
        },
    };
    let expected = Expected {
        user: &who.user,
        site: &request.site,
        digest: &request.source_digest,
        purpose: by.map_or("", |by| by.purpose.trim()),
        terms: &request.terms,
    };
    let (signed, is_preview) = (signed.as_ref(), request.is_preview);
    let by = format!("the training {}", request.training_uuid);
    // In a home, the database of the trainings says nothing about who somebody is.
    let requires_keys = site.requires_keys || is_home(&request.site);
    Proof { site, permissions, expected, signed, by: &by, is_preview, requires_keys }
        .check(db)
        .await
}

/// The signed head of a site's audit, if the site signs, for a user who may see the site.
async fn signed_head(db: &Db, request: &Request) -> Result<Option<Value>> {
    let site = request.site.as_str();
    let db = match deciding(db, site).await {
        Ok(db) => db,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(governed) = find::<GovernedSite>(&db, Address::of::<GovernedSite>(site)).await? else {
        return Ok(None);
    };
    let user = request.submitter.as_ref().map_or("", |by| by.user.as_str());
    let given = find::<Permissions>(&db, Permissions::address(site, user)).await?;
    let who = Principal::user(user);
    let standing = Standing::of(&governed, &who, given.as_ref(), Timestamp::now());
    match &governed.signing_key {
        Some(key) if standing.has(Right::View).is_ok() => {
            let head = audit::head(&db, site).await?;
            Ok(Some(Encoded::of(&SignedHead::new(key.reveal()?, site, head)?)?.value().clone()))
        }
        _ => Ok(None),
    }
}
